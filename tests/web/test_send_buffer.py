"""The send buffer of the microphone, for interrupted connections (JavaScript, run in Node)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from stream.server.http.static_files import WEB

MODULE = (WEB / "emotide.js").as_uri()
HELPERS = """
const chunk = (first, length) => Int16Array.from({ length }, (_, i) => first + i);
const drain = (buffer, ahead = Infinity) => {
  const taken = [];
  for (let next; (next = buffer.take(ahead)); ) {
    const { skippedMs, samples } = next;
    taken.push(skippedMs ? { skippedMs } : [samples[0], samples.length]);
  }
  return taken;
};
"""


def node(script: str) -> Any:
    """Return what the script prints as JSON."""
    text = f"import {{ SendBuffer }} from {json.dumps(MODULE)};\n{HELPERS}\n{script}"
    command = ["node", "--input-type=module", "-e", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_samples_are_sent_once_and_kept_until_acknowledged() -> None:
    found = node("""
      const buffer = new SendBuffer(1000);
      for (let i = 0; i < 4; i += 1) buffer.append(chunk(i * 100, 100));
      const first = drain(buffer);
      const again = drain(buffer);
      buffer.acknowledge(250);
      console.log(JSON.stringify({ first, again, kept: buffer.length, allSent: buffer.allSent }));
    """)
    assert found["first"] == [[0, 100], [100, 100], [200, 100], [300, 100]]
    assert found["again"] == []
    assert found["kept"] == 200, "a chunk is kept until the server has all of it"
    assert found["allSent"]


def test_a_new_connection_continues_at_the_position_of_the_server() -> None:
    found = node("""
      const buffer = new SendBuffer(1000);
      for (let i = 0; i < 4; i += 1) buffer.append(chunk(i * 100, 100));
      drain(buffer);
      buffer.rewind(130);
      console.log(JSON.stringify(drain(buffer)));
    """)
    assert found == [[130, 70], [200, 100], [300, 100]]


def test_the_oldest_samples_beyond_the_capacity_become_skipped_time() -> None:
    """Without a network for two minutes, one minute is kept; the other becomes silence."""
    found = node("""
      const buffer = new SendBuffer(3200);
      for (let i = 0; i < 5; i += 1) buffer.append(chunk(i * 1600, 1600));
      const kept = buffer.length;
      buffer.rewind(0);
      console.log(JSON.stringify({ kept, taken: drain(buffer) }));
    """)
    assert found["kept"] == 3200
    assert found["taken"] == [{"skippedMs": 300}, [4800, 1600], [6400, 1600]]


def test_unacknowledged_samples_are_bounded() -> None:
    found = node("""
      const buffer = new SendBuffer(10000);
      for (let i = 0; i < 8; i += 1) buffer.append(chunk(i * 100, 100));
      const first = drain(buffer, 300).length;
      buffer.acknowledge(200);
      const then = drain(buffer, 300).length;
      console.log(JSON.stringify([first, then]));
    """)
    assert found == [3, 2]


def test_a_new_session_starts_with_the_oldest_sample_that_is_kept() -> None:
    found = node("""
      const buffer = new SendBuffer(1000);
      for (let i = 0; i < 4; i += 1) buffer.append(chunk(i * 100, 100));
      drain(buffer);
      buffer.acknowledge(200);
      buffer.restart();
      const taken = drain(buffer);
      buffer.append(chunk(400, 100));
      console.log(JSON.stringify({ taken, next: drain(buffer), end: buffer.end }));
    """)
    assert found == {"taken": [[200, 100], [300, 100]], "next": [[400, 100]], "end": 300}
