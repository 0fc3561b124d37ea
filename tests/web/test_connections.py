"""The page's three connections to the server on a scripted network (JavaScript, run in Node)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.server.http.static_files import WEB
from tests.web.fakes import FAKES, run

PAGE = """
globalThis.document = { baseURI: "http://emotide.test/" };
globalThis.sessionStorage = { getItem: () => null };
let info = { login: false };
globalThis.fetch = async () => {
  if (info === null) throw new TypeError("Failed to fetch");
  return { ok: true, status: 200, json: async () => info };
};
/** Let the next attempt fail, after waiting for the page to create its socket. */
const fail = async () => {
  for (let n = 0; n < 20_000 && WebSocket.all.at(-1).readyState; n += 10) await advance(10);
  WebSocket.all.at(-1).end(1006);
};
/** Return the newest socket, after waiting for the page to create and this script to open it. */
const open = async () => {
  const count = WebSocket.all.filter(({ readyState }) => readyState > 0).length;
  for (let n = 0; n < 20_000 && WebSocket.all.length <= count; n += 10) await advance(10);
  await settle();
  const socket = WebSocket.all.at(-1);
  socket.open();
  await settle();
  return socket;
};
const parse = (data) => typeof data === "string" ? JSON.parse(data) : data;
const messages = (socket) => socket.sent.map(parse);
const types = (socket) => messages(socket).map((message) => message.type ?? message.byteLength);
"""


def node(names: str, path: str, script: str) -> Any:
    """Return what the script prints, with `names` imported from a module of the page."""
    module = json.dumps((WEB / path).as_uri())
    return run(f"import {{ {names} }} from {module};\n{FAKES}{PAGE}{script}")


def feed(script: str) -> Any:
    helpers = """
      const states = [];
      const feed = new Feed();
      feed.onState((state) => states.push(state));
      feed.subscribe("page", { rate_hz: 2 });
      feed.connect();
    """
    return node("Feed", "monitor/feed.js", helpers + script)


def test_the_feed_subscribes_again_after_a_restart_of_the_server() -> None:
    found = feed("""
      const first = await open();
      first.receive({ type: "subscribed", id: "page" });
      first.end(1012, "draining");
      const second = await open();
      second.receive({ type: "subscribed", id: "page" });
      print({ states, sent: messages(second) });
    """)
    assert found["states"] == ["connecting", "live", "waiting", "connecting", "live"]
    assert found["sent"] == [{"type": "subscribe", "id": "page", "rate_hz": 2}]


def test_the_feed_drops_a_connection_that_does_not_answer() -> None:
    found = feed("""
      const first = await open();
      first.receive({ type: "subscribed", id: "page" });
      await advance(20_000);
      first.receive({ type: "subscriptions", ids: ["page"] });
      await advance(20_000);
      const before = first.closed;
      await advance(20_000);
      print({ before, closed: first.closed, sent: types(first), states });
    """)
    assert found["before"] is None
    assert found["closed"] == [4000, "no answer"]
    assert found["sent"] == ["subscribe", "list", "list"]
    assert found["states"][:3] == ["connecting", "live", "waiting"]


@pytest.mark.parametrize(("code", "state"), [(4400, "refused"), (4408, "waiting")])
def test_the_feed_stops_on_a_refusal_but_not_after_a_sleep(code: int, state: str) -> None:
    """While a computer sleeps, the server closes its connection with 4408 `slow_consumer`."""
    found = feed(f"""
      (await open()).end({code});
      print(states.at(-1));
    """)
    assert found == state


def microphone(script: str) -> Any:
    """Run a script with a stream, as the microphone has one; `changes` are its client's events."""
    helpers = """
      const changes = [];
      const events = [];
      const emotide = new Emotide({ url: "http://emotide.test" });
      const connection = emotide.stream({ stream_id: "mic" });
      connection.on("*", (event) => {
        const { type, ...detail } = event;
        if (type.startsWith("client.")) changes.push([type.slice(7), detail]);
        else events.push(type);
      });
      const started = (socket, seq = 0) => {
        socket.receive({ type: "session.created", seq });
        socket.receive({ type: "session.updated", seq: seq + 1, resume_token: "token" });
      };
      const chunk = () => connection.send(new Int16Array(1_600));
      const second = () => { for (let n = 0; n < 10; n += 1) chunk(); };
      const reasons = () =>
        changes.map(([state]) => state).filter((state) => state !== "connecting");
      /** Return the types of messages, and in their order the samples that were sent together. */
      const sent = (socket) => types(socket).reduce((all, one) => {
        const value = typeof one === "number" ? one / 2 : one;
        const more = typeof one === "number" && typeof all.at(-1) === "number";
        return more ? [...all.slice(0, -1), all.at(-1) + value] : [...all, value];
      }, []);
    """
    return node("Emotide", "emotide.js", helpers + script)


