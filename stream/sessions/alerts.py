"""Alerts of a session: keeps to the rules as they change, and emits the steps."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable

from stream.alerts.bodies import alert_body
from stream.alerts.book import RuleBook
from stream.alerts.monitor import Alert, StreamAlerts
from stream.analysis.conversation import ConversationReport
from stream.delivery.live_stream import LiveStream
from stream.protocol.wire.alerts import AlertBody
from stream.types import Score, Segment, timestamp


class SessionAlerts:
    """`StreamAlerts` of one session with the rules of the process that apply to it."""

    def __init__(self, book: RuleBook, live: LiveStream, emit: Callable[[AlertBody], None]) -> None:
        self._book = book
        self._live = live
        self._emit = emit
        self._prefix = secrets.token_hex(8)
        self._version = book.version
        self._alerts = StreamAlerts(live.roles, book.rules(live.tenant, live.tags))
        self._open: dict[str, AlertBody] = {}
        """Newest step of each open alert."""

    def scored(self, event: Score | Segment) -> None:
        """Process the scores of a window or of an utterance."""
        self._send(self._alerts.scored(event))

    def measured(self, report: ConversationReport) -> None:
        """Process the measures of the conversation."""
        self._send(self._alerts.measured(report))

    def advanced(self, at: int, silence: int | None) -> None:
        """Process the passing of time to position `at`, and rules that changed."""
        if self._version != self._book.version:
            self._version = self._book.version
            rules = self._book.rules(self._live.tenant, self._live.tags)
            self._send(self._alerts.replace_rules(rules, at))
        self._send(self._alerts.advanced(at, silence))

    def finish(self, at: int, objected: bool) -> None:
        """End all open alerts, before the end of the stream."""
        self._send(self._alerts.finish(at, "objected" if objected else "stream_ended"))

    def acknowledge(self, alert_id: str, by: str) -> bool:
        """Add who acknowledged an open alert to its steps; return False if it is not open.

        The first acknowledgement stays.
        """
        step = self._open.get(alert_id)
        if step is None:
            return False
        if "acknowledged" not in step:
            step = {**step, "state": "update"}
            step["acknowledged"] = {"by": by, "at": timestamp(time.time())}
            self._open[alert_id] = step
            self._emit(step)
        return True

    def _send(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            step = alert_body(alert, self._live.roles, self._prefix)
            before = self._open.pop(step["id"], None)
            if before is not None and "acknowledged" in before:
                step["acknowledged"] = before["acknowledged"]
            if step["state"] != "end":
                self._open[step["id"]] = step
            self._emit(step)
