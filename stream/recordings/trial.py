"""Trial of alert rules while a recording is analysed, as a session does it live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stream.admission import Admission
from stream.alert_rules import AlertRule
from stream.alerts.trial import Heard, Trial
from stream.analysis.pipeline import SLICE_S, StreamPipeline
from stream.config import Config
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.trials import RuleTrial
from stream.types import SAMPLE_RATE, Event, ModelInfo, Score, Segment


def rules_of(config: Config, tenant: str) -> tuple[AlertRule, ...]:
    """Return the server's rules that can apply to streams of a tenant."""
    return tuple(rule for rule in config.alerts.rules if not rule.tenants or tenant in rule.tenants)


def rules_to_try(config: Config, options: FileOptions, tenant: str) -> tuple[AlertRule, ...]:
    """Return the rules that a client wants to try: those of the server, and its own."""
    return (*(rules_of(config, tenant) if options.server_rules else ()), *options.alert_rules)


class RecordingTrial:
    """Rules on the channels of one recording.

    A live stream measures the conversation, and notices that nothing is said, as its audio comes.
    Hence `pieces`: after each one `advanced` must be called, once its windows are scored.
    """

    def __init__(
        self,
        rules: Sequence[AlertRule],
        grant: Admission,
        pipeline: StreamPipeline,
        model: ModelInfo,
    ) -> None:
        self._pipeline = pipeline
        self._piece = round(SLICE_S * SAMPLE_RATE) * 2 * len(grant.roles)
        observed = () if pipeline.conversation is None else grant.observed
        heard = Heard(
            grant.roles,
            grant.analysed,
            observed,
            model.labels,
            grant.settings.baseline is not None,
        )
        self._trial = Trial(rules, heard)

    def pieces(self, pcm: bytes) -> Iterator[bytes]:
        """Yield linear16 at 16 kHz in pieces of 100 ms."""
        for begin in range(0, len(pcm), self._piece):
            yield pcm[begin : begin + self._piece]

    def handle(self, event: Event) -> None:
        """Process an event of the analysis."""
        if isinstance(event, Score | Segment):
            self._trial.scored(event)

    def advanced(self) -> None:
        """Process the passing of time to the position of the pipeline."""
        conversation = self._pipeline.conversation
        report = None if conversation is None else conversation.due()
        if report is not None:
            self._trial.measured(report)
        silence = None if conversation is None else conversation.silence_now
        self._trial.advanced(self._pipeline.position, silence)

    def finish(self) -> list[RuleTrial]:
        """End all open alerts; return what each rule did."""
        self._trial.finish(self._pipeline.position)
        return self._trial.report()