def test_the_microphone_resumes_and_sends_what_the_server_lacks() -> None:
    found = microphone("""
      const first = await open();
      started(first);
      second();
      second();
      first.end(1006);
      second();
      const next = await open();
      next.receive({ type: "session.resumed", seq: 2, received_samples: 20_000 });
      const [, last] = changes.at(-1);
      print({ url: next.url, sent: sent(next), reasons: reasons(), last, events });
    """)
    assert found["url"] == "ws://emotide.test/v1/stream?resume=token&last_seq=1"
    assert found["sent"] == [12_000 + 16_000]
    assert found["reasons"] == ["connected", "reconnecting", "resumed"]
    assert found["last"] == {"skipped_ms": 0}
    assert found["events"] == ["session.updated", "session.resumed"]


def test_the_microphone_starts_a_new_session_when_the_old_one_expired() -> None:
    """The close is 4404, a refusal, and yet another connection succeeds."""
    found = microphone("""
      const first = await open();
      started(first);
      second();
      first.end(1006);
      const next = await open();
      next.receive({ type: "error", code: "unknown_stream", fatal: true });
      next.end(4404, "unknown_stream");
      const last = await open();
      started(last);
      print({ url: last.url, sent: sent(last), reasons: reasons() });
    """)
    assert found["url"] == "ws://emotide.test/v1/stream"
    assert found["sent"] == ["session.update", 16_000]
    expected = ["connected", "reconnecting", "restarted", "reconnecting", "connected"]
    assert found["reasons"] == expected


def test_the_microphone_goes_on_with_a_new_session_at_the_longest_duration() -> None:
    """The page stopped without a reason, in the middle of a word.

    The numbers of the new session's events begin at 0 again.
    """
    found = microphone("""
      const first = await open();
      started(first);
      second();
      const error = { type: "error", seq: 7, code: "session_expired", fatal: true };
      first.receive(error);
      second();
      first.receive({ type: "audio.ack", seq: 8, received_samples: 16_000 });
      const totals = { audio_ms: 1000 };
      first.receive({ type: "session.closed", seq: 9, reason: "session_expired", totals });
      first.end(4410, "session_expired");
      const last = await open();
      started(last);
      last.receive({ type: "emotion.score", seq: 2 });
      const { why } = changes.find(([state]) => state === "restarted")[1];
      print({ url: last.url, sent: sent(last), reasons: reasons(), why, events });
    """)
    assert found["url"] == "ws://emotide.test/v1/stream"
    assert found["sent"] == ["session.update", 16_000], "the second that the old session lacks"
    assert found["reasons"] == ["connected", "restarted", "reconnecting", "connected"]
    assert found["why"] == "session_expired"
    assert found["events"] == [
        *("session.updated", "audio.ack", "session.updated", "emotion.score"),
    ]


def test_an_interrupted_microphone_keeps_its_session() -> None:
    """A phone call of half a minute ended the session as idle, and the page said "refused".

    The interruption passes on the stream's clock as well.
    """
    found = microphone("""
      const first = await open();
      started(first);
      second();
      connection.command({ type: "input.flush" });
      for (let n = 0; n < 40; n += 1) {
        await advance(1_000);
        first.receive({ type: "audio.ack", seq: 2 + n, received_samples: 16_000 });
      }
      connection.skip(40_000);
      second();
      first.receive({ type: "audio.ack", seq: 99, received_samples: 41 * 16_000 });
      const skipped = messages(first).find(({ type }) => type === "input.resume");
      print({ sent: sent(first), skipped, closed: first.closed });
    """)
    sent = found["sent"]
    assert sent[:3] == ["session.update", 16_000, "input.flush"]
    assert sent[-2:] == ["input.resume", 16_000]
    assert set(sent[3:-2]) == {"keepalive"}
    assert 5 <= len(sent[3:-2]) <= 9
    assert found["skipped"] == {"type": "input.resume", "skipped_ms": 40_000}
    assert found["closed"] is None


