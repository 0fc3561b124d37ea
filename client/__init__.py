"""Clients of an Emotide server: send live audio, listen to scores."""

from client.connection import Call, stream
from client.retry import Backoff, Refused, Unreachable
from client.subscription import subscribe

__all__ = ["Backoff", "Call", "Refused", "Unreachable", "stream", "subscribe"]
