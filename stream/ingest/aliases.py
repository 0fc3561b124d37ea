"""Control words of Vosk, FunASR, Deepgram and telephony clients as messages of `emotide.v1`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from stream.types import SAMPLE_RATE

DEEPGRAM = {"KeepAlive": "keepalive", "Finalize": "input.flush", "CloseStream": "session.close"}
"""Deepgram's message types, and the types of `emotide.v1` that they stand for."""


def translate(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message of `emotide.v1` that a foreign control message stands for.

    Others are returned as they are.
    """
    if (keys := pressed_keys(message)) is not None:
        return {"type": "session.annotate", "dtmf": keys}
    if "type" in message:
        kind = message["type"]
        return {"type": DEEPGRAM[kind]} if isinstance(kind, str) and kind in DEEPGRAM else message
    if "eof" in message or message.get("is_speaking") is False:
        return {"type": "session.close"}
    config = message.get("config")
    rate = config.get("sample_rate") if isinstance(config, dict) else message.get("audio_fs")
    if isinstance(config, dict) or "is_speaking" in message:
        audio = {"sample_rate": SAMPLE_RATE if rate is None else rate}
        return {"type": "session.update", "session": {"audio": audio}}
    return message


def pressed_keys(message: dict[str, Any]) -> str | None:
    """Return the keys of a message about keys pressed on the telephone, None for any other.

    Vonage sends `{"event": "websocket:dtmf", "digit": "5"}`, jambonz `{"event": "dtmf", "dtmf":
    "5"}`, Twilio `{"event": "dtmf", "dtmf": {"digit": "5"}}`; others differ in the names only.
    """
    kind = message.get("event", message.get("type"))
    if not isinstance(kind, str) or "dtmf" not in kind.lower():
        return None
    inner = message.get("dtmf")
    for value in (*_keys(message), *(_keys(inner) if isinstance(inner, dict) else ())):
        if isinstance(value, str | int) and re.fullmatch(r"[0-9A-Da-d*#]{1,32}", str(value), re.A):
            return str(value).upper()
    return None


def _keys(message: dict[str, Any]) -> Iterator[object]:
    return (message[name] for name in ("digit", "digits", "dtmf", "key") if name in message)