@pytest.mark.parametrize(
    ("event", "code", "reason", "shown"),
    [
        ("disclosure_required", 4403, "disclosure_required", "disclosure_required"),
        ("message_too_large", 1009, "message_too_large", "message_too_large"),
        (None, 4409, "resumed elsewhere", "stream_conflict"),
        (None, 4429, "rate_limited", "rate_limited"),
    ],
)
def test_the_microphone_stops_on_a_refusal(
    event: str | None, code: int, reason: str, shown: str
) -> None:
    """Two pages with one session would otherwise take it from each other for ever."""
    error = json.dumps({"type": "error", "code": event, "fatal": True, "message": "no"})
    found = microphone(f"""
      const first = await open();
      started(first);
      if ({json.dumps(event)}) first.receive({error});
      first.end({code}, {json.dumps(reason)});
      await advance(60_000);
      const [state, {{ code, error }}] = changes.at(-1);
      print({{ state, code, shown: error.code, sockets: WebSocket.all.length }});
    """)
    assert found == {"state": "failed", "code": "refused", "shown": shown, "sockets": 1}


@pytest.mark.parametrize("code", ["internal_error", "draining", "overloaded"])
def test_the_microphone_waits_as_long_as_the_server_asks(code: str) -> None:
    error = json.dumps({"type": "error", "code": code, "fatal": True, "retry_after_s": 5})
    found = microphone(f"""
      const first = await open();
      started(first);
      const before = now;
      first.receive({error});
      first.end(1013);
      await open();
      print({{ waited: now - before, states: reasons(), why: changes.at(-2)[1].why }});
    """)
    assert found["waited"] == pytest.approx(5200, abs=10)
    assert found["states"] == ["connected", "reconnecting"]
    assert found["why"] == code


def test_a_restart_of_the_server_starts_a_new_session_with_what_the_old_one_lacks() -> None:
    """The page stopped when a newer server replaced the old one, which drains its sessions."""
    found = microphone("""
      const first = await open();
      started(first);
      second();
      first.receive({ type: "error", seq: 2, code: "draining", fatal: true, retry_after_s: 1 });
      second();
      const totals = { audio_ms: 1500 };
      first.receive({ type: "session.closed", seq: 3, reason: "draining", totals });
      first.end(1012, "draining");
      const last = await open();
      started(last);
      const { why } = changes.find(([state]) => state === "restarted")[1];
      print({ url: last.url, sent: sent(last), reasons: reasons(), why, events });
    """)
    assert found["url"] == "ws://emotide.test/v1/stream"
    assert found["sent"] == ["session.update", 8_000]
    assert found["reasons"] == ["connected", "restarted", "reconnecting", "connected"]
    assert found["why"] == "draining"
    assert "session.closed" not in found["events"]


def test_the_microphone_drops_a_connection_without_acknowledgements() -> None:
    found = microphone("""
      const first = await open();
      started(first);
      for (let n = 0; n < 20; n += 1) {
        await advance(1_000);
        first.receive({ type: "audio.ack", seq: 2 + n, received_samples: 0 });
      }
      const before = first.closed;
      await advance(9_000);
      print([before, first.closed]);
    """)
    assert found == [None, [4000, "no answer"]]


def test_a_server_that_never_answered_is_unreachable_after_a_moment() -> None:
    found = microphone("""
      info = null;
      await advance(60_000);
      print({ changes, now: timers.length });
    """)
    failure = {"code": "server", "message": "Failed to fetch", "error": None}
    assert found["changes"][-1] == ["failed", failure]
    assert found["now"] == 0, "no timer is left"


def test_a_server_that_was_there_is_waited_for() -> None:
    found = microphone("""
      started(await open());
      WebSocket.all.at(-1).end(1006);
      for (let n = 0; n < 6; n += 1) {
        await fail();
      }
      print(reasons());
    """)
    assert found == ["connected", *["reconnecting"] * 7]


