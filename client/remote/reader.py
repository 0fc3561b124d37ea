"""Messages of a server as events, or as a refusal that says what was wrong with them."""

from __future__ import annotations

import orjson

from client.remote.errors import Refused
from client.remote.events import Event

MALFORMED = (KeyError, TypeError, AttributeError, ValueError, ArithmeticError)
"""Exceptions of code that trusts the fields of an event, for an event that lacks them."""


def read_event(message: str | bytes) -> Event:
    """Return the event in a message. Raises `Refused` for anything but an object with a type."""
    try:
        event: Event = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise _refused("a message that is not JSON") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise _refused("a message that is not an event")
    return event


def malformed(event: Event) -> Refused:
    """Return the error for an event whose fields are missing or of another type."""
    return _refused(f"a malformed {event['type'][:64]!r}")


def _refused(what: str) -> Refused:
    return Refused(4400, "invalid_message", f"the server sent {what}; is it an Emotide server?")
