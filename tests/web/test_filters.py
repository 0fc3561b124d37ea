"""Filters of the monitor's list (JavaScript, run in Node)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.server.http.static_files import WEB
from tests.web.fakes import FAKES, run

STREAMS = """
  const channel = (role, top) => ({ role, shares: { [top]: 0.7, neutral: 0.3 } });
  const stream = (id, tags, channels, steps = []) => {
    const alerts = new Alerts();
    for (const [rule, severity] of steps) alerts.apply({ id: rule, rule, severity, state: "new" });
    const roles = ["customer", "agent"];
    return { id, tags, roles, channels: new Map(channels.entries()), alerts };
  };
  const streams = [
    stream("call-1", ["queue:billing"], [channel("customer", "angry")],
      [["angry_caller", "critical"]]),
    stream("call-2", ["queue:sales"], [channel("customer", "happy"), channel("agent", "sad")]),
    stream("call-3", ["queue:billing"], [channel("customer", "sad")], [["dead_air", "info"]]),
  ];
  streams[2].alerts.acknowledgeAll();
"""


def node(script: str) -> Any:
    """Run `script` with the module's functions and three streams; return what it prints."""
    filters, alerts = (
        json.dumps((WEB / f"monitor/{name}.js").as_uri()) for name in ("filters", "alerts")
    )
    return run(f"""
      {FAKES}
      globalThis.navigator = {{ languages: ["en"] }};
      globalThis.localStorage = {{ getItem: () => null }};
      const {{ channelsWith, choices, filtersIn, matches, withFilters }} = await import({filters});
      const {{ Alerts }} = await import({alerts});
      {STREAMS}
      {script}
    """)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3]),
        ("?tag=queue:billing", [1, 3]),
        ("?alert=open", [1, 3]),
        ("?alert=pending", [1]),
        ("?alert=info", [3]),
        ("?alert=rule:angry_caller", [1]),
        ("?role=agent&find=sad", [2, 3]),
        ("?find=ANGRY+billing", [1]),
        ("?tag=queue:billing&alert=open&find=sad", [3]),
        ("?tag=queue", []),
        ("?alert=constructor", []),
    ],
)
def test_filters_of_an_address_are_all_required(query: str, expected: list[int]) -> None:
    found = node(f"""
      const filters = filtersIn({json.dumps(query)});
      print(streams.filter((one) => matches(one, filters)).map(({{ id }}) => id));
    """)
    assert found == [f"call-{number}" for number in expected]


def test_filters_are_kept_in_the_address_beside_its_other_parameters() -> None:
    """A supervisor bookmarks the wall of a queue."""
    found = node("""
      const filters = { words: "a & b", tag: "queue:1", role: "", alert: "open" };
      const kept = withFilters("?wall&x=1&role=agent", filters);
      const none = filtersIn("");
      print([kept, filtersIn(kept), withFilters("?tag=a", none), withFilters("?wall", none)]);
    """)
    assert found == [
        "?wall&x=1&find=a+%26+b&tag=queue%3A1&alert=open",
        {"words": "a & b", "tag": "queue:1", "role": "", "alert": "open"},
        "",
        "?wall",
    ]


def test_a_role_selects_the_channels_that_are_shown() -> None:
    found = node("""
      const roles = (role) => streams.map((one) => channelsWith(one, role).length);
      print([roles(""), roles("agent"), roles("speaker")]);
    """)
    assert found == [[1, 2, 1], [0, 1, 0], [0, 0, 0]]


def test_the_choices_are_those_of_the_streams_and_bounded() -> None:
    """Producers that tag every call with its own number must not fill the page with choices."""
    found = node("""
      const offered = choices(streams);
      const tags = Array.from({ length: 500 }, (_, n) => [`call:${n}`, "queue:1"]);
      const { tag } = choices(tags.map((own, n) => stream(`${n}`, own, [])));
      const ordered = tag.indexOf("call:2") < tag.indexOf("call:10");
      print([offered, tag.length, tag.includes("queue:1"), ordered]);
    """)
    assert found[0] == {
        "tag": ["queue:billing", "queue:sales"],
        "role": ["agent", "customer"],
        "alert": ["rule:angry_caller", "rule:dead_air"],
    }
    assert found[1:] == [100, True, True]


def test_the_most_severe_alert_that_waits_comes_first() -> None:
    """A row has room for two alerts; an acknowledged critical one must not hide a new warning."""
    found = node("""
      const alerts = new Alerts();
      const add = (id, severity) => alerts.apply({ id, severity, state: "new" });
      const order = () => alerts.bySeverity.map(({ id }) => id).join("");
      const note = () => [order(), alerts.severity, alerts.rank];
      const seen = [note()];
      add("a", "info"); add("b", "critical"); add("c", "warning"); seen.push(note());
      alerts.acknowledge("b"); seen.push(note());
      alerts.acknowledgeAll(); seen.push(note());
      print(seen);
    """)
    assert found == [["", "", 0], ["bca", "critical", 3], ["cab", "warning", 2], ["cba", "", 0]]


def test_an_acknowledgement_is_reported_once_and_those_of_others_count() -> None:
    """Two supervisors saw one alert, and each thought that nobody had."""
    found = node("""
      const reported = [];
      const alerts = new Alerts((id) => reported.push(id));
      const made = { severity: "warning", state: "new" };
      const step = (id, fields) => alerts.apply({ id, ...made, ...fields });
      step("a"); step("b"); step("c");
      alerts.acknowledge("a"); alerts.acknowledge("a"); alerts.acknowledge("unknown");
      step("b", { state: "update", acknowledged: { by: "anna", at: "2026-11-28T10:00:00.000Z" } });
      const seen = ["a", "b", "c"].map((id) => alerts.isAcknowledged(id));
      alerts.acknowledgeAll();
      const rank = alerts.rank;
      alerts.replace([{ id: "d", ...made, acknowledged: { by: "", at: "" } }]);
      print([reported, seen, rank, alerts.isAcknowledged("d")]);
    """)
    assert found == [["a", "c"], [True, True, False], 0, True]
