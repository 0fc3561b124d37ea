"""Version of the protocol. Imports nothing, so that clients load it fast."""

from typing import Final

VERSION: Final = 1
"""`v` of every event."""

SUBPROTOCOL: Final = "emotide.v1"
"""WebSocket subprotocol that servers and clients agree on."""
