"""Questions to the history: conditions, lists, summaries, exports."""
