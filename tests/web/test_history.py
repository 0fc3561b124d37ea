"""Filters, picture and pages of the history view (JavaScript, run in Node)."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from typing import Any

from stream.server.http.static_files import WEB
from tests.web.fakes import FAKES

NOW = "new Date(2026, 10, 28, 9, 30)"
"""Saturday, 28 November 2026, in the time zone of the test."""

NAMES = {
    "address": "addressIn, addressOf",
    "filters": "changed, filtersIn, isFiltered, moved, onlyRange, period, queryOf, serverQuery",
    "picture": "axisEnd, columns, merged, negativeOf, stepOf",
    "pages": "Pages",
    "requests": "listCalls",
    "call-model": "labelsOf, missing, timelineChannels, utterancesCsv",
}


def node(script: str) -> Any:
    """Run `script` in Berlin with the functions of the modules; return what it prints."""
    imports = "\n".join(
        f"const {{ {names} }} = await import({json.dumps((WEB / f'history/{name}.js').as_uri())});"
        for name, names in NAMES.items()
    )
    text = f"""
      {FAKES}
      globalThis.navigator = {{ languages: ["en"] }};
      globalThis.localStorage = {{ getItem: () => null }};
      {imports}
      now = {NOW};
      {script}
    """
    command = ["node", "--input-type=module", "-e", text]
    env = {**os.environ, "TZ": "Europe/Berlin"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_address_keeps_the_call_and_the_filters() -> None:
    """A supervisor sends the address of a call to a colleague, who sees the same list behind it."""
    found = node("""
      const set = { tag: "queue:a/b & c", label: "angry", share: "0.4", range: "7d" };
      const filters = changed(filtersIn(""), set);
      const address = addressOf("a/b?c", filters);
      print([address, addressIn(address), addressOf("", filtersIn("")), addressIn("#history").id,
        addressIn("#history/%E0%A4%A").id, addressIn("#history?from=%")]);
    """)
    assert found[0] == ("#history/a%2Fb%3Fc?range=7d&tag=queue%3Aa%2Fb+%26+c&label=angry&share=0.4")
    assert found[1]["id"] == "a/b?c"
    assert {k: v for k, v in found[1]["filters"].items() if v} == {
        "range": "7d",
        "tag": "queue:a/b & c",
        "label": "angry",
        "share": "0.4",
    }
    assert found[2:5] == ["#history", "", "%E0%A4%A"]
    assert found[5]["filters"]["range"] == "30d"


EDITED: dict[str, dict[str, str]] = {
    "": {"range": "30d"},
    "range=month": {"range": "month"},
    "range=constructor&kind=toString&share=2": {"range": "30d"},
    "from=2026-11-31": {"range": "30d"},
    "from=2026-11-09&to=2026-11-02": {"from": "2026-11-02", "to": "2026-11-09"},
    "to=2026-11-02": {"from": "2026-11-02", "to": "2026-11-02"},
    "from=2026-11-02&to=2026-11-09&hour=3": {"from": "2026-11-02", "to": "2026-11-09"},
    "range=today&hour=24": {"range": "today"},
    "range=today&hour=23": {"range": "today", "hour": "23"},
    "share=0.5": {"range": "30d"},
    "min_activation=-1&max_activation=1e3&min_duration_s=NaN": {"range": "30d"},
    "min_duration_s=90&max_activation=0.25": {
        "range": "30d",
        "min_duration_s": "90",
        "max_activation": "0.25",
    },
}


def test_people_edit_addresses_and_invalid_values_filter_nothing() -> None:
    found = node(f"""
      const read = {json.dumps(list(EDITED))}.map((query) => filtersIn(query));
      print(read.map((filters) => [filters, filtersIn(queryOf(filters))]));
    """)
    for (query, expected), (filters, again) in zip(EDITED.items(), found, strict=True):
        assert filters == again, query
        assert {k: v for k, v in filters.items() if v} == expected, query


DAYS = [
    ("Europe/Berlin", "range=today", "2026-11-27T23:00", "2026-11-28T23:00"),
    ("UTC", "range=yesterday", "2026-11-27T00:00", "2026-11-28T00:00"),
    ("Europe/Berlin", "from=2026-10-25", "2026-10-24T22:00", "2026-10-25T23:00"),
    ("Europe/Berlin", "from=2026-10-25&hour=2", "2026-10-25T00:00", "2026-10-25T02:00"),
    ("Asia/Kolkata", "range=month", "2026-10-31T18:30", "2026-11-30T18:30"),
    ("America/Lima", "range=7d", "2026-11-22T05:00", "2026-11-29T05:00"),
]


def test_days_are_those_of_the_browser() -> None:
    """A day has 25 hours when summer time ends, and the hour from 2 to 3 takes two of them."""
    found = node(f"""
      print({json.dumps(DAYS)}.map(([zone, text]) => {{
        process.env.TZ = zone;
        const query = serverQuery(filtersIn(text), new Date(2026, 10, 28, 9, 30));
        return [query.get("from"), query.get("to")];
      }}));
    """)
    assert found == [[f"{since}:00.000Z", f"{until}:00.000Z"] for _, _, since, until in DAYS]


def test_the_server_gets_the_filters_that_it_knows() -> None:
    """The server refuses unknown parameters, such as the range and the hour of the page."""
    found = node("""
      const query = (text, options) => String(serverQuery(filtersIn(text), now, options));
      print([query("range=all"), query("range=all&label=sad&tag=x&alert=any&kind=live"),
        query("range=today&hour=9"), query("range=today&hour=9", { wholeDay: true })]);
    """)
    assert found[0] == ""
    assert found[1] == "tag=x&label=sad&alert=any&kind=live"
    assert found[2] == "from=2026-11-28T08%3A00%3A00.000Z&to=2026-11-28T09%3A00%3A00.000Z"
    assert found[3] == "from=2026-11-27T23%3A00%3A00.000Z&to=2026-11-28T23%3A00%3A00.000Z"


MOVES: list[tuple[str, int, list[str] | None]] = [
    ("range=month", -1, ["2026-10-01", "2026-10-31"]),
    ("from=2026-03-01&to=2026-03-31", -1, ["2026-02-01", "2026-02-28"]),
    ("range=today", -1, ["2026-11-27", "2026-11-27"]),
    ("range=today", 1, None),
    ("range=7d", -1, ["2026-11-15", "2026-11-21"]),
    ("from=2026-11-15&to=2026-11-21", 1, ["2026-11-22", "2026-11-28"]),
    ("range=all", -1, None),
]


def test_the_time_before_has_the_same_length() -> None:
    found = node(f"""
      print({json.dumps(MOVES)}.map(([text, direction]) => {{
        const next = moved(filtersIn(text), direction, now);
        return next && [next.from, next.to];
      }}));
    """)
    assert found == [expected for *_, expected in MOVES]


STEPS = {
    "range=today": "hour",
    "range=30d": "day",
    "from=2026-09-01&to=2026-11-28": "day",
    "from=2026-08-01&to=2026-11-28": "month",
    "range=all": "day",
}


def test_the_step_of_a_picture_follows_its_length() -> None:
    found = node(f"""
      print({json.dumps(list(STEPS))}.map((text) => period(filtersIn(text), now).step));
    """)
    assert found == list(STEPS.values())


ROW = {"calls": 1, "speech_s": 10.0, "scores": {"angry": 0.5, "sad": 0.25, "happy": 0.25}}


def row(key: str, **figures: Any) -> dict[str, Any]:
    return {"key": key, "activation": 0.5, "alerts": 0, "dead_air_s": None, **ROW, **figures}


def test_days_without_calls_have_a_column_of_their_own() -> None:
    rows = [row("2026-10-26", calls=3), row("2026-10-24", calls=2, alerts=1)]
    found = node(f"""
      const days = {{ from: "2026-10-24", to: "2026-10-27", step: "day" }};
      const rows = {json.dumps(rows)};
      print(columns(rows, days).map(({{ key, calls, alerts }}) => [key, calls, alerts]));
    """)
    assert found == [
        ["2026-10-24", 2, 1],
        ["2026-10-25", 0, 0],
        ["2026-10-26", 3, 0],
        ["2026-10-27", 0, 0],
    ]


def test_the_hour_that_occurs_twice_is_one_column() -> None:
    """The server has two rows from 2 to 3 when summer time ends."""
    rows = [
        row("2026-10-25T02:00:00+02:00", calls=1, speech_s=10.0, activation=0.2, dead_air_s=4.0),
        row("2026-10-25T02:00:00+01:00", calls=2, speech_s=30.0, activation=0.6, alerts=1),
        row("2026-10-25T13:00:00+01:00", calls=5),
    ]
    found = node(f"""
      const day = {{ from: "2026-10-25", to: "2026-10-25", step: "hour" }};
      const list = columns({json.dumps(rows)}, day);
      const {{ calls, speech_s, alerts, activation, dead_air_s }} = list[2];
      const round = (x) => Math.round(x * 1e6) / 1e6;
      print([list.length, calls, speech_s, alerts, round(activation), dead_air_s, list[13].calls]);
    """)
    assert found == [24, 3, 40.0, 1, 0.5, 4.0, 5]


def test_all_of_a_long_history_is_shown_by_month() -> None:
    rows = [row(f"2026-{month:02}-{day:02}") for month in (1, 2, 4) for day in range(1, 29)]
    found = node(f"""
      const rows = {json.dumps(rows)};
      const all = {{ from: "", to: "", step: "day" }};
      const step = stepOf(rows, all);
      print([step, columns(rows, {{ ...all, step }}).map(({{ key, calls }}) => [key, calls]),
        columns([], all), stepOf(rows.slice(0, 9), all)]);
    """)
    months = [["2026-01", 28], ["2026-02", 28], ["2026-03", 0], ["2026-04", 28]]
    assert found == ["month", months, [], "day"]


def test_means_are_weighted_by_speech_and_missing_values_do_not_count() -> None:
    rows = [
        row("a", speech_s=30.0, scores={"angry": 1.0, "sad": 0.0}, activation=None),
        row("b", speech_s=10.0, scores={"angry": 0.0, "sad": 1.0}, activation=0.5),
        row("c", speech_s=0.0, scores={}, activation=None),
    ]
    found = node(f"""
      const sum = merged({json.dumps(rows)});
      print([sum.scores, sum.activation, sum.dead_air_s, negativeOf(sum), negativeOf(merged([])),
        [0.5, 1, 3, 6, 10, 11, 51, 1234].map(axisEnd)]);
    """)
    assert found == [
        {"angry": 0.75, "sad": 0.25},
        0.5,
        None,
        1,
        None,
        [1, 1, 5, 10, 10, 20, 100, 2000],
    ]


def test_a_refresh_adds_new_calls_and_keeps_older_pages() -> None:
    found = node("""
      const page = (ids, next) => ({ sessions: [...ids].map((id) => ({ id })), next });
      const seen = [];
      const note = (pages) => seen.push([pages.calls.map(({ id }) => id).join(""), pages.next]);
      const pages = new Pages();
      pages.replace(page("fed", "1")); note(pages);
      pages.append(page("dcb", "2")); note(pages);
      pages.refresh(page("gfe", "3")); note(pages);
      pages.refresh(page("zyx", "4")); note(pages);
      pages.remove("y"); note(pages);
      pages.refresh(page("zx", null)); note(pages);
      pages.refresh(page("", null)); note(pages);
      print(seen);
    """)
    assert found == [
        ["fed", "1"],
        ["fedcb", "2"],
        ["gfedcb", "2"],
        ["zyx", "4"],
        ["zx", "4"],
        ["zx", None],
        ["", None],
    ]


def test_a_query_is_repeated_while_the_server_has_no_time_for_it() -> None:
    """A server answers a few queries at a time; many supervisors open the page at nine o'clock."""
    found = node("""
      globalThis.sessionStorage = { getItem: () => null };
      const body = (status, json, headers = {}) =>
        new Response(JSON.stringify(json), { status, headers });
      const busy = () => body(503, { error: "overloaded" }, { "Retry-After": "2" });
      const seen = [];
      const ask = async (...answers) => {
        let count = 0;
        globalThis.fetch = async () => (count += 1, (answers.shift() ?? busy)());
        const result = listCalls("", null).then(
          (page) => page.next, ({ kind, detail }) => [kind, detail]);
        for (let n = 0; n < 8; n += 1) {
          await new Promise((next) => setImmediate(next));
          await advance(4_000);
        }
        seen.push([await result, count]);
      };
      await ask(busy, busy, () => body(200, { sessions: [], next: "x" }));
      await ask();
      await ask(() => body(400, { error: "share: too large", code: "invalid_message" }));
      await ask(() => body(404, { error: "history_off: set history.url" }));
      await ask(() => body(404, { error: "unknown" }));
      await ask(() => body(500, {}));
      print(seen);
    """)
    assert found == [
        ["x", 3],
        [["busy", "overloaded"], 4],
        [["invalid", "share: too large"], 1],
        [["off", "history_off: set history.url"], 1],
        [["gone", "unknown"], 1],
        [["failed", ""], 1],
    ]


