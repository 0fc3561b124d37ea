"""Session of one stream: audio in, events out, independent of the connection."""

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
from stream.sessions.descriptions import Totals, audio_ack, effective_session, session_closed
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

FLUSH_WAIT_S = 0.2
"""Maximum wait of a flush for the window before it; short enough not to be noticed."""

REPLAY_SLACK_S = 30.0
"""Seconds that events are kept beyond `limits.resume_s`, as producers detect a break late."""


Send = Callable[[bytes], None]
"""Queues an encoded event for the producer; never blocks."""


class Session:
    """One stream from its first message to `session.closed`. For use on one event loop.

    `send` queues events for the connection of the producer. It is None while the session is
    detached; the events then wait in `live.recent` until the producer reattaches.
    """

    def __init__(
        self,
        config: Config,
        request: SessionConfig,
        grant: Admission,
        model: ModelInfo,
        scheduler: Scheduler,
        hub: Hub,
        metrics: Metrics,
        session_id: str,
        first_seq: int = 0,
    ) -> None:
        self._config = config
        self._request = request
        self._grant = grant
        self._model = model
        self._hub = hub
        self._metrics = metrics
        self._seq = first_seq
        self.id = session_id
        self.resume_token = "rt_" + secrets.token_urlsafe(24)
        self.ending = False
        """Set when the end begins; `session.closed` is emitted once the tail is scored."""
        self.closed = asyncio.Event()
        """Set once `session.closed` was emitted; no event follows it."""
        self.started_at = time.monotonic()
        self.send: Send | None = None
        self._format: AudioFormat = request.format
        self._encoder = EventEncoder(grant.roles, model, frozenset(request.analysis.labels))
        self._meter = RealtimeMeter()
        self._pipeline = StreamPipeline(self._format, grant.analysed, model, grant.settings)
        self._input_lock = asyncio.Lock()
        """Held while audio is processed, so that an end from another task cannot overtake it."""
        self._ahead_until = 0.0
        """Time until which the audio is ahead of real time (monotonic seconds)."""
        self._totals = Totals()
        self.live = LiveStream(
            stream_id=request.stream_id or session_id,
            session_id=session_id,
            roles=grant.roles,
            analysed=grant.analysed,
            tags=request.tags,
            started=time.time(),
            mqtt=request.publish.mqtt,
            attrs=dict(request.attrs),
            frames=self._frames,
        )
        self._scoring = StreamScorer(
            self._pipeline, scheduler, metrics, self.live.adapter, self._on_event
        )

    # -- input from the producer -------------------------------------------------------------

    async def audio(self, data: bytes) -> None:
        """Process one binary message; return late only while its audio is ahead of real time.

        Raises `ProtocolError` (not fatal) for audio that cannot be used; the stream's position
        advances all the same.
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
        ahead = self._meter.add(duration, time.monotonic())
        self._ahead_until = time.monotonic() + ahead
        if self.live.state == "paused":
            await self._drive(self._pipeline.discard(data))
            return
        try:
            await self._drive(self._pipeline.feed(data))
        except InvalidAudio as error:
            raise ProtocolError("invalid_audio_frame", str(error), fatal=False) from None
        ratio = self._meter.suspicious_rate()
        if ratio is not None:
            self.warn(
                "rate_mismatch",
                f"audio arrives at {ratio:.2f} x real time; check that it is sent at sample_rate "
                f"{self._format.sample_rate}",
            )
        if ahead > limits.ahead_s:
            await asyncio.sleep(ahead - limits.ahead_s)

    async def flush(self) -> None:
        """Make windows due for all speech received so far."""
        # The result was requested now, so it waits only briefly for the window before it.
        self._ahead_until = min(self._ahead_until, time.monotonic() + FLUSH_WAIT_S)
        await self._drive(self._pipeline.flush())

    async def pause(self) -> None:
        """Stop the analysis until `unpause`; audio received meanwhile only advances the clock."""
        if self.live.state != "active":
            return
        await self.flush()
        self._set_state("paused")
        self.emit({"type": "stream.paused", "audio_ms": to_ms(self._pipeline.position)})

    async def unpause(self, skipped_ms: int) -> None:
        """Continue the analysis; `skipped_ms` of audio were not sent."""
        if skipped_ms:
            samples = skipped_ms * self._format.sample_rate // 1000
            await self._drive(self._pipeline.skip(samples))
        if self.live.state == "paused":
            self._set_state("active")
        self.emit({"type": "stream.resumed", "audio_ms": to_ms(self._pipeline.position)})

    def annotate(self, note: SessionAnnotate) -> None:
        """Merge the producer's attributes into those of the stream and emit them.

        Raises `ProtocolError` (not fatal) if they are too many or too large.
        """
        try:
            self.live.attrs = checked_attrs({**self.live.attrs, **note.attrs})
        except ValueError as error:
            raise ProtocolError(
                "invalid_message", f"attrs: {error}", param="attrs", fatal=False
            ) from None
        fields = note.model_dump(exclude={"type", "objected"}, exclude_defaults=True)
        position = to_ms(self._pipeline.position)
        self.emit({"type": "session.annotated", "audio_ms": position, **fields})

    async def finish(self, reason: str, timeout_s: float) -> None:
        """Score the tail within `timeout_s` and emit `session.closed`.

        A second call waits until the first one is done.
        """
        if self.ending:
            await self.closed.wait()
            return
        self.ending = True
        try:
            if reason == "objected":
                self._scoring.withdraw()
            else:
                await self._score_tail(time.monotonic() + timeout_s, timeout_s / 2)
            self.acknowledge()
            self.live.state = "ended"
            roles, encoder = self.live.roles, self._encoder
            self.emit(session_closed(reason, self._pipeline, self._totals, roles, encoder))
        finally:
            self.closed.set()
            self._hub.closed(self.live)
            self._metrics.session_closed(self.live.adapter, reason)
            self._scoring.forget()
            # `live` may outlive the session but must not keep its audio; see `StreamScorer.forget`.
            self.live.frames = list

    async def _score_tail(self, deadline: float, patience_s: float) -> None:
        """Score all audio received; report as lost what is not scored by `deadline` (monotonic).

        After `patience_s` seconds, windows of audio still being processed are not held back.
        """
        late = asyncio.get_running_loop().call_later(patience_s, self._scoring.skip_waiting)
        async with self._input_lock:
            late.cancel()
            self._scoring.skip_waiting(False)
            await self._scoring.drive(self._pipeline.finish(), deadline)
        await self._scoring.settle(deadline)
        self._scoring.fail_pending()

    # -- events ------------------------------------------------------------------------------

    def announce(self, event_type: str, limits: Body, node: str) -> None:
        """Register the stream with the hub and emit `session.created` or `session.updated`."""
        self._hub.opened(self.live)
        self._metrics.session_opened(self.live.adapter)
        self.emit(
            {
                "type": event_type,
                "session": effective_session(
                    self._config, self._request, self._grant, self._model, self._encoder
                ),
                "limits": limits,
                "resume_token": self.resume_token,
                "node": node,
            },
            private=("resume_token",),
        )
        if gain_is_automatic(self._request.attrs):
            self.warn(
                "agc_suspected",
                "according to attrs, the producer's audio has automatic gain control, which hides "
                "how loud the voice is: capture with autoGainControl: false",
            )

    def emit(self, body: Body, private: tuple[str, ...] = (), shared: bool = True) -> None:
        """Encode and number an event, send it to the producer and, if `shared`, to the hub.

        Only the producer gets the fields named in `private`. After `session.closed` nothing is
        emitted.
        """
        if self.closed.is_set():
            return
        event = encode(body, self._seq, self.id, self.live.stream_id, time.time())
        self._seq += 1
        if self.send is not None and self._producer_gets(event.type):
            self.send(event.data)
        if private:
            public = {key: value for key, value in body.items() if key not in private}
            event = encode(public, event.seq, self.id, self.live.stream_id, time.time())
        keep_s = self._config.limits.resume_s + REPLAY_SLACK_S
        self.live.remember(event, self._config.limits.resume_events, keep_s)
        if shared:
            self._hub.publish(self.live, event)

    def warn(self, code: str, message: str) -> None:
        """Emit a `warning`."""
        self.emit({"type": "warning", "code": code, "message": message})

    def acknowledge(self) -> None:
        """Send `audio.ack` to the producer."""
        self.emit(audio_ack(self._pipeline, self._scoring.processed), shared=False)

    async def attach(self, send: Send, last_seq: int) -> None:
        """Send all events to `send` from now on: `session.resumed`, then those after `last_seq`.

        Waits until audio of the broken connection is processed, because it counts as received.
        """
        self._scoring.skip_waiting()
        async with self._input_lock:
            self._scoring.skip_waiting(False)
            missed = [
                event
                for event in self.live.recent
                if event.seq > last_seq and self._producer_gets(event.type)
            ]
            self.send = send
            self._emit_resumed()
            for event in missed:
                send(event.data)

    def _emit_resumed(self) -> None:
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

    # -- internals ---------------------------------------------------------------------------

    def _producer_gets(self, event_type: str) -> bool:
        """Return whether events of this type are sent on the producer's own connection."""
        return self._request.results or not event_type.startswith(("emotion.", "speech."))

    async def _drive(self, items: Iterator[Window | Event]) -> None:
        async with self._input_lock:
            if not self.ending:
                await self._scoring.drive(items, self._ahead_until)

    def _on_event(self, event: Event, latency_s: float | None) -> None:
        latency = None if latency_s is None else round(latency_s * 1000)
        body = self._encoder.body(event, latency)
        event_type = body["type"]
        if event_type == SCORE:
            self._totals.scores += 1
        elif event_type == SEGMENT:
            self._totals.segments += 1
        elif event_type == "speech.start":
            self.live.speaking |= {event.channel}
        elif event_type == "speech.end":
            self.live.speaking -= {event.channel}
        if isinstance(event, Gap):
            self._metrics.gap(event.reason, event.speech / SAMPLE_RATE)
        self.emit(body)

    def _frames(self) -> list[Body]:
        newest = {number: c.frames() for number, c in self._pipeline.channels.items()}
        return [
            self._encoder.utterance(n, frames) for n, frames in newest.items() if frames is not None
        ]

    def _set_state(self, state: StreamState) -> None:
        self.live.state = state
        self._hub.changed(self.live)
