"""Session of one stream: audio in, events out, independent of the connection."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import replace
from enum import Enum, auto
from typing import Literal

from stream.admission import Admission
from stream.analysis.pipeline import StreamPipeline
from stream.analysis.quality import gain_is_automatic
from stream.audio.codecs import encoded_silence
from stream.audio.raw_format import Finding, FormatCheck, WrongFormat
from stream.audio.speed import causes
from stream.delivery.live_stream import LiveStream, ReplayBuffer
from stream.feedback.utterance import MarkableUtterance
from stream.inference.scoring import StreamScorer
from stream.protocol.errors import ProtocolError
from stream.protocol.events import SCORE, SEGMENT, AnalysisEvents, EncodedEvent, EventEncoder
from stream.protocol.messages import SessionAnnotate, SessionConfig, checked_attrs
from stream.protocol.wire.codes import ClosedReason, WarningCode
from stream.protocol.wire.events import StreamBody
from stream.services import Services
from stream.sessions.ahead import Ahead
from stream.sessions.alerts import SessionAlerts
from stream.sessions.conversation import measured
from stream.sessions.descriptions import (
    Totals,
    audio_ack,
    effective_session,
    session_annotated,
    session_announced,
    session_closed,
)
from stream.sessions.input import AudioInput
from stream.sessions.pump import Pump
from stream.sessions.realtime import FAST, SLOW
from stream.tenants import ANYONE, Principal
from stream.terms import StreamState
from stream.types import SAMPLE_RATE, Body, Event, Gap, Score, Segment, to_ms

log = logging.getLogger(__name__)

CATCH_UP_S = 0.05
"""Interval of the checks for audio that waits for real time."""

VOICE_HZ = 6_000.0
"""Bandwidth (99 % of the power) that voiced speech does not have."""

RESULTS = ("emotion.", "speech.", "conversation", "alert")
"""Beginnings of the types of events that a producer without `results` does not get."""

REPLAY_SLACK_S = 30.0
"""Seconds that events are kept beyond `limits.resume_s`, as producers detect a break late."""


class SessionState(Enum):
    """State of a session; `NEXT` has the legal transitions."""

    ATTACHED = auto()
    """A producer is connected."""
    DETACHED = auto()
    """The connection broke; the producer may return within `limits.resume_s`."""
    ENDING = auto()
    """The tail is being scored."""
    ENDED = auto()
    """`session.closed` was emitted; no event follows it."""


NEXT = {
    SessionState.ATTACHED: {SessionState.ATTACHED, SessionState.DETACHED, SessionState.ENDING},
    SessionState.DETACHED: {SessionState.ATTACHED, SessionState.ENDING},
    SessionState.ENDING: {SessionState.ENDED},
    SessionState.ENDED: set[SessionState](),
}


class Owner:
    """Callbacks to the connection of a session's producer. Does nothing while it is detached."""

    def event(self, event: EncodedEvent) -> None:
        """Send an event to the producer."""

    def error(self, error: ProtocolError) -> None:
        """Handle a fault found when audio was processed."""

    def pause(self) -> None:
        """Stop reading: too much audio waits."""

    def resume(self) -> None:
        """Read again."""

    def rest(self, chunks: int, chunk_s: float) -> None:
        """Note that nothing can be due before `chunks` more came, of `chunk_s` seconds each."""


DETACHED = Owner()


