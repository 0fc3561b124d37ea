"""What the commands share on a terminal: options, dashboard, live refresh, events as text."""
