"""Objects that all sessions and recordings of one process share."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream.alerts.book import RuleBook
from stream.config import Config
from stream.delivery.hub import Hub
from stream.feedback.recent import RecentUtterances
from stream.inference.scheduler import Scheduler
from stream.quotas import Quotas
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.types import ModelInfo


@dataclass(frozen=True, slots=True)
class Services:
    """The configuration, the loaded model, and the services of one process."""

    config: Config
    model: ModelInfo
    scheduler: Scheduler
    hub: Hub
    metrics: Metrics
    audit: AuditLog
    quotas: Quotas = field(default_factory=Quotas)
    recent: RecentUtterances | None = None
    """Utterances that listeners may mark; None while feedback is off."""
    rules: RuleBook = field(default_factory=RuleBook)