CALL = {
    "duration_s": 60.0,
    "summary": [{"channel": 0, "role": "customer"}, {"channel": 1, "role": "agent"}],
    "utterances": [
        {
            "channel": 0,
            "role": "customer",
            "start_s": 1.5,
            "end_s": 4.0,
            "scores": {"angry": 0.7, "sad": 0.3},
            "activation": 0.7,
            "hints": ["noisy", "clipped"],
            "baseline_weight": 0,
        },
        {
            "channel": 1,
            "role": "=HYPERLINK(1)",
            "start_s": 5.0,
            "end_s": 6.0,
            "scores": {},
            "activation": None,
            "hints": [],
            "baseline_weight": 0,
        },
    ],
    "gaps": [
        {"channel": 0, "start_s": 7.0, "end_s": 8.5, "reason": "overload"},
        {"channel": 0, "start_s": 9.0, "end_s": 10.0, "reason": "overload"},
    ],
    "alerts": [
        {"role": "customer", "start_s": 2.0, "end_s": None, "severity": "critical"},
        {"role": None, "start_s": 3.0, "end_s": 9.0, "severity": "info"},
    ],
}


def test_a_call_is_drawn_by_channel_with_the_alerts_of_its_role() -> None:
    found = node(f"""
      const call = {json.dumps(CALL)};
      print([timelineChannels(call).map(({{ title, utterances, alerts }}) =>
        [title, utterances.map(({{ text }}) => text), alerts.map(({{ end }}) => end)]),
        labelsOf(call), missing(call)]);
    """)
    assert found[0][0] == ["Channel 1 · customer", ["angry 70\u00a0%"], [60.0, 9.0]]
    assert found[0][1][0] == "Channel 2 · agent"
    assert found[0][1][2] == [9.0]
    assert found[1:] == [["angry", "sad"], {"overload": 2.5}]


def test_the_csv_of_a_call_has_no_formulas() -> None:
    """A role is chosen by the producer, and a spreadsheet runs what begins with "="."""
    text = node(f'print(utterancesCsv({json.dumps(CALL)}, ["angry", "sad"]));')
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0] == {
        "channel": "0",
        "role": "customer",
        "start_s": "1.5",
        "end_s": "4",
        "top": "angry",
        "angry": "0.7",
        "sad": "0.3",
        "activation": "0.7",
        "hints": "noisy clipped",
    }
    assert rows[1]["role"] == "'=HYPERLINK(1)"
    assert (rows[1]["top"], rows[1]["angry"], rows[1]["activation"]) == ("", "", "")
