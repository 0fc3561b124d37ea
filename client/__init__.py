"""Client library of an Emotide server: send live audio, subscribe to events."""

from client.remote.backoff import Backoff
from client.remote.call import Call, stream
from client.remote.errors import Refused, Unreachable
from client.remote.events import Event
from client.remote.subscription import subscribe

__all__ = ["Backoff", "Call", "Event", "Refused", "Unreachable", "stream", "subscribe"]
