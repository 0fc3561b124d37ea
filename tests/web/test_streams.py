"""Live streams on the page, from the server's messages (JavaScript, run in Node)."""

from __future__ import annotations

import json

from stream.server.http.static_files import WEB
from tests.web.fakes import FAKES, run


def test_streams_of_one_id_in_two_tenants_are_shown_apart() -> None:
    """A key that watches several tenants got two streams of one id, and the page dropped one."""
    module = json.dumps((WEB / "monitor/streams.js").as_uri())
    found = run(f"""
      {FAKES}
      globalThis.navigator = {{ languages: ["en"] }};
      globalThis.localStorage = {{ getItem: () => null }};
      globalThis.document = {{ documentElement: {{}} }};
      const {{ Streams, partsOf }} = await import({module});
      const streams = new Streams();
      const ts = "2026-01-01T00:00:00.000Z";
      const snapshot = (session_id, more) => ({{
        stream_id: "call-1", session_id, state: "active", started: ts, roles: ["speaker"],
        analysed: [0], tags: [], speaking: [], last: [], ...more,
      }});
      streams.apply({{ type: "snapshot", ts, streams: [
        snapshot("a", {{ tenant: "acme" }}), snapshot("g", {{ tenant: "globex" }}), snapshot("d"),
      ] }}, 0);
      const closed = {{ type: "session.closed", ts, summary: [], totals: {{}} }};
      streams.apply({{ ...closed, tenant: "globex", stream_id: "call-1", session_id: "g" }}, 0);
      print([streams.all.map((s) => [s.id, s.state]), partsOf("acme/call-1"), partsOf("call-1")]);
    """)
    assert found == [
        [["acme/call-1", "active"], ["globex/call-1", "ended"], ["call-1", "active"]],
        ["acme", "call-1"],
        ["", "call-1"],
    ]


def test_alerts_of_a_stream_are_open_until_their_end() -> None:
    """An acknowledged alert no longer moves its stream to the top, and a new one does again."""
    module = json.dumps((WEB / "monitor/alerts.js").as_uri())
    found = run(f"""
      {FAKES}
      const {{ Alerts }} = await import({module});
      const alerts = new Alerts();
      const step = (id, state, severity = "critical") => alerts.apply({{ id, state, severity }});
      const seen = [];
      const note = () => seen.push([alerts.rank, alerts.open.length, alerts.past.length]);
      step("a", "new"); note();
      step("b", "new", "warning"); note();
      alerts.acknowledge("a"); note();
      step("a", "update"); note();
      step("a", "end"); note();
      alerts.replace([{{ id: "c", severity: "info" }}]); note();
      for (let n = 0; n < 80; n += 1) step(`x${{n}}`, "end");
      note();
      print(seen);
    """)
    assert found == [
        [3, 1, 0],
        [3, 2, 0],
        [2, 2, 0],
        [2, 2, 0],
        [2, 1, 1],
        [1, 1, 1],
        [1, 1, 50],
    ]


def test_a_stream_whose_producer_is_away_is_shown_so() -> None:
    """The page showed a call as live, with someone speaking, until a minute after it had broken."""
    module = json.dumps((WEB / "monitor/streams.js").as_uri())
    found = run(f"""
      {FAKES}
      globalThis.navigator = {{ languages: ["en"] }};
      globalThis.localStorage = {{ getItem: () => null }};
      globalThis.document = {{ documentElement: {{}} }};
      const {{ Streams }} = await import({module});
      const streams = new Streams();
      const common = {{ ts: "2026-01-01T00:00:00.000Z", stream_id: "call-1", session_id: "a" }};
      streams.apply({{ type: "snapshot", ts: common.ts, streams: [{{
        ...common, state: "active", started: common.ts, roles: ["speaker"], analysed: [0],
        tags: [], speaking: [], last: [],
      }}] }}, 0);
      const seen = [];
      for (const type of ["speech.start", "stream.detached", "session.resumed", "stream.paused"]) {{
        streams.apply({{ ...common, type, channel: 0, audio_ms: 100 }}, 0);
        const stream = streams.get("call-1");
        seen.push([stream.state, stream.channels.get(0).speaking, streams.live.length]);
      }}
      print(seen);
    """)
    assert found == [
        ["active", True, 1],
        ["detached", False, 1],
        ["active", True, 1],
        ["paused", True, 1],
    ]
