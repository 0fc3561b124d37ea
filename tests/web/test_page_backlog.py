"""What the page's microphone keeps while there is no connection (JavaScript, run in Node)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from stream.server.pages import WEB

MODULE = (WEB / "microphone" / "backlog.js").as_uri()
HELPERS = """
const chunk = (first, length) => Int16Array.from({ length }, (_, i) => first + i);
const drain = (backlog, acknowledged = 0, ahead = Infinity) => {
  const told = [];
  for (let next; (next = backlog.take(acknowledged, ahead)); ) {
    told.push(next.skipped ? { skipped: next.skipped } : [next.samples[0], next.samples.length]);
  }
  return told;
};
"""


def node(script: str) -> Any:
    text = f"import {{ Backlog }} from {json.dumps(MODULE)};\n{HELPERS}\n{script}"
    command = ["node", "--input-type=module", "-e", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_everything_is_sent_once_and_held_until_the_server_has_it() -> None:
    found = node("""
      const backlog = new Backlog(1000);
      for (let i = 0; i < 4; i += 1) backlog.append(chunk(i * 100, 100));
      const first = drain(backlog);
      const again = drain(backlog);
      backlog.acknowledge(250);
      console.log(JSON.stringify({ first, again, held: backlog.held, drained: backlog.drained }));
    """)
    assert found["first"] == [[0, 100], [100, 100], [200, 100], [300, 100]]
    assert found["again"] == []
    assert found["held"] == 200, "a piece is kept until the server has all of it"
    assert found["drained"]


def test_a_new_connection_goes_on_where_the_server_is() -> None:
    found = node("""
      const backlog = new Backlog(1000);
      for (let i = 0; i < 4; i += 1) backlog.append(chunk(i * 100, 100));
      drain(backlog);
      backlog.rewind(130);
      console.log(JSON.stringify(drain(backlog)));
    """)
    assert found == [[130, 70], [200, 100], [300, 100]]


def test_what_does_not_fit_goes_at_the_old_end_and_is_told() -> None:
    """Two minutes without a network: one is kept, the other becomes silence of the same length."""
    found = node("""
      const backlog = new Backlog(3200);
      for (let i = 0; i < 5; i += 1) backlog.append(chunk(i * 1600, 1600));
      const held = backlog.held;
      backlog.rewind(0);
      console.log(JSON.stringify({ held, told: drain(backlog) }));
    """)
    assert found["held"] == 3200
    assert found["told"] == [{"skipped": 300}, [4800, 1600], [6400, 1600]]


def test_no_more_is_on_its_way_than_the_server_may_lack() -> None:
    found = node("""
      const backlog = new Backlog(10000);
      for (let i = 0; i < 8; i += 1) backlog.append(chunk(i * 100, 100));
      const first = drain(backlog, 0, 300).length;
      const then = drain(backlog, 200, 300).length;
      console.log(JSON.stringify([first, then]));
    """)
    assert found == [3, 2]


def test_a_new_session_begins_with_the_oldest_that_is_held() -> None:
    found = node("""
      const backlog = new Backlog(1000);
      for (let i = 0; i < 4; i += 1) backlog.append(chunk(i * 100, 100));
      drain(backlog);
      backlog.acknowledge(200);
      backlog.restart();
      const told = drain(backlog);
      backlog.append(chunk(400, 100));
      console.log(JSON.stringify({ told, next: drain(backlog), end: backlog.end }));
    """)
    assert found == {"told": [[200, 100], [300, 100]], "next": [[400, 100]], "end": 300}
