"""Control words of Vosk, FunASR and Deepgram clients as messages of `emotide.v1`."""

from __future__ import annotations

from typing import Any

from stream.types import SAMPLE_RATE

DEEPGRAM = {"KeepAlive": "keepalive", "Finalize": "input.flush", "CloseStream": "session.close"}
"""Deepgram's message types, and the types of `emotide.v1` that they stand for."""


def translate(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message of `emotide.v1` that a foreign control message stands for.

    Others are returned as they are.
    """
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
