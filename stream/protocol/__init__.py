"""The protocol `emotide.v1`: messages, events and errors; no sockets."""
