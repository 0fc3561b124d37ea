"""The reconnecting WebSocket of emotide.js, run in Node with its own clock and network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.server.http.static_files import WEB
from tests.web.fakes import FAKES, run

MODULE = (WEB / "emotide.js").as_uri()
API = (WEB / "api.js").as_uri()
HELPERS = """
const paths = [];
const sockets = [];
const states = [];
const received = [];
let opening = async () => new WebSocket();
let lost = () => undefined;
let number = 0;
const socket = reconnectingSocket(() => `v1/test?${(number += 1)}`, {
  received: (message) => received.push(message),
  lost: (closing) => lost(closing),
  changed: (state, detail) => states.push([state, detail]),
}, async (path) => {
  paths.push(path);
  const made = await opening();
  sockets.push(made);
  return made;
});
const connected = async () => {
  await socket.connect();
  sockets.at(-1).open();
  return sockets.at(-1);
};
/** Return the delay in ms until the next attempt, and wait for it. */
const delay = async () => {
  const before = now;
  const count = paths.length;
  for (let n = 0; n < 1e5 && paths.length === count; n += 1) await advance(1);
  return now - before;
};
const names = () => states.map(([state]) => state);
"""


def node(script: str) -> Any:
    """Return what the script prints as JSON."""
    imports = (
        f"import {{ isRefusal, reconnectingSocket }} from {json.dumps(MODULE)};\n"
        f"import {{ HttpError, NotSignedIn }} from {json.dumps(API)};\n"
    )
    return run(imports + FAKES + HELPERS + script)


def delays(count: int, draws: list[float], retry_after: float = 0) -> Any:
    """Return the first `count` delays in ms towards a server that refuses every connection."""
    return node(f"""
      draws.push(...{draws});
      const headers = new Headers({{ "Retry-After": "{retry_after:.0f}" }});
      opening = async () => {{ throw new HttpError("v1/info", {{ status: 503, headers }}); }};
      await socket.connect();
      for (let n = 0; n < {count} && timers.length; n += 1) await advance(timers[0].at - now);
      print(states.filter(([state]) => state === "waiting").map(([, {{ ms }}]) => ms));
    """)[:count]


def test_delays_double_from_a_fifth_of_a_second_to_ten_seconds() -> None:
    found = delays(9, [])
    assert found == [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]


def test_two_thousand_failures_in_a_row_keep_the_bound() -> None:
    assert delays(2000, [])[-1] == 10_000


def test_each_delay_is_drawn_between_zero_and_its_bound() -> None:
    """The recordings view reconnected without jitter, so all pages came at the same moment."""
    assert delays(3, [0, 0.25, 0.999]) == [0, 100, pytest.approx(799.2)]


def test_the_server_sets_the_shortest_delay() -> None:
    assert delays(2, [0, 0.5], retry_after=5) == [5000, 5200]
    assert delays(1, [0], retry_after=1e9) == [3_600_000]


def test_refusals_are_the_codes_after_which_reconnecting_is_useless() -> None:
    codes = [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4408, 4503, 5000]
    refusals = [4000, 4400, 4401, 4403, 4404, 4409, 4410, 4415, 4429, 4999]
    found = node(f"print({codes + refusals}.filter(isRefusal));")
    assert found == refusals


@pytest.mark.parametrize("code", [1005, 1006, 1012, 1013, 4503])
def test_a_lost_connection_is_replaced(code: int) -> None:
    found = node(f"""
      const first = await connected();
      first.end({code});
      const waited = await delay();
      sockets.at(-1).open();
      print({{ waited, paths, states }});
    """)
    assert found["waited"] == 200
    assert found["paths"] == ["v1/test?1", "v1/test?2"], "the path is asked for each time"
    assert found["states"] == [
        ["connecting", {}],
        ["open", {}],
        ["waiting", {"ms": 200, "failures": 1, "reason": ""}],
        ["connecting", {}],
        ["open", {}],
    ]


def test_the_delay_grows_until_a_connection_has_lasted() -> None:
    """A server that accepts and closes at once must not be asked again without a pause."""
    found = node("""
      const delays = [];
      await connected();
      for (const lasted of [0, 4999, 4999, 5000, 0]) {
        await advance(lasted);
        sockets.at(-1).end(1006);
        delays.push(await delay());
        sockets.at(-1).open();
      }
      const { failures } = states.at(-3)[1];
      print({ delays, failures });
    """)
    assert found["delays"] == [200, 400, 800, 200, 400]
    assert found["failures"] == 2


def test_a_server_that_cannot_be_reached_is_asked_less_and_less() -> None:
    found = node("""
      opening = async () => { throw new TypeError("Failed to fetch"); };
      await socket.connect();
      const delays = [await delay(), await delay(), await delay()];
      const waiting = states.filter(([state]) => state === "waiting");
      print({ delays, failures: waiting.map(([, { failures }]) => failures) });
    """)
    assert found == {"delays": [200, 400, 800], "failures": [1, 2, 3, 4]}


def test_retry_after_of_a_response_is_honoured() -> None:
    found = node("""
      const headers = new Headers({ "Retry-After": "3" });
      opening = async () => { throw new HttpError("v1/info", { status: 503, headers }); };
      await socket.connect();
      print([await delay(), states.at(1)]);
    """)
    assert found == [3200, ["waiting", {"ms": 3200, "failures": 1, "reason": "/v1/info: 503"}]]


def test_a_retry_after_that_is_a_date_counts_as_none() -> None:
    found = node("""
      const headers = new Headers({ "Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT" });
      print(new HttpError("v1/info", { status: 503, headers }).retryAfterS);
    """)
    assert found == 0


def test_retry_after_of_an_error_message_is_honoured_once() -> None:
    found = node("""
      const first = await connected();
      first.receive({ type: "error", code: "overloaded", fatal: true, retry_after_s: 5 });
      first.end(1013, "overloaded");
      const delays = [await delay()];
      sockets.at(-1).open();
      sockets.at(-1).end(1006);
      delays.push(await delay());
      print({ delays, received });
    """)
    assert found["delays"] == [5200, 400]
    assert found["received"][0]["code"] == "overloaded", "the owner gets the message too"


def test_an_error_that_is_not_fatal_does_not_delay() -> None:
    found = node("""
      const first = await connected();
      first.receive({ type: "error", code: "disk_full", fatal: false, retry_after_s: 60 });
      first.end(1006);
      print(await delay());
    """)
    assert found == 200


def test_a_refusal_is_final_until_the_user_connects() -> None:
    found = node("""
      const first = await connected();
      first.receive({ type: "error", code: "invalid_message", fatal: true });
      first.end(4400, "invalid_message");
      await advance(3_600_000);
      const before = paths.length;
      await connected();
      print({ before, states });
    """)
    assert found["before"] == 1
    refused, *again = found["states"][2:]
    assert refused[0] == "refused"
    assert refused[1]["code"] == 4400
    assert refused[1]["error"]["code"] == "invalid_message"
    assert [state for state, _ in again] == ["connecting", "open"]


@pytest.mark.parametrize(
    ("code", "decision", "state"), [(4404, "false", "waiting"), (1006, "true", "refused")]
)
def test_the_owner_decides_about_a_close(code: int, decision: str, state: str) -> None:
    """An expired session closes with 4404, and the microphone then starts a new one."""
    found = node(f"""
      lost = () => {decision};
      (await connected()).end({code});
      print(names());
    """)
    assert found == ["connecting", "open", state]


def test_the_owner_may_close_when_a_connection_is_lost() -> None:
    found = node("""
      lost = () => socket.close();
      (await connected()).end(1006);
      await advance(60_000);
      print([names(), paths.length]);
    """)
    assert found == [["connecting", "open"], 1]


def test_without_a_key_there_is_no_further_attempt() -> None:
    found = node("""
      opening = async () => { throw new NotSignedIn("no key was given"); };
      await socket.connect();
      await advance(60_000);
      print([states, paths.length]);
    """)
    assert found == [[["connecting", {}], ["locked", {"reason": "no key was given"}]], 1]


def test_a_closed_socket_stays_closed() -> None:
    """The recordings view closes an unused connection, and none of its timers may survive that."""
    found = node("""
      const first = await connected();
      socket.close();
      first.end(1000);
      await advance(60_000);
      const idle = [first.closed, paths.length, names()];
      (await connected()).end(1006);
      socket.close();
      await advance(60_000);
      print({ idle, paths: paths.length });
    """)
    assert found["idle"] == [[1000, None], 1, ["connecting", "open"]]
    assert found["paths"] == 2, "the timer of the next attempt is cancelled"


def test_a_socket_that_arrives_after_close_is_closed() -> None:
    found = node("""
      let arrive;
      opening = () => new Promise((resolve) => (arrive = resolve));
      const connecting = socket.connect();
      socket.close();
      const late = new WebSocket();
      arrive(late);
      await connecting;
      print([late.closed !== null, socket.isOpen(), names()]);
    """)
    assert found == [True, False, ["connecting"]]


def test_a_second_connect_does_nothing() -> None:
    found = node("""
      await Promise.all([socket.connect(), socket.connect()]);
      await socket.connect();
      print(paths.length);
    """)
    assert found == 1


def test_a_dropped_connection_is_closed_and_replaced() -> None:
    found = node("""
      const first = await connected();
      socket.drop();
      first.receive({ type: "late" });
      first.end(1006);
      const waited = await delay();
      print({ closed: first.closed, waited, received, attempts: paths.length });
    """)
    assert found == {"closed": [4000, "no answer"], "waited": 200, "received": [], "attempts": 2}


def test_a_handshake_that_never_ends_is_given_up() -> None:
    found = node("""
      await socket.connect();
      await advance(9_999);
      const before = names();
      await advance(1);
      print([before, names(), sockets[0].closed[0]]);
    """)
    assert found == [["connecting"], ["connecting", "waiting"], 4000]


def test_the_next_attempt_follows_at_once_when_the_network_returns() -> None:
    found = node("""
      opening = async () => { throw new TypeError("Failed to fetch"); };
      await socket.connect();
      opening = async () => new WebSocket();
      listeners.online();
      await settle();
      sockets.at(-1).open();
      listeners.online();
      socket.close();
      await advance(60_000);
      print({ paths: paths.length, now, listening: "online" in listeners });
    """)
    assert found == {"paths": 2, "now": 60_000, "listening": False}


def test_messages_are_sent_as_json_and_audio_as_bytes() -> None:
    found = node("""
      socket.send({ type: "too early" });
      const before = socket.bufferedAmount();
      const first = await connected();
      first.bufferedAmount = 7;
      const pcm = new Int16Array(4);
      socket.send({ type: "list" });
      socket.send(pcm);
      socket.send(pcm.buffer);
      const [text, view, buffer] = first.sent;
      const same = [view === pcm, buffer === pcm.buffer];
      print([first.sent.length, text, ...same, before, socket.bufferedAmount()]);
    """)
    assert found == [3, '{"type":"list"}', True, True, 0, 7]