def recordings(script: str) -> Any:
    helpers = """
      const states = [];
      const settled = [];
      const connection = new UploadConnection({
        state: (state) => states.push(state),
        ready: () => states.push("offer"),
      });
      const ready = { type: "files.ready", limits: { max_message_bytes: 1000 } };
      const file = new Blob([new Uint8Array(2500)]);
      const analyse = () => connection.analyse(file, "a.wav", {}, () => {}).then(
        ({ result }) => settled.push(result),
        (error) => settled.push([error.constructor.name, error.code ?? ""]));
      /** Wait for the real reads of the file, which the clock of the test does not move. */
      const sent = async (socket, count) => {
        for (let n = 0; n < 2000 && socket.sent.length < count; n += 1) {
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      connection.connect();
    """
    return node("UploadConnection", "recordings/transfer/connection.js", helpers + script)


def test_a_file_is_sent_in_pieces_and_its_result_returned() -> None:
    found = recordings("""
      const socket = await open();
      socket.receive(ready);
      const busy = [connection.ready];
      analyse();
      busy.push(connection.ready);
      await sent(socket, 5);
      socket.receive({ type: "file.accepted", file_id: "f1" });
      socket.receive({ type: "file.done", file_id: "f0", result: "of an earlier file" });
      socket.receive({ type: "file.done", file_id: "f1", result: "done" });
      await settle();
      print({ sent: types(socket), settled, busy, ready: connection.ready });
    """)
    assert found["sent"] == ["file.begin", 1000, 1000, 500, "file.end"]
    assert found["settled"] == ["done"]
    assert (found["busy"], found["ready"]) == ([True, False], True)


def test_an_unused_connection_is_closed_and_not_replaced() -> None:
    """The server bounds the number of connections, and every open page would hold one."""
    found = recordings("""
      const socket = await open();
      socket.receive(ready);
      await advance(19_000);
      const before = socket.closed;
      await advance(60_000);
      const { ready: usable } = connection;
      print({ before, closed: socket.closed, sockets: WebSocket.all.length, states, usable });
    """)
    assert found["before"] is None
    assert found["closed"][0] == 1000
    assert (found["sockets"], found["usable"]) == (1, False)
    assert found["states"] == ["connecting", "ready", "offer"]


def test_a_lost_connection_fails_the_file_and_returns_however_long_it_takes() -> None:
    """The timer for unused connections ran on after a loss and could end the reconnecting."""
    found = recordings("""
      const socket = await open();
      socket.receive(ready);
      analyse();
      await sent(socket, 5);
      info = null;
      socket.end(1006);
      await settle();
      for (let n = 0; n < 30; n += 1) {
        await fail();
      }
      const waited = now;
      (await open()).receive(ready);
      print({ settled, waited, ready: connection.ready, last: states.slice(-3) });
    """)
    assert found["settled"] == [["UploadError", "connection_lost"]]
    assert found["waited"] > 60_000
    assert found["ready"] is True
    assert found["last"] == ["connecting", "ready", "offer"]


def test_a_refused_connection_fails_the_file_with_the_servers_reason() -> None:
    found = recordings("""
      const socket = await open();
      socket.receive(ready);
      analyse();
      socket.receive({ type: "error", code: "invalid_message", message: "no", fatal: true });
      socket.end(4400, "invalid_message");
      await advance(600_000);
      print({ settled, state: states.at(-1), sockets: WebSocket.all.length });
    """)
    assert found["settled"] == [["UploadError", "invalid_message"]]
    assert (found["state"], found["sockets"]) == ("refused", 1)


def test_a_cancelled_file_without_an_answer_needs_another_connection() -> None:
    found = recordings("""
      const socket = await open();
      socket.receive(ready);
      analyse();
      connection.cancel();
      await advance(8_000);
      const closed = socket.closed;
      (await open()).receive(ready);
      print({ sent: types(socket).filter((type) => type === "file.cancel"), closed, settled });
    """)
    assert found["sent"] == ["file.cancel"]
    assert found["closed"] == [4000, "no answer"]
    assert found["settled"] == [["Cancelled", ""]]
