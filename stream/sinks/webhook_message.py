"""Messages of webhooks: body, signature, and what a receiver's answer means. Pure.

The signature is that of Standard Webhooks (https://www.standardwebhooks.com, specification 1.0.0).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from stream.delivery.live_stream import LiveStream
from stream.tenants import DEFAULT

Outcome = Literal["delivered", "refused", "failed"]
"""`refused`: the receiver will never take this message; `failed`: it may take it later."""

_NEVER = frozenset((400, 413, 422))
"""Answers to a message that the receiver cannot process."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message: its id, the same in every attempt, and its body."""

    id: str
    body: bytes


def delivery(stream: LiveStream, event: Mapping[str, Any], node: str) -> Delivery:
    """Return the message about one step of an alert."""
    return _message(
        {
            "type": f"alert.{event['state']}",
            "timestamp": event["ts"],
            "data": {
                **event,
                "tags": list(stream.tags),
                "tenant": stream.tenant,
                "node": node,
            },
        }
    )


def interrupted(last: Delivery, now: str) -> Delivery:
    """Return the end of an alert that was open when its server was killed; `last` is its newest."""
    body = orjson.loads(last.body)
    data = {**body["data"], "state": "end", "reason": "interrupted", "ts": now}
    data.pop("evidence", None)
    return _message({"type": f"alert.{data['state']}", "timestamp": now, "data": data})


def _message(body: Mapping[str, Any]) -> Delivery:
    data = body["data"]
    # The same step has the same id, so that a receiver can drop what it has already.
    name = f"{data['session_id']}/{data['id']}/{data['state']}/{data['audio_ms']}"
    return Delivery("msg_" + hashlib.sha256(name.encode()).hexdigest()[:32], orjson.dumps(body))


def headers(message: Delivery, key: bytes, now: int) -> dict[str, str]:
    """Return the headers of an attempt at `now`, Unix time in seconds."""
    signed = f"{message.id}.{now}.".encode() + message.body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "emotide",
        "webhook-id": message.id,
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def outcome(status: int) -> Outcome:
    """Return what an HTTP status means. A redirect is a failure: it is never followed."""
    if 200 <= status < 300:
        return "delivered"
    return "refused" if status in _NEVER else "failed"


def serves(tenant: str, stream: LiveStream) -> bool:
    """Return whether a webhook of `tenant` gets the alerts of a stream."""
    return (tenant or DEFAULT) == stream.tenant
