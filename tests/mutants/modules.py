"""Modules whose tests must notice small changes, with the tests that are their own.

The tests are fast: no server process, no browser, no model with weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TESTS: Mapping[str, Sequence[str]] = {
    "stream/analysis/activity.py": (
        "tests/analysis/test_activity.py",
        "tests/analysis/test_conversation.py",
    ),
    "stream/analysis/baseline.py": ("tests/analysis/test_baseline.py",),
    "stream/analysis/channel.py": ("tests/analysis/test_channel.py",),
    "stream/analysis/conversation.py": ("tests/analysis/test_conversation.py",),
    "stream/analysis/highpass.py": ("tests/analysis/test_highpass.py",),
    "stream/analysis/hysteresis.py": ("tests/analysis/test_hysteresis.py",),
    "stream/analysis/levels.py": ("tests/analysis/test_quality.py",),
    "stream/analysis/nonspeech.py": ("tests/analysis/test_nonspeech.py",),
    "stream/analysis/pipeline.py": (
        "tests/analysis/test_pipeline.py",
        "tests/analysis/test_one_voice.py",
    ),
    "stream/analysis/quality.py": ("tests/analysis/test_quality.py",),
    "stream/analysis/scores.py": (
        "tests/analysis/test_scores.py",
        "tests/analysis/test_baseline.py",
        "tests/analysis/test_channel.py",
    ),
    "stream/analysis/sides.py": ("tests/analysis/test_sides.py",),
    "stream/analysis/silero.py": ("tests/analysis/test_silero.py",),
    "stream/analysis/steady.py": ("tests/analysis/test_steady.py",),
    "stream/analysis/talk.py": ("tests/analysis/test_talk.py",),
    "stream/analysis/timeline.py": ("tests/analysis/test_timeline.py",),
    "stream/analysis/tones.py": ("tests/analysis/test_nonspeech.py",),
    "stream/analysis/vad.py": ("tests/analysis/test_vad.py",),
    "stream/analysis/windows.py": ("tests/analysis/test_windows.py",),
    "stream/audio/codecs.py": ("tests/audio/test_codecs.py",),
    "stream/audio/files/chunks.py": ("tests/audio/files/test_chunks.py",),
    "stream/audio/files/completeness.py": ("tests/audio/files/test_completeness.py",),
    "stream/audio/files/containers.py": ("tests/audio/files/test_containers.py",),
    "stream/audio/files/frame_clock.py": ("tests/audio/files/test_frame_clock.py",),
    "stream/audio/first_bytes.py": ("tests/audio/test_raw_format.py",),
    "stream/audio/raw_format.py": ("tests/audio/test_raw_format.py",),
    "stream/audio/resample.py": ("tests/audio/test_resample.py",),
    "stream/audio/same_voice.py": ("tests/audio/test_same_voice.py",),
    "stream/audio/speed.py": ("tests/audio/test_speed.py",),
    "stream/protocol/errors.py": ("tests/protocol/test_errors.py",),
    "stream/protocol/events.py": ("tests/protocol/test_events.py",),
    "stream/protocol/messages.py": (
        "tests/protocol/test_messages.py",
        "tests/protocol/test_parsing.py",
        "tests/protocol/test_query.py",
        "tests/ingest/test_emotide.py",
    ),
    "stream/protocol/mistakes.py": ("tests/protocol/test_mistakes.py",),
    "stream/protocol/parsing.py": (
        "tests/protocol/test_parsing.py",
        "tests/protocol/test_query.py",
        "tests/protocol/test_any_input.py",
        "tests/ingest/test_emotide.py",
    ),
    "stream/ingest/aliases.py": ("tests/protocol/test_parsing.py",),
    "stream/ingest/arrival.py": ("tests/ingest/test_arrival.py",),
    "stream/ingest/asterisk.py": ("tests/ingest/test_asterisk.py", "tests/ingest/test_dialect.py"),
    "stream/ingest/audiohook.py": (
        "tests/ingest/test_audiohook.py",
        "tests/ingest/test_dialect.py",
    ),
    "stream/ingest/audiohook_messages.py": ("tests/ingest/test_audiohook.py",),
    "stream/ingest/audiosocket.py": (
        "tests/ingest/test_audiosocket.py",
        "tests/ingest/test_dialect.py",
    ),
    "stream/ingest/emotide.py": ("tests/ingest/test_emotide.py", "tests/ingest/test_dialect.py"),
    "stream/ingest/http_signature.py": ("tests/ingest/test_http_signature.py",),
    "stream/ingest/l16.py": ("tests/ingest/test_l16.py", "tests/ingest/test_dialect.py"),
    "stream/ingest/speech_clients.py": (
        "tests/ingest/test_speech_clients.py",
        "tests/ingest/test_dialect.py",
    ),
    "stream/ingest/tracks.py": ("tests/ingest/test_tracks.py",),
    "stream/ingest/twilio.py": ("tests/ingest/test_twilio.py", "tests/ingest/test_dialect.py"),
    "stream/delivery/globs.py": (
        "tests/delivery/test_globs.py",
        "tests/delivery/test_subscription.py",
    ),
    "stream/delivery/groups.py": ("tests/delivery/test_groups.py",),
    "stream/delivery/hub.py": (
        "tests/delivery/test_hub.py",
        "tests/delivery/test_hub_isolation.py",
        "tests/delivery/test_subscription.py",
    ),
    "stream/delivery/live_stream.py": (
        "tests/delivery/test_live_stream.py",
        "tests/delivery/test_hub.py",
    ),
    "stream/delivery/outbox.py": ("tests/delivery/test_outbox.py",),
    "stream/delivery/queues.py": ("tests/delivery/test_queues.py",),
    "stream/delivery/subscription.py": (
        "tests/delivery/test_subscription.py",
        "tests/delivery/test_subscription_rate.py",
        "tests/delivery/test_hub.py",
    ),
    "stream/sessions/ahead.py": ("tests/sessions/test_ahead.py",),
    "stream/sessions/input.py": ("tests/sessions/test_input.py",),
    "stream/sessions/pump.py": ("tests/sessions/test_pump.py",),
    "stream/sessions/realtime.py": ("tests/sessions/test_realtime.py",),
    "stream/sessions/registry.py": (
        "tests/sessions/test_registry.py",
        "tests/sessions/test_reattach.py",
        "tests/sessions/test_ticks.py",
        "tests/sessions/test_drain.py",
        "tests/sessions/test_ahead.py",
        "tests/sessions/test_input.py",
    ),
    "stream/sessions/session.py": (
        "tests/sessions/test_session.py",
        "tests/sessions/test_reattach.py",
        "tests/sessions/test_input.py",
        "tests/sessions/test_registry.py",
        "tests/sessions/test_descriptions.py",
        "tests/sessions/test_conversation.py",
        "tests/sessions/test_alerts.py",
        "tests/sessions/test_ticks.py",
    ),
    "stream/alerts/monitor.py": ("tests/alerts/test_monitor.py",),
    "stream/alerts/state.py": ("tests/alerts/test_state.py",),
    "stream/alerts/trial.py": ("tests/alerts/test_trial.py",),
    "stream/alerts/values.py": ("tests/alerts/test_monitor.py",),
    "stream/inference/batch_cost.py": ("tests/inference/test_batch_cost.py",),
    "stream/inference/scheduler.py": (
        "tests/inference/test_scheduler.py",
        "tests/inference/test_scheduler_failures.py",
        "tests/inference/test_scheduler_start.py",
    ),
    "stream/inference/turns.py": ("tests/inference/test_turns.py",),
    "stream/recordings/job_queue.py": ("tests/recordings/test_job_queue.py",),
    "stream/sinks/mqtt/leftovers.py": ("tests/sinks/mqtt/test_leftovers.py",),
    "stream/sinks/mqtt/limits.py": ("tests/sinks/mqtt/test_limits.py",),
    "stream/sinks/mqtt/retained.py": ("tests/sinks/mqtt/test_retained.py",),
    "stream/sinks/mqtt/topics.py": (
        "tests/sinks/mqtt/test_topics.py",
        "tests/sinks/mqtt/test_utterances.py",
        "tests/sessions/test_conversation.py",
    ),
    "stream/sinks/mqtt/utterances.py": ("tests/sinks/mqtt/test_utterances.py",),
    "stream/server/access/auth.py": ("tests/server/access/test_auth.py",),
    "stream/server/access/credentials.py": ("tests/server/access/test_credentials.py",),
    "stream/server/access/gate.py": (
        "tests/server/access/test_gate.py",
        "tests/server/endpoints/test_router.py",
    ),
    "stream/server/access/origins.py": ("tests/server/access/test_origins.py",),
    "stream/admission.py": ("tests/test_admission.py",),
    "stream/alert_rules.py": ("tests/test_alert_rules.py",),
    "stream/config_file.py": ("tests/test_config_file.py",),
    "stream/quotas.py": ("tests/test_quotas.py",),
    "stream/tenants.py": ("tests/test_quotas.py",),
}
"""Tests by module."""

EQUIVALENT: Mapping[str, Mapping[str, str]] = {
    "stream/protocol/mistakes.py": {
        "self._since = -1.0": "the count is 0, so that there is nothing to forgive",
        "self._count = -1.0": "limited to 0 before it is used",
    },
    "stream/analysis/levels.py": {
        "if max(levels) > _MAY_EXCEED and _is_high(steps):": "a shortcut; the sum is never equal",
        "if max(levels) >= _MAY_EXCEED or _is_high(steps):": "a shortcut: limiting changes nothing",
        "if float(np.dot(steps, steps)) < _MAY_CLIP and not _is_high(steps):": (
            "a shortcut: without a high sample the count is 0"
        ),
        "if float(np.dot(steps, steps)) <= _MAY_CLIP or not _is_high(steps):": (
            "a shortcut; the sum is never equal"
        ),
    },
    "stream/analysis/scores.py": {
        "mean = self._rows((weights @ logits).reshape(1, - 2))[0]": (
            "numpy takes any negative number for the rest"
        ),
    },
    "stream/analysis/talk.py": {
        "self._start = 1": "set by the first voiced frame before it is read",
    },
    "stream/analysis/sides.py": {
        "self._loud += np.where(power[self._others] > LOUD, count / self._rate, 0.0)": (
            "no measured power is equal to the limit"
        ),
        "if power[self._analysed].max() > SILENT:": "likewise",
    },
    "stream/analysis/baseline.py": {
        "return np.where(self.emotions, logits - center, np.float32( 1))": (
            "in the mean and in the reference, of which the difference counts"
        ),
        "if self.shift[calm] >= 0:": "a part of 0 is 0",
    },
    "stream/analysis/tones.py": {
        "return np.hanning(LENGTH).astype(np.float32) * np.float32( -0.5)": "squared",
        "digits = keyed & (held <= DIGIT_TWIST * second_held) & (pure > DIGIT_SHARE)": (
            "no measured energy is equal to the limit"
        ),
        "steady = _steady(hz, second_hz) & (pure >= PURE_SHARE)": "likewise",
        "curve = np.minimum(before - 2 * peak + after, - 1.000001)": (
            "that of a line through the taper is below -2"
        ),
    },
    "stream/recordings/job_queue.py": {
        "self._turns[tenant] = max(self._turns.values(), default=-1) + 2": "only the order counts",
    },
    "stream/ingest/twilio.py": {
        "return number if 0 <= number <= 1e15 else None": "no time is near it",
    },
    "stream/sinks/mqtt/limits.py": {
        'PACKET_TOO_LARGE: "raise the broker\'s maximum packet size", 149: "raise the broker\'s '
        'message rate limit, or lower mqtt.score_rate_hz",': "a table of the specification",
        '0x97: "raise the broker\'s quota of this user", 154: "turn off the broker\'s check of '
        'payloads for these topics",': "likewise",
        "if message.qos >= self.qos or (message.retain and not self.retain):": (
            "what it lowers is as low already"
        ),
        "if message.qos > self.qos or (message.retain or not self.retain):": "likewise",
    },
    "stream/alerts/state.py": {
        "self._cool_until = -1": "no position is negative",
        "self._judged = -1": "the first value begins its condition in any case",
    },
    "stream/alerts/values.py": {
        "self._first = self._last = -1.0": "set by the first utterance before it is read",
    },
    "stream/alerts/monitor.py": {
        "self._made += 2": "a number is only part of an id",
    },
    "stream/inference/turns.py": {
        "self._ends = {name: end for name, end in self._ends.items() if end >= self._present}": (
            "an end at the present is the start that is taken without one"
        ),
        "self._present = 1.0": "only differences of virtual times count",
    },
    "stream/analysis/windows.py": {
        'return np.pad(audio, (missing, 0), "symmetric") if missing > -1 else audio': (
            "a padding of no samples"
        ),
    },
    "stream/analysis/highpass.py": {
        "if abs(state) <= INAUDIBLE:": "no state is equal to the limit",
        "frames = samples.reshape(- 2, FRAME)": "numpy takes any negative number for the rest",
    },
    "stream/analysis/steady.py": {
        "self._newest = [ 1.0] * PERIOD": "a sound differs from either; the count begins anew",
        "elif mean <= lowest:": "the same value is set again",
        "if mean >= highest:": "likewise",
    },
    "stream/analysis/channel.py": {
        "self._history = History(longest + (vad.hangover - 1) * FRAME + BLOCK)": (
            "a block ends at most 15 frames after its utterance, so that this is enough as well"
        ),
        "if samples <= pad + FRAME:": "one frame of silence, by another way",
    },
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
    "stream/sessions/session.py": {
        "body = self._bodies.body(event, round((latency_s or 1.0) * 1000))": (
            "only scores state a latency, and they have one"
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
