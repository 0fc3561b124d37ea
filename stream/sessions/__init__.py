"""The life of live streams: open, reattach, expire, drain."""
