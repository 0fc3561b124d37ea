"""Open utterances of a stream, for the topic of their changes. No I/O."""

from __future__ import annotations

from stream.delivery.live_stream import LiveStream
from stream.protocol.wire.mqtt import ChangeKind, UtteranceRecord
from stream.sinks.mqtt.names import StreamNames, role_of
from stream.sinks.mqtt.payloads import Fields, with_top

Change = tuple[ChangeKind, UtteranceRecord | None, UtteranceRecord]
"""Kind of the change of an utterance, its state before and after."""


class Utterances:
    """Open utterances of one stream, and their changes as arguments of `Topics.change`."""

    def __init__(self, stream: LiveStream, names: StreamNames) -> None:
        self._stream = stream
        self._id = names.of(stream)
        self._open: dict[tuple[int, int], UtteranceRecord] = {}

    def step(self, body: Fields) -> Change | None:
        """Return the change that an event makes: kind, before, after; None if it makes none."""
        event_type = body["type"]
        if event_type not in ("speech.start", "emotion.score", "emotion.segment"):
            return None
        key = (body["channel"], body["utterance"])
        before = self._open.get(key)
        if event_type == "speech.start":
            after = self._record(body, body["audio_ms"])
            self._open[key] = after
            return "new", None, after
        if event_type == "emotion.score":
            # Scores may follow the segment if the stream ends before they are ready.
            label = with_top(body["scores"])
            if before is None or before["top"] == label.get("top"):
                return None
            after = {**before, **label}
            self._open[key] = after
            return "update", before, after
        self._open.pop(key, None)
        start = before["start_ms"] if before else body["audio_start_ms"]
        after = {
            **self._record(body, start),
            **with_top(body["scores"]),
            "end_ms": body["audio_end_ms"],
            "covered": body["covered"],
        }
        return "end", before, after

    def close(self) -> list[Change]:
        """End the utterances that no segment ended; return their changes."""
        ends: list[Change] = [("end", before, before) for before in self._open.values()]
        self._open.clear()
        return ends

    def _record(self, body: Fields, start_ms: int) -> UtteranceRecord:
        return {
            "stream": self._id,
            "role": role_of(self._stream, body),
            "utterance": body["utterance"],
            "start_ms": start_ms,
            "end_ms": None,
            "top": None,
            "top_score": None,
        }
