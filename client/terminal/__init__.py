"""Terminal interface of the commands: options, dashboard, live refresh, events as text."""
