"""Prometheus metrics of groups, made from their summaries at every scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream.delivery.globs import Globs
from stream.delivery.group_sink import GroupSink
from stream.labels import LABELS
from stream.tenants import ANY, DEFAULT, Principal

MAX_GROUPS: Final = 200
"""Groups in one scrape, in alphabetical order. Each has at most 13 series."""

_EVERYTHING: Final = Principal("metrics", DEFAULT, frozenset({ANY}))


class GroupCollector(Collector):
    """Metrics of the groups whose tag matches one of `patterns`, over their last minute.

    Tags are chosen by producers, so only those that the operator names become labels. Numbers that
    are withheld have no series.
    """

    def __init__(self, groups: GroupSink, patterns: Sequence[str]) -> None:
        self._groups = groups
        self._globs = Globs(patterns)

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples."""
        return _families().values()

    def collect(self) -> Iterator[Metric]:
        """Yield the families with the samples of now."""
        families = _families()
        listed = self._groups.list(_EVERYTHING)["groups"]
        chosen = [group for group in listed if self._globs.matches(group["group"])]
        for group in chosen[:MAX_GROUPS]:
            names = [group.get("tenant", DEFAULT), group["group"]]
            minute: Any = group["m1"]
            for name, field in (
                ("streams", "streams"),
                ("speech_seconds", "speech_s"),
                ("alerted_ratio", "alerted"),
                ("activation_ratio", "activation"),
            ):
                if field in minute:
                    families[name].add_metric(names, minute[field])
            for label in LABELS:
                if label in minute:
                    families["score_ratio"].add_metric([*names, label], minute[label])
        yield from families.values()


def _families() -> dict[str, GaugeMetricFamily]:
    texts = {
        "streams": "Streams of a group that were live in the last minute",
        "speech_seconds": "Seconds of speech of a group in the last minute",
        "alerted_ratio": "Share of the streams of a group with an alert in the last minute",
        "activation_ratio": "Activation of a group over the last minute",
        "score_ratio": "Mean share of a label in a group over the last minute",
    }
    labels = ["tenant", "group"]
    return {
        name: GaugeMetricFamily(
            f"emotide_group_{name}",
            text,
            labels=[*labels, "label"] if name == "score_ratio" else labels,
        )
        for name, text in texts.items()
    }