class Session:
    """One stream from its first message to `session.closed`. For use on one event loop.

    Events go to `owner`, to the replay buffer for a producer that returns, and to the hub. All
    methods but `finish` only queue their work, in the order in which they are called.
    """

    def __init__(
        self,
        services: Services,
        request: SessionConfig,
        grant: Admission,
        encoder: EventEncoder,
        adapter: str,
        owner: Owner,
        pump: Pump,
        ahead: Ahead,
        principal: Principal = ANYONE,
    ) -> None:
        config, model = services.config, services.model
        self._services = services
        self._limits = config.limits
        self._request = request
        self._grant = grant
        self._encoder = encoder
        self._metrics = services.metrics
        self.id = encoder.session_id
        self.resume_token = "rt_" + secrets.token_urlsafe(24)
        self.state = SessionState.ATTACHED
        self.closed = asyncio.Event()
        """Set once the state is ENDED."""
        self.started_at = self.heard_at = time.monotonic()
        """`heard_at` is when the last whole second of audio had come."""
        self._unheard_bytes = 0
        self.owner = owner
        self.principal = principal
        self._bodies = AnalysisEvents(grant.roles, model, frozenset(request.analysis.labels))
        self._totals = Totals()
        self._format = FormatCheck(request.format)
        self._warned: set[WarningCode] = set()
        self._paused = False
        encoder.stream_id = request.stream_id or self.id
        self.live = LiveStream(
            stream_id=encoder.stream_id,
            session_id=self.id,
            roles=grant.roles,
            analysed=grant.analysed,
            tags=request.tags,
            started=time.time(),
            adapter=adapter,
            tenant=principal.tenant,
            mqtt=request.publish.mqtt,
            attrs=dict(request.attrs),
            frames=self._frames,
            replay=ReplayBuffer(
                config.limits.resume_events, config.limits.resume_s + REPLAY_SLACK_S
            ),
        )
        audio = self._audio = request.format
        self._second = audio.bytes_per_second
        self._max_bytes = audio.bytes_per_second * self._limits.max_frame_ms // 1000
        feedback = config.feedback
        settings = replace(grant.settings, audio=feedback.enabled and feedback.audio)
        self._pipeline = StreamPipeline(
            audio, grant.analysed, model, settings, observed=grant.observed
        )
        self._scorer = StreamScorer(
            self._pipeline,
            services.scheduler,
            services.metrics,
            adapter,
            self._on_event,
            principal.tenant,
        )
        self._alerts = SessionAlerts(services.rules, self.live, self.emit)
        self.live.acknowledge = self._alerts.acknowledge
        self._input = AudioInput(
            audio,
            self._format,
            self._pipeline,
            self._scorer,
            pump.lane(principal.tenant),
            ahead,
            services.metrics,
            config.limits.ahead_s,
            paused=lambda: self._paused,
            on_finding=self._on_finding,
            on_error=self._on_error,
            on_processed=self._on_processed,
            on_speed=self._on_speed,
        )
        self._input.on_full = lambda: self.owner.pause()
        self._input.on_room = lambda: self.owner.resume()
        self._input.on_rest = lambda chunks, chunk_s: self.owner.rest(chunks, chunk_s)

    def become(self, state: SessionState) -> None:
        """Change the state. Raises RuntimeError for a transition that `NEXT` does not have."""
        if state not in NEXT[self.state]:
            raise RuntimeError(f"a session that is {self.state.name} cannot become {state.name}")
        parked = (state is SessionState.DETACHED) - (self.state is SessionState.DETACHED)
        self._metrics.session_parked(self.live.adapter, parked)
        self.state = state

    @property
    def over(self) -> bool:
        """True once the session is ending or has ended."""
        return self.state in (SessionState.ENDING, SessionState.ENDED)

    @property
    def is_busy(self) -> bool:
        """True while audio that was received waits, for real time or for the model."""
        return self._input.waiting_bytes > 0

    @property
    def is_behind(self) -> bool:
        """True while audio that was received waits for real time."""
        return self._input.is_behind

    # -- input from the producer -------------------------------------------------------------

    def audio(self, data: bytes) -> None:
        """Take one chunk of audio.

        An empty chunk is ignored. Raises `ProtocolError` (not fatal) for a chunk that is too long;
        the stream's position advances all the same. `owner.error` gets faults found later.
        """
        if self.over or not data:
            return
        size = len(data)
        self._unheard_bytes += size
        if self._unheard_bytes >= self._second:
            self._unheard_bytes, self.heard_at = 0, time.monotonic()
        if size <= self._max_bytes:
            if not self._format.begun:
                data = self._without_header(data)
            self._input.add(data, size)
            return
        self._input.discard(data)
        raise ProtocolError(
            "invalid_audio_frame",
            f"a message held {len(data) / self._audio.bytes_per_second:.1f} s of audio; send at "
            f"most {self._limits.max_frame_ms / 1000:g} s at once (20 to 100 ms is best)",
            fatal=False,
        )

    def _without_header(self, data: bytes) -> bytes:
        """Return the audio of one of the first chunks. Raises `ProtocolError` for a file."""
        try:
            data, finding = self._format.begin(data)
        except WrongFormat as error:
            raise ProtocolError("unsupported_encoding", str(error), param="encoding") from None
        self._on_finding(finding)
        return data

    def silence(self, samples: int) -> None:
        """Advance by silence that the producer did not send; it does not count as heard audio."""
        if self.over:
            return
        # In pieces, because there is no bound on how long nothing is said.
        piece = encoded_silence(self._audio, self._audio.sample_rate)
        size = samples * self._audio.bytes_per_frame
        for begin in range(0, size, len(piece)):
            data = piece[: size - begin]
            self._input.add(data, len(data))

    def skip(self, samples: int) -> None:
        """Advance by samples (at the producer's rate) that were lost."""
        if not self.over:
            self._input.skip(samples)

    def flush(self) -> None:
        """Make windows due for all speech received so far."""
        self._input.flush()

    def pause(self) -> None:
        """Stop the analysis until `unpause`; audio received meanwhile only advances the clock."""
        self._input.flush(self._pause)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._update_state()
            self._emit_paused()

    def unpause(self, skipped_ms: int) -> None:
        """Continue the analysis; `skipped_ms` of audio were not sent."""
        if skipped_ms:
            self._input.skip(skipped_ms * self._audio.sample_rate // 1000)
        self._input.call(self._unpause)

    def _unpause(self) -> None:
        self._paused = False
        self._update_state()
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
        self.emit(session_annotated(self._ms(self._input.received), note))

    async def caught_up(self) -> None:
        """Wait until no audio waits for real time, or until the session ends."""
        while self.is_behind and not self.over:  # noqa: ASYNC110 - time alone may end it
            await asyncio.sleep(CATCH_UP_S)

    async def finish(self, reason: ClosedReason, timeout_s: float) -> None:
        """Score the tail within `timeout_s` and emit `session.closed`.

        A second call waits until the first one is done.
        """
        if self.over:
            await self.closed.wait()
            return
        self.become(SessionState.ENDING)
        try:
            if reason == "objected":
                self._scorer.withdraw()
                if self._services.recent is not None:
                    self._services.recent.forget(self.live.tenant, self.id)
            else:
                deadline = time.monotonic() + timeout_s
                await self._input.finish(deadline, timeout_s / 2)
                await self._scorer.settle(deadline)
                self._scorer.fail_pending()
            self.acknowledge()
            self._alerts.finish(self._pipeline.position, objected=reason == "objected")
            self.live.state = "ended"
            roles, bodies = self.live.roles, self._bodies
            self.emit(session_closed(reason, self._pipeline, self._totals, roles, bodies))
        finally:
            self.become(SessionState.ENDED)
            self.closed.set()
            self._services.hub.closed(self.live)
            self._metrics.session_closed(self.live.adapter, reason, self.live.tenant)
            self._scorer.forget()
            self._input.forget()
            # `live` may outlive the session but must not keep its audio; see `StreamScorer.forget`.
            self.live.frames = list

    # -- the producer's connection -----------------------------------------------------------

    def announce(self, event_type: Literal["session.created", "session.updated"]) -> None:
        """Register the stream with the hub and emit `session.created` or `session.updated`."""
        config = self._services.config
        self._services.hub.opened(self.live)
        self._metrics.session_opened(self.live.adapter, self.live.tenant)
        settings = effective_session(
            config, self._request, self._grant, self._services.model, self._bodies
        )
        self.emit(
            session_announced(event_type, settings, config, self.resume_token),
            private=("resume_token",),
        )
        if gain_is_automatic(self._request.attrs):
            self.warn(
                "agc_suspected",
                "according to attrs, the producer's audio has automatic gain control, which hides "
                "how loud the voice is: capture with autoGainControl: false",
            )

    def attach(self, owner: Owner, last_seq: int) -> None:
        """Send all events to `owner` from now on: `session.resumed`, then those after `last_seq`.

        Audio that was received and waits to be processed counts as received.
        """
        missed = list(self.live.replay.since(last_seq))
        self.owner = owner
        if not self.over:
            self.become(SessionState.ATTACHED)
            self._update_state()
            self._input.realign()
            self._metrics.resumed()
            self.emit(
                {
                    "type": "session.resumed",
                    "received_ms": self._ms(self._input.received),
                    "received_samples": self._input.received,
                    "resume_token": self.resume_token,
                },
                private=("resume_token",),
            )
            if self._paused:
                self._emit_paused()
        for event in missed:
            self._send(event)

    def detach(self, left: bool = False, complete: bool = False) -> None:
        """Keep all events for a producer that may return, and emit `stream.detached`.

        Audio that waits for real time was not acknowledged; it is dropped, unless the producer
        `left` or the stream is `complete`: the producer ended it.
        """
        self.owner = DETACHED
        if self.over:
            return
        if not (left or complete):
            self._input.drop_waiting()
        self.become(SessionState.DETACHED)
        if left and not self.is_behind:
            return  # `session.closed` is the next event
        self._update_state()
        self.emit({"type": "stream.detached", "audio_ms": to_ms(self._pipeline.position)})

    # -- events ------------------------------------------------------------------------------

    def emit(self, body: StreamBody, private: tuple[str, ...] = (), shared: bool = True) -> None:
        """Encode and number an event, send it to the producer and, if `shared`, to the hub.

        Only the producer gets the fields named in `private`. After `session.closed` nothing is
        emitted.
        """
        if self.closed.is_set():
            return
        event = self._encoder.encode(body)
        self._send(event)
        if private:
            event = self._encoder.without(event, private)
        self.live.remember(event, shared)
        if shared:
            self._services.hub.publish(self.live, event)

    def warn(self, code: WarningCode, message: str) -> None:
        """Emit a `warning`, once for each code."""
        if code in self._warned:
            return
        self._warned.add(code)
        self.emit({"type": "warning", "code": code, "message": message})

    def acknowledge(self) -> None:
        """Send `audio.ack` to the producer."""
        received = self._input.acknowledged
        body = audio_ack(self._ms(received), received, self._scorer.processed, self._pipeline.lost)
        self.emit(body, shared=False)

    def _send(self, event: EncodedEvent) -> None:
        """Send an event to the producer, unless it asked for no results and this is one."""
        if self._request.results or not event.type.startswith(RESULTS):
            self.owner.event(event)

    # -- internals ---------------------------------------------------------------------------

    def _ms(self, samples: int) -> int:
        """Return the milliseconds of samples at the producer's rate."""
        return to_ms(samples * SAMPLE_RATE // self._audio.sample_rate)

    def _on_error(self, error: Exception) -> None:
        """End the session: no audio of a producer raises an error, so it is a fault of ours."""
        log.error("session failed", exc_info=error, extra={"session_id": self.id})
        self.owner.error(ProtocolError("internal_error", "internal server error; connect again"))

    def _on_finding(self, finding: Finding | None) -> None:
        """Warn of audio that is probably not in the format declared."""
        if finding is not None:
            self.warn(finding.code, finding.message)

    def _on_speed(self, speed: float) -> None:
        """Warn of audio that arrives at another speed than its format has."""
        likely = causes(self._audio, speed)
        bandwidth = self._format.bandwidth
        if speed > SLOW:
            if not likely or "format_mismatch" in self._warned:
                return
            if speed > FAST and bandwidth is not None and bandwidth * speed > VOICE_HZ:
                return  # ordinary speech, played faster: not audio of a higher rate
        cause = f"perhaps {' or '.join(likely)}" if likely else "or the producer is too slow"
        self.warn(
            "rate_mismatch",
            f"audio arrives at {speed:.2f} x real time; check that it is sent at sample_rate "
            f"{self._audio.sample_rate}, {cause}",
        )

    def _on_processed(self) -> None:
        """Warn of samples that are no numbers, and of sound on another channel only."""
        other = self._pipeline.sides.voice_on
        if other is not None:
            roles = self._grant.roles
            names = ", ".join(f"{n} ({roles[n]})" for n in self._grant.analysed)
            self.warn(
                "silent_channel",
                f"channel {names} is analysed and silent; all sound is on channel {other} "
                f"({roles[other]}): check audio.roles, and which side is sent on which channel",
            )
        if self._pipeline.invalid:
            self.warn(
                "invalid_samples",
                "the audio has NaN or infinite samples; they are taken as zero: send finite values "
                "in [-1, 1]",
            )

        self._report_conversation()

    def _report_conversation(self) -> None:
        conversation = self._pipeline.conversation
        report = None if conversation is None else conversation.due()
        if report is not None:
            self.emit({"type": "conversation", **measured(report, self.live.roles)})
            self._alerts.measured(report)
        silence = None if conversation is None else conversation.silence_now
        self._alerts.advanced(self._pipeline.position, silence)

    def _on_event(self, event: Event, latency_s: float | None) -> None:
        if isinstance(event, Segment):
            self._remember(event)
        if not self._request.analysis.embeddings:
            event = _without_features(event)
        body = self._bodies.body(event, round((latency_s or 0.0) * 1000))
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
        if isinstance(event, Score | Segment):
            self._alerts.scored(event)

    def _remember(self, segment: Segment) -> None:
        """Keep the features of an utterance for listeners who mark it."""
        recent = self._services.recent
        if recent is None or self.closed.is_set():
            return
        utterance = MarkableUtterance.of(segment, self._services.model.features)
        if utterance is not None:
            recent.add(self.live.key, self.id, utterance)

    def _frames(self) -> list[Body]:
        newest = {number: c.frames() for number, c in self._pipeline.channels.items()}
        return [
            self._bodies.utterance(n, frames) for n, frames in newest.items() if frames is not None
        ]

    def _emit_paused(self) -> None:
        self.emit({"type": "stream.paused", "audio_ms": to_ms(self._pipeline.position)})

    def _update_state(self) -> None:
        """Show whether a producer is connected, and whether it paused the stream."""
        state: StreamState = "paused" if self._paused else "active"
        if self.state is SessionState.DETACHED:
            state = "detached"
        if self.live.state not in (state, "ended"):
            self.live.state = state
            self._services.hub.changed(self.live)


def _without_features(event: Event) -> Event:
    """Return an event without features that were computed for feedback, not for the producer."""
    if isinstance(event, Segment) and event.embedding is not None:
        return replace(event, embedding=None)
    if isinstance(event, Score) and event.frames is not None and event.frames.features is not None:
        return replace(event, frames=replace(event.frames, features=None))
    return event
