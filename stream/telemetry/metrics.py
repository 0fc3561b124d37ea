"""Prometheus metrics, prefix `emotide_`. No label ever holds a stream id."""

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

from stream.tenants import DEFAULT
from stream.types import GapReason, ModelInfo

disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped in the library

LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5)
SHORT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """All metrics of one process, and the methods that report to them."""

    def __init__(self, version: str) -> None:
        self.registry = r = CollectorRegistry()
        self._version = version
        self._build = Gauge(
            "emotide_build_info",
            "Always 1; version and model are in the labels",
            ["version", "model", "revision", "backend"],
            registry=r,
        )
        self._loaded = Gauge("emotide_model_loaded", "1 after the warm-up", ["model"], registry=r)
        self._active = Gauge(
            "emotide_sessions_active",
            "Live streams whose producer is connected",
            ["adapter"],
            registry=r,
        )
        self._parked = Gauge(
            "emotide_sessions_parked",
            "Live streams that wait for their producer to return",
            ["adapter"],
            registry=r,
        )
        self._sessions = Counter(
            "emotide_sessions_total", "Streams that ended", ["adapter", "reason"], registry=r
        )
        self._probes = Counter(
            "emotide_probes_total",
            "Connections that only tested the way to this server",
            ["adapter"],
            registry=r,
        )
        self._resumes = Counter("emotide_resumes_total", "Producers that reattached", registry=r)
        self._audio = Counter(
            "emotide_audio_seconds_total", "Seconds of audio received", registry=r
        )
        self._bytes = Counter("emotide_audio_bytes_total", "Bytes of audio received", registry=r)
        self._speech_dropped = Counter(
            "emotide_speech_dropped_seconds_total",
            "Seconds of speech never scored",
            ["reason"],
            registry=r,
        )
        self._windows = Counter(
            "emotide_windows_total", "Windows by result", ["result"], registry=r
        )
        self._latency = Histogram(
            "emotide_score_latency_seconds",
            "Seconds from a window being due to its score",
            ["adapter"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self._inference = Histogram(
            "emotide_inference_seconds",
            "Seconds of inference per batch",
            buckets=SHORT_BUCKETS_S,
            registry=r,
        )
        self._batch = Histogram(
            "emotide_inference_batch_size",
            "Windows per batch",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=r,
        )
        self._queue = Histogram(
            "emotide_inference_queue_seconds",
            "Seconds that a window waits for the model",
            buckets=SHORT_BUCKETS_S,
            registry=r,
        )
        self.waiting = Gauge("emotide_windows_waiting", "Windows waiting now", registry=r)
        self.busy = Gauge(
            "emotide_inference_busy_seconds",
            "Seconds that the current batch has been running",
            registry=r,
        )
        self.loop_lag = Histogram(
            "emotide_loop_lag_seconds",
            "Seconds that the event loop wakes up late",
            buckets=SHORT_BUCKETS_S,
            registry=r,
        )
        self.loop_tasks = Gauge("emotide_loop_tasks", "Tasks of the event loop", registry=r)
        self.subscribers = Gauge(
            "emotide_subscribers_active", "Connections of subscribers", registry=r
        )
        self._sent = Counter(
            "emotide_events_sent_total", "Events delivered", ["transport"], registry=r
        )
        self._events_dropped = Counter(
            "emotide_events_dropped_total",
            "Events dropped for slow readers",
            ["transport"],
            registry=r,
        )
        self._delivery_errors = Counter(
            "emotide_delivery_errors_total",
            "Exceptions of sinks and subscriptions",
            ["target"],
            registry=r,
        )
        self._errors = Counter(
            "emotide_protocol_errors_total", "Refused messages and sessions", ["code"], registry=r
        )
        # The tenants are those of the configuration, so these labels are bounded.
        self._tenant_sessions = Gauge(
            "emotide_tenant_sessions_active",
            "Live streams by tenant, attached and detached",
            ["tenant"],
            registry=r,
        )
        self._tenant_latency = Histogram(
            "emotide_tenant_score_latency_seconds",
            "Seconds from a window being due to its score, by tenant",
            ["tenant"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self._quota_refusals = Counter(
            "emotide_quota_refusals_total",
            "Requests refused because of a quota of a key or tenant",
            ["tenant", "quota"],
            registry=r,
        )
        self._files_active = Gauge(
            "emotide_files_active", "Recordings between upload and result", registry=r
        )
        self._files = Counter(
            "emotide_files_total", "Recordings by outcome", ["outcome"], registry=r
        )
        self._file_audio = Counter(
            "emotide_file_audio_seconds_total",
            "Seconds of audio of analysed recordings",
            registry=r,
        )
        self._file_time = Counter(
            "emotide_file_analysis_seconds_total", "Seconds of analysis of recordings", registry=r
        )
        self._history = Counter(
            "emotide_history_sessions_total",
            "Finished sessions by outcome in the history",
            ["outcome"],
            registry=r,
        )
        self.history_waiting = Gauge(
            "emotide_history_waiting",
            "Finished sessions that wait for the history's database",
            registry=r,
        )
        self._webhooks = Counter(
            "emotide_webhook_messages_total",
            "Attempts to deliver an alert, and alerts dropped because too many waited",
            ["webhook", "outcome"],
            registry=r,
        )
        self._mqtt_connected = Gauge(
            "emotide_mqtt_connected", "1 while connected to the broker", registry=r
        )
        self._mqtt_reconnects = Counter(
            "emotide_mqtt_reconnects_total", "Connections to the broker", registry=r
        )
        self._mqtt_errors = Counter(
            "emotide_mqtt_publish_errors_total",
            "Messages not acknowledged, or refused, by the broker",
            registry=r,
        )

    def model(self, info: ModelInfo) -> None:
        """Report that the model is warmed up."""
        self._build.labels(self._version, info.id, info.revision, info.device).set(1)
        self._loaded.labels(info.id).set(1)

    def session_opened(self, adapter: str, tenant: str = DEFAULT) -> None:
        self._active.labels(adapter).inc()
        self._tenant_sessions.labels(tenant).inc()

    def session_parked(self, adapter: str, change: int) -> None:
        """Report sessions that lost their connection (1), or have one again or end (-1)."""
        self._parked.labels(adapter).inc(change)
        self._active.labels(adapter).dec(change)

    def session_closed(self, adapter: str, reason: str, tenant: str = DEFAULT) -> None:
        self._active.labels(adapter).dec()
        self._tenant_sessions.labels(tenant).dec()
        self._sessions.labels(adapter, reason).inc()

    def resumed(self) -> None:
        self._resumes.inc()

    def audio(self, size: int, seconds: float) -> None:
        self._bytes.inc(size)
        self._audio.inc(seconds)

    def gap(self, reason: GapReason, seconds: float) -> None:
        self._speech_dropped.labels(reason).inc(seconds)

    def scored(self, adapter: str, latency_s: float, tenant: str = DEFAULT) -> None:
        self._windows.labels("scored").inc()
        self._latency.labels(adapter).observe(latency_s)
        self._tenant_latency.labels(tenant).observe(latency_s)

    def window(self, result: str) -> None:
        """Report a window without a score. `result`: "superseded", or the reason of the gap."""
        self._windows.labels(result).inc()

    def batch(self, size: int, queued_s: Sequence[float], inference_s: float) -> None:
        """Report one batch: number of windows, wait of each window, and inference time."""
        self._inference.observe(inference_s)
        self._batch.observe(size)
        for seconds in queued_s:
            self._queue.observe(seconds)

    def file_began(self) -> None:
        self._files_active.inc()

    def file_ended(self, outcome: str) -> None:
        """Report the end of a recording. `outcome`: "done", "cancelled", or an error code."""
        self._files_active.dec()
        self._files.labels(outcome).inc()

    def file_done(self, audio_s: float, took_s: float) -> None:
        self._file_audio.inc(audio_s)
        self._file_time.inc(took_s)

    def quota_refused(self, tenant: str, quota: str) -> None:
        """Report a request that a quota of a key or of its tenant did not allow."""
        self._quota_refusals.labels(tenant, quota).inc()

    def probed(self, adapter: str) -> None:
        self._probes.labels(adapter).inc()

    def refused(self, code: str) -> None:
        self._errors.labels(code).inc()

    def sent(self, transport: str, events: int = 1) -> None:
        self._sent.labels(transport).inc(events)

    def dropped(self, transport: str, events: int) -> None:
        """Report events that a full queue dropped."""
        self._events_dropped.labels(transport).inc(events)

    def delivery_failed(self, target: str) -> None:
        """Report an exception of a sink (`target`: its class name) or of a "subscription"."""
        self._delivery_errors.labels(target).inc()

    def mqtt_connected(self, up: bool) -> None:
        """Report a connection to the broker, or the loss of one."""
        self._mqtt_connected.set(up)
        if up:
            self._mqtt_reconnects.inc()

    def mqtt_failed(self, messages: int) -> None:
        """Report messages that the broker did not acknowledge."""
        self._mqtt_errors.inc(messages)

    def mqtt_refused(self, messages: int) -> None:
        """Report messages that the broker refused, and that are dropped."""
        self._mqtt_errors.inc(messages)
        self.dropped("mqtt", messages)

    def history_sessions(self, outcome: str, sessions: int) -> None:
        """Report finished sessions: written, dropped, refused or erased."""
        self._history.labels(outcome).inc(sessions)

    def webhook(self, name: str, outcome: str, messages: int) -> None:
        """Report attempts to deliver alerts to a webhook, or alerts dropped."""
        self._webhooks.labels(name, outcome).inc(messages)

    def text(self) -> bytes:
        """Return all metrics in the exposition format, for GET /metrics."""
        return generate_latest(self.registry)
