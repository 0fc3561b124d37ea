"""Live sessions: open, reattach, expire, drain."""
