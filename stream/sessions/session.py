"""One stream's life: audio in, events out, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator

from stream.admission import Admission
from stream.analysis.pipeline import StreamPipeline
from stream.analysis.quality import gain_is_automatic
from stream.audio.codecs import InvalidAudio
from stream.config import Config
from stream.delivery.hub import Hub
from stream.delivery.live_stream import LiveStream, StreamState
from stream.inference.scheduler import Scheduler
from stream.inference.scoring import StreamScorer
from stream.protocol.errors import ProtocolError
from stream.protocol.events import SCORE, SEGMENT, EventEncoder, encode
from stream.protocol.messages import SessionAnnotate, SessionConfig, checked_attrs
from stream.sessions.descriptions import Totals, acknowledged, closing, in_force
from stream.sessions.realtime import RealtimeMeter
from stream.telemetry.metrics import Metrics
from stream.types import (
    SAMPLE_RATE,
    AudioFormat,
    Body,
    Event,
    Gap,
    ModelInfo,
    Window,
    to_ms,
)

log = logging.getLogger(__name__)

FLUSH_PATIENCE_S = 0.2

RING_SLACK_S = 30.0
"""Events are kept this much longer than a producer may stay away: it notices late."""


Send = Callable[[bytes], None]
"""Puts an encoded event on its way to the producer; never blocks."""


class Session:
    """A stream from its first audio to `session.closed`. Lives on the event loop.

    `send` takes the events for the producer's connection; while there is none they wait in
    `live.recent` for the producer to come back.
    """

    def __init__(
        self,
        config: Config,
        wanted: SessionConfig,
        admitted: Admission,
        model: ModelInfo,
        scheduler: Scheduler,
        hub: Hub,
        metrics: Metrics,
        session_id: str,
        first_seq: int = 0,
    ) -> None:
        self._config = config
        self._wanted = wanted
        self._admitted = admitted
        self._model = model
        self._hub = hub
        self._metrics = metrics
        self._seq = first_seq
        self.id = session_id
        self.resume_token = "rt_" + secrets.token_urlsafe(24)
        self.ended = False
        """Set when the end begins; `session.closed` is told once the tail is scored."""
        self.over = asyncio.Event()
        self.since = time.monotonic()
        self.send: Send | None = None
        self._format: AudioFormat = wanted.format
        self._encoder = EventEncoder(admitted.roles, model, frozenset(wanted.analysis.labels))
        self._pace = RealtimeMeter()
        self._pipeline = StreamPipeline(self._format, admitted.analysed, model, admitted.settings)
        self._line = asyncio.Lock()
        """Held while audio goes in, so that an end from elsewhere cannot overtake it."""
        self._early_until = 0.0
        self._totals = Totals()
        self.live = LiveStream(
            stream_id=wanted.stream_id or session_id,
            session_id=session_id,
            roles=admitted.roles,
            analysed=admitted.analysed,
            tags=wanted.tags,
            started=time.time(),
            mqtt=wanted.publish.mqtt,
            attrs=dict(wanted.attrs),
            frames=self._frames,
        )
        self._scoring = StreamScorer(
            self._pipeline, scheduler, metrics, self.live.adapter, self._tell
        )

    # -- what the producer does --------------------------------------------------------------

    async def audio(self, data: bytes) -> None:
        """Take one binary message. Returns late only while its audio is ahead of real time.

        Raises `ProtocolError` (not fatal) for audio that cannot be used; time goes on without it.
        """
        duration = len(data) / self._format.bytes_per_second
        limits = self._config.limits
        if not data:
            raise ProtocolError(
                "invalid_audio_frame", "an empty binary message carries no audio", fatal=False
            )
        self._metrics.audio(len(data), duration)
        if duration * 1000 > limits.max_frame_ms:
            await self._drive(self._pipeline.discard(data))
            raise ProtocolError(
                "invalid_audio_frame",
                f"a message held {duration:.1f} s of audio; send at most "
                f"{limits.max_frame_ms / 1000:g} s at once (20 to 100 ms is best)",
                fatal=False,
            )
        ahead = self._pace.take(duration, time.monotonic())
        self._early_until = time.monotonic() + ahead
        if self.live.state == "paused":
            await self._drive(self._pipeline.discard(data))
            return
        try:
            await self._drive(self._pipeline.feed(data))
        except InvalidAudio as error:
            raise ProtocolError("invalid_audio_frame", str(error), fatal=False) from None
        ratio = self._pace.suspicious_rate()
        if ratio is not None:
            self.warn(
                "rate_mismatch",
                f"audio arrives at {ratio:.2f} x real time; is sample_rate "
                f"{self._format.sample_rate} what is really sent?",
            )
        if ahead > limits.ahead_s:
            await asyncio.sleep(ahead - limits.ahead_s)

    async def flush(self) -> None:
        """Give a result for all speech heard so far."""
        # Asked for now: it may wait for the model's turn only as long as nobody notices.
        self._early_until = min(self._early_until, time.monotonic() + FLUSH_PATIENCE_S)
        await self._drive(self._pipeline.flush())

    async def pause(self) -> None:
        """Stop analysing until `resume`; audio that comes in between only moves the time."""
        if self.live.state != "active":
            return
        await self.flush()
        self._state("paused")
        self.emit({"type": "stream.paused", "audio_ms": to_ms(self._pipeline.position)})

    async def resume(self, skipped_ms: int) -> None:
        """Analyse again; `skipped_ms` of audio were not sent."""
        if skipped_ms:
            samples = skipped_ms * self._format.sample_rate // 1000
            await self._drive(self._pipeline.skip(samples))
        if self.live.state == "paused":
            self._state("active")
        self.emit({"type": "stream.resumed", "audio_ms": to_ms(self._pipeline.position)})

    def annotate(self, note: SessionAnnotate) -> None:
        """Keep what the producer says of the stream, and tell subscribers."""
        try:
            self.live.attrs = checked_attrs({**self.live.attrs, **note.attrs})
        except ValueError as error:
            raise ProtocolError(
                "invalid_message", f"attrs: {error}", param="attrs", fatal=False
            ) from None
        said = note.model_dump(exclude={"type", "objected"}, exclude_defaults=True)
        position = to_ms(self._pipeline.position)
        self.emit({"type": "session.annotated", "audio_ms": position, **said})

    async def finish(self, reason: str, timeout_s: float) -> None:
        """Score what is left, tell the totals, and end; a second caller waits for the first."""
        if self.ended:
            await self.over.wait()
            return
        self.ended = True
        try:
            if reason == "objected":
                self._scoring.withdraw()
            else:
                await self._score_tail(time.monotonic() + timeout_s, timeout_s / 2)
            self.acknowledge()
            self.live.state = "ended"
            self.emit(closing(reason, self._pipeline, self._totals, self.live.roles, self._encoder))
        finally:
            self.over.set()
            self._hub.closed(self.live)
            self._metrics.session_closed(self.live.adapter, reason)
            self._scoring.forget()
            # Who still holds the stream need not hold its audio: see `StreamScorer.forget`.
            self.live.frames = list

    async def _score_tail(self, deadline: float, patience_s: float) -> None:
        """Score what came in until now; what is not scored by the deadline is told as lost."""
        late = asyncio.get_running_loop().call_later(patience_s, self._scoring.hurry)
        async with self._line:
            late.cancel()
            self._scoring.hurry(False)
            await self._scoring.drive(self._pipeline.finish(), deadline)
        await self._scoring.settle(deadline)
        self._scoring.give_up()

    # -- what goes out -----------------------------------------------------------------------

    def open(self, kind: str, limits: Body, node: str) -> None:
        """Tell everybody that the stream is there. `kind`: session.created or session.updated."""
        self._hub.opened(self.live)
        self._metrics.session_opened(self.live.adapter)
        self.emit(
            {
                "type": kind,
                "session": in_force(
                    self._config, self._wanted, self._admitted, self._model, self._encoder
                ),
                "limits": limits,
                "resume_token": self.resume_token,
                "node": node,
            },
            private=("resume_token",),
        )
        if gain_is_automatic(self._wanted.attrs):
            self.warn(
                "agc_suspected",
                "attrs say that the recording side regulates its gain by itself, which hides how "
                "loud the voice is: ask for autoGainControl: false",
            )

    def emit(self, body: Body, private: tuple[str, ...] = (), shared: bool = True) -> None:
        """Number an event and hand it to the producer and, if `shared`, to all who listen.

        The fields named in `private` are for the producer alone.
        """
        if self.over.is_set():
            return
        event = encode(body, self._seq, self.id, self.live.stream_id, time.time())
        self._seq += 1
        if self.send is not None and self._wants(event.type):
            self.send(event.data)
        if private:
            public = {key: value for key, value in body.items() if key not in private}
            event = encode(public, event.seq, self.id, self.live.stream_id, time.time())
        keep_s = self._config.limits.resume_s + RING_SLACK_S
        self.live.remember(event, self._config.limits.resume_events, keep_s)
        if shared:
            self._hub.publish(self.live, event)

    def warn(self, code: str, message: str) -> None:
        self.emit({"type": "warning", "code": code, "message": message})

    def acknowledge(self) -> None:
        """Say how far audio was received and scored; once a second."""
        self.emit(acknowledged(self._pipeline, self._scoring.processed), shared=False)

    async def rejoin(self, send: Send, last_seq: int) -> None:
        """The producer is back on `send`: tell it where to go on, then all that it missed.

        Waits for the audio that the broken connection is still putting in: it counts as received.
        """
        self._scoring.hurry()
        async with self._line:
            self._scoring.hurry(False)
            missed = [
                kept for kept in self.live.recent if kept.seq > last_seq and self._wants(kept.type)
            ]
            self.send = send
            self._resumed()
            for kept in missed:
                send(kept.data)

    def _resumed(self) -> None:
        self._pipeline.realign()
        self._metrics.resumed()
        self.emit(
            {
                "type": "session.resumed",
                "received_ms": to_ms(self._pipeline.position),
                "received_samples": self._pipeline.received,
                "resume_token": self.resume_token,
            },
            private=("resume_token",),
        )

    # -- behind the scenes -------------------------------------------------------------------

    def _wants(self, kind: str) -> bool:
        """Whether the producer wants events of this kind on its own connection."""
        return self._wanted.results or not kind.startswith(("emotion.", "speech."))

    async def _drive(self, items: Iterator[Window | Event]) -> None:
        async with self._line:
            if not self.ended:
                await self._scoring.drive(items, self._early_until)

    def _tell(self, event: Event, latency_s: float | None) -> None:
        latency = None if latency_s is None else round(latency_s * 1000)
        body = self._encoder.body(event, latency)
        kind = body["type"]
        if kind == SCORE:
            self._totals.scores += 1
        elif kind == SEGMENT:
            self._totals.segments += 1
        elif kind == "speech.start":
            self.live.speaking |= {event.channel}
        elif kind == "speech.end":
            self.live.speaking -= {event.channel}
        if isinstance(event, Gap):
            self._metrics.gap(event.reason, event.speech / SAMPLE_RATE)
        self.emit(body)

    def _frames(self) -> list[Body]:
        newest = {number: c.frames() for number, c in self._pipeline.channels.items()}
        return [
            self._encoder.utterance(n, found) for n, found in newest.items() if found is not None
        ]

    def _state(self, state: StreamState) -> None:
        self.live.state = state
        self._hub.changed(self.live)
