"""Modules whose tests must notice small changes, with the tests that are their own.

The tests are fast: no server process, no browser, no model with weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TESTS: Mapping[str, Sequence[str]] = {
    "stream/analysis/channel.py": ("tests/analysis/test_channel.py",),
    "stream/analysis/hysteresis.py": ("tests/analysis/test_hysteresis.py",),
    "stream/analysis/nonspeech.py": ("tests/analysis/test_nonspeech.py",),
    "stream/analysis/pipeline.py": (
        "tests/analysis/test_pipeline.py",
        "tests/analysis/test_one_voice.py",
    ),
    "stream/analysis/quality.py": ("tests/analysis/test_quality.py",),
    "stream/analysis/scores.py": (
        "tests/analysis/test_scores.py",
        "tests/analysis/test_baseline.py",
    ),
    "stream/analysis/timeline.py": ("tests/analysis/test_timeline.py",),
    "stream/analysis/vad.py": ("tests/analysis/test_vad.py",),
    "stream/analysis/windows.py": ("tests/analysis/test_windows.py",),
    "stream/audio/codecs.py": ("tests/audio/test_codecs.py",),
    "stream/audio/files/containers.py": ("tests/audio/files/test_containers.py",),
    "stream/audio/resample.py": ("tests/audio/test_resample.py",),
    "stream/protocol/parsing.py": (
        "tests/protocol/test_parsing.py",
        "tests/protocol/test_query.py",
        "tests/protocol/test_any_input.py",
        "tests/ingest/test_emotide.py",
    ),
    "stream/protocol/events.py": ("tests/protocol/test_events.py",),
    "stream/protocol/errors.py": (
        "tests/protocol/test_parsing.py",
        "tests/protocol/test_query.py",
    ),
    "stream/ingest/emotide.py": ("tests/ingest/test_emotide.py",),
    "stream/ingest/aliases.py": ("tests/protocol/test_parsing.py",),
    "stream/delivery/hub.py": (
        "tests/delivery/test_hub.py",
        "tests/delivery/test_hub_isolation.py",
        "tests/delivery/test_subscription.py",
    ),
    "stream/delivery/live_stream.py": (
        "tests/delivery/test_live_stream.py",
        "tests/delivery/test_hub.py",
    ),
    "stream/delivery/subscription.py": (
        "tests/delivery/test_subscription.py",
        "tests/delivery/test_subscription_rate.py",
        "tests/delivery/test_hub.py",
    ),
    "stream/delivery/queues.py": ("tests/delivery/test_queues.py",),
    "stream/delivery/outbox.py": ("tests/delivery/test_outbox.py",),
    "stream/sessions/registry.py": (
        "tests/sessions/test_registry.py",
        "tests/sessions/test_reattach.py",
        "tests/sessions/test_ticks.py",
        "tests/sessions/test_drain.py",
        "tests/sessions/test_ahead.py",
        "tests/test_quotas.py",
    ),
    "stream/sessions/realtime.py": ("tests/sessions/test_realtime.py",),
    "stream/sessions/input.py": ("tests/sessions/test_input.py",),
    "stream/inference/scheduler.py": (
        "tests/inference/test_scheduler.py",
        "tests/inference/test_scheduler_failures.py",
        "tests/inference/test_scheduler_start.py",
    ),
    "stream/server/access/auth.py": ("tests/server/access/test_auth.py",),
    "stream/server/access/gate.py": (
        "tests/server/access/test_gate.py",
        "tests/server/endpoints/test_router.py",
    ),
    "stream/tenants.py": ("tests/test_quotas.py",),
    "stream/admission.py": ("tests/test_admission.py",),
}
"""Tests by module."""

EQUIVALENT: Mapping[str, Mapping[str, str]] = {
    "stream/delivery/subscription.py": {
        "self._timer_at = 1.0": "read only while there is a timer, which sets it",
        "self._timer_at = -1.0": "likewise",
        "if due is None or (self._timer is not None and self._timer_at < due):": (
            "an equal timer is replaced by its like"
        ),
        "1 / request.rate_hz if request.rate_hz else -1.0": "every score passes, as with 0",
    },
    "stream/delivery/hub.py": {
        "if now >= self._next_log.get(target, 1.0):": "the monotonic clock is beyond",
        "if now >= self._next_log.get(target, -1.0):": "likewise",
        "if now > self._next_log.get(target, 0.0):": "no two readings are equal to the nanosecond",
    },
    "stream/protocol/parsing.py": {
        "first = error.errors(include_url=True)[0]": "the address of a manual, which is not used",
    },
    "stream/sessions/realtime.py": {
        "self._since = 1.0": "set again by the first chunk",
        "if speed <= SLOW or (FAST <= speed <= FASTEST and even):": "no measured speed is equal",
        "return mean if steady and SLOW <= mean < FAST and abs(mean - 1) > CLOSE else None": (
            "likewise"
        ),
        "return mean if steady and SLOW < mean <= FAST and abs(mean - 1) > CLOSE else None": (
            "likewise"
        ),
    },
    "stream/sessions/registry.py": {
        'await self.finish(session, "taken_over", FINISH_S * 2)': "a time limit, longer",
        'await self.finish(session, "taken_over", FINISH_S / 1)': "likewise",
        "if now - max(connection.last_received, entry.busy) >= limits.idle_timeout_s:": (
            "no two readings of the clock are equal"
        ),
    },
}
"""By module: changed lines that no test can notice, with the reason."""
