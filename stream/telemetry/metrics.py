"""Prometheus series, prefix `emotide_`. No label ever holds a stream's id."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from stream.types import GapReason, ModelInfo

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it untyped

LATENCY = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5)
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """All series of one process, and the few verbs that move them."""

    def __init__(self, version: str) -> None:
        self.registry = r = CollectorRegistry()
        self._version = version
        self._build = Gauge(
            "emotide_build_info",
            "Always 1; what runs is in the labels",
            ["version", "model", "revision", "backend"],
            registry=r,
        )
        self._loaded = Gauge("emotide_model_loaded", "1 once warmed up", ["model"], registry=r)
        self._active = Gauge(
            "emotide_sessions_active", "Streams that live now", ["adapter"], registry=r
        )
        self._sessions = Counter(
            "emotide_sessions_total", "Streams that ended", ["adapter", "reason"], registry=r
        )
        self._resumes = Counter("emotide_resumes_total", "Producers that came back", registry=r)
        self._audio = Counter("emotide_audio_seconds_total", "Audio received", registry=r)
        self._bytes = Counter("emotide_audio_bytes_total", "Audio received", registry=r)
        self._dropped = Counter(
            "emotide_speech_dropped_seconds_total", "Speech never scored", ["reason"], registry=r
        )
        self._windows = Counter(
            "emotide_windows_total", "Windows by what became of them", ["result"], registry=r
        )
        self._latency = Histogram(
            "emotide_score_latency_seconds",
            "From a window being due to its score",
            ["adapter"],
            buckets=LATENCY,
            registry=r,
        )
        self._inference = Histogram(
            "emotide_inference_seconds", "One batch", buckets=SHORT, registry=r
        )
        self._batch = Histogram(
            "emotide_inference_batch_size",
            "Windows in a batch",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=r,
        )
        self._queue = Histogram(
            "emotide_inference_queue_seconds",
            "A window's wait for the model",
            buckets=SHORT,
            registry=r,
        )
        self.waiting = Gauge("emotide_windows_waiting", "Windows waiting now", registry=r)
        self.busy = Gauge(
            "emotide_inference_busy_seconds", "Age of the batch that runs now", registry=r
        )
        self.loop_lag = Histogram(
            "emotide_loop_lag_seconds",
            "How late the event loop wakes up",
            buckets=SHORT,
            registry=r,
        )
        self.subscribers = Gauge("emotide_subscribers_active", "Subscriber connections", registry=r)
        self._sent = Counter(
            "emotide_events_sent_total", "Events delivered", ["transport"], registry=r
        )
        self._lost = Counter(
            "emotide_events_dropped_total", "Events a slow reader lost", ["transport"], registry=r
        )
        self._errors = Counter(
            "emotide_protocol_errors_total", "Refused messages", ["code"], registry=r
        )
        self._files_active = Gauge(
            "emotide_files_active", "Recordings in hand, from upload to result", registry=r
        )
        self._files = Counter(
            "emotide_files_total", "Recordings by what became of them", ["outcome"], registry=r
        )
        self._file_audio = Counter(
            "emotide_file_audio_seconds_total", "Audio of recordings analysed", registry=r
        )
        self._file_time = Counter(
            "emotide_file_analysis_seconds_total", "Time their analysis took", registry=r
        )
        self._mqtt_connected = Gauge("emotide_mqtt_connected", "1 while connected", registry=r)
        self._mqtt_reconnects = Counter(
            "emotide_mqtt_reconnects_total", "Connections to the broker", registry=r
        )
        self._mqtt_errors = Counter(
            "emotide_mqtt_publish_errors_total", "Messages the broker did not take", registry=r
        )

    def model(self, info: ModelInfo) -> None:
        self._build.labels(self._version, info.id, info.revision, info.device).set(1)
        self._loaded.labels(info.id).set(1)

    def session_opened(self, adapter: str) -> None:
        self._active.labels(adapter).inc()

    def session_closed(self, adapter: str, reason: str) -> None:
        self._active.labels(adapter).dec()
        self._sessions.labels(adapter, reason).inc()

    def resumed(self) -> None:
        self._resumes.inc()

    def audio(self, size: int, seconds: float) -> None:
        self._bytes.inc(size)
        self._audio.inc(seconds)

    def gap(self, reason: GapReason, seconds: float) -> None:
        self._dropped.labels(reason).inc(seconds)

    def scored(self, adapter: str, latency_s: float) -> None:
        self._windows.labels("scored").inc()
        self._latency.labels(adapter).observe(latency_s)

    def window(self, fate: str) -> None:
        """A window that was not scored: superseded by a newer one, or a gap's reason."""
        self._windows.labels(fate).inc()

    def batch(self, size: int, queued_s: Sequence[float], inference_s: float) -> None:
        """Report one batch: its windows, each one's wait, and the seconds of inference."""
        self._inference.observe(inference_s)
        self._batch.observe(size)
        for seconds in queued_s:
            self._queue.observe(seconds)

    def file_began(self) -> None:
        self._files_active.inc()

    def file_ended(self, outcome: str) -> None:
        """A recording left: done, cancelled, or the code of its error."""
        self._files_active.dec()
        self._files.labels(outcome).inc()

    def file_done(self, audio_s: float, took_s: float) -> None:
        self._file_audio.inc(audio_s)
        self._file_time.inc(took_s)

    def refused(self, code: str) -> None:
        self._errors.labels(code).inc()

    def sent(self, transport: str, events: int = 1) -> None:
        self._sent.labels(transport).inc(events)

    def lost(self, transport: str, events: int) -> None:
        self._lost.labels(transport).inc(events)

    def mqtt_connected(self, up: bool) -> None:
        """Report a connection to the broker, or the loss of one."""
        self._mqtt_connected.set(up)
        if up:
            self._mqtt_reconnects.inc()

    def mqtt_failed(self, messages: int) -> None:
        """Report messages that the broker did not acknowledge."""
        self._mqtt_errors.inc(messages)

    def text(self) -> bytes:
        """The exposition format, for GET /metrics."""
        return generate_latest(self.registry)
