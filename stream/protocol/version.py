"""Version of the protocol. Imports nothing, so that clients load it fast."""

VERSION = 1
"""`v` of every event."""

SUBPROTOCOL = "emotide.v1"
"""WebSocket subprotocol that servers and clients agree on."""
