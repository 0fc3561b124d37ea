"""Where events go besides WebSocket subscribers."""
