"""Mark: the right label of an utterance as a listener heard it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

import orjson

from stream.types import timestamp, to_ms

AUDIO, FEATURES, RECORD = ".wav", ".npy", ".json"
"""Suffixes of the files of a mark, whose name is its id."""


class MarkedModel(TypedDict):
    """Model whose features are stored."""

    id: str
    revision: str


class MarkBody(TypedDict):
    """A mark, as the answer to a request has it."""

    id: str
    label: str
    speaker: str
    channel: int
    utterance: int
    audio_start_ms: int
    audio_end_ms: int
    model: MarkedModel
    audio: bool
    key: str
    created: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A label of the utterance `[start, end)` in samples, without its features.

    `source` is a keyed hash of the id of the stream or recording, `model` and `revision` are those
    of the features, `key` is the name of the key that marked it, `created` Unix time. `audio` says
    whether the audio is stored too.
    """

    id: str
    label: str
    speaker: str
    kind: Literal["stream", "recording"]
    source: str
    channel: int
    utterance: int
    start: int
    end: int
    model: str
    revision: str
    key: str
    created: float
    audio: bool

    def body(self) -> MarkBody:
        """Return the fields that a client gets."""
        return {
            "id": self.id,
            "label": self.label,
            "speaker": self.speaker,
            "channel": self.channel,
            "utterance": self.utterance,
            "audio_start_ms": to_ms(self.start),
            "audio_end_ms": to_ms(self.end),
            "model": {"id": self.model, "revision": self.revision},
            "audio": self.audio,
            "key": self.key,
            "created": timestamp(self.created),
        }

    def record(self) -> bytes:
        """Return the content of the mark's file."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def parse(cls, content: bytes) -> Mark:
        """Return the mark in a file's content. Raises `ValueError`."""
        try:
            fields: dict[str, Any] = orjson.loads(content)
            return cls(**fields)
        except TypeError as error:
            raise ValueError(str(error)) from None
