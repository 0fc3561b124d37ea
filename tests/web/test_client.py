"""The client for other pages and for Node: its size, its types, its package, its address."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from typing import Any

import pytest
from starlette.testclient import TestClient

from stream.config import ServerConfig
from stream.delivery.hub import Hub
from stream.server.access.auth import Authenticator
from stream.server.access.gate import Gate
from stream.server.http.application import Http
from stream.server.http.static_files import WEB
from stream.telemetry.metrics import Metrics
from tests.support.running import ROOT
from tests.web.fakes import FAKES, run

CLIENT = WEB / "emotide.js"
TYPES = (WEB / "emotide.d.ts").read_text("utf-8")
SHOP = "https://shop.example"
IGNORED = {"constructor", "emit"}


def client(script: str) -> Any:
    """Return what a script with the module as `client` prints."""
    return run(f"import * as client from {json.dumps(CLIENT.as_uri())};\n{FAKES}{script}")


def test_the_module_stays_below_25_kilobytes_and_imports_nothing() -> None:
    """Without the worklet; a page loads it before it can offer a button."""
    assert CLIENT.stat().st_size < 25_000
    for name in ("emotide.js", "emotide-worklet.js"):
        text = (WEB / name).read_text("utf-8")
        assert not re.search(r"^\s*import |\bimport\(|\brequire\(", text, re.M), name


def test_the_types_name_what_the_module_exports() -> None:
    declared = set(re.findall(r"^export (?:class|function) (\w+)", TYPES, re.M))
    assert set(client("print(Object.keys(client));")) == declared


def test_the_types_name_the_methods_of_each_class() -> None:
    found = client("""
      const classes = Object.entries(client).filter(([, value]) => value.prototype?.constructor);
      print(Object.fromEntries(classes.map(([name, { prototype }]) =>
        [name, Object.getOwnPropertyNames(prototype)])));
    """)
    for name, methods in found.items():
        body = re.search(rf"^export class {name}\b.*?^}}", TYPES, re.M | re.S)
        if body is None:
            continue  # A function.
        declared = set(re.findall(r"^  (?:readonly )?(\w+)[(<:?]", body[0], re.M))
        inherited = re.search(r"extends (\w+)", body[0])
        if inherited and inherited[1] in found:
            declared |= set(found[inherited[1]])
        missing = set(methods) - declared - IGNORED
        assert not missing, f"{name}: {missing}"


def test_the_package_has_the_version_and_the_files_of_the_project() -> None:
    package = json.loads((WEB / "package.json").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (package["version"], package["license"]) == (project["version"], project["license"])
    assert package["type"] == "module"
    assert all((WEB / name).is_file() for name in package["files"])
    assert not package.get("dependencies")


@pytest.fixture(scope="module")
def http() -> TestClient:
    """A client of the HTTP application of a server that one foreign page may use."""
    config = ServerConfig(origins=(SHOP,))
    app = Http(
        Gate(config, Authenticator([]), Metrics("test"), ()), {}, Hub(), bytes, None, 1
    ).app()
    return TestClient(app, base_url="http://localhost")


@pytest.mark.parametrize("path", ["/client.js", "/emotide-worklet.js"])
def test_pages_of_allowed_origins_may_import_the_client(http: TestClient, path: str) -> None:
    allowed = http.get(path, headers={"Origin": SHOP})
    assert allowed.headers["Access-Control-Allow-Origin"] == SHOP
    assert "Origin" in allowed.headers["Vary"]
    assert allowed.headers["Content-Type"] == "text/javascript; charset=utf-8"
    refused = http.get(path, headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_the_client_at_its_own_address_is_that_of_the_page(http: TestClient) -> None:
    first = http.get("/client.js")
    assert first.content == CLIENT.read_bytes()
    again = http.get("/client.js", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("url", "socket"),
    [
        ("https://h.example", "wss://h.example/v1/stream"),
        ("https://h.example/voice", "wss://h.example/voice/v1/stream"),
        ("http://h.example:8765/", "ws://h.example:8765/v1/stream"),
        ("wss://h.example/a/?b#c", "wss://h.example/a/v1/stream"),
    ],
)
def test_the_address_of_the_server_may_have_a_path(url: str, socket: str) -> None:
    found = client(f"""
      const emotide = new client.Emotide({{ url: {json.dumps(url)}, ticket: async () => "t" }});
      const {{ url, protocols }} = await emotide.open("v1/stream");
      print({{ url, protocols }});
    """)
    assert found == {"url": socket, "protocols": ["emotide.v1", "emotide.ticket.t"]}


@pytest.mark.parametrize("url", ["", "emotide.example", "file:///tmp/x", "javascript:1"])
def test_an_invalid_address_is_refused_by_name(url: str) -> None:
    found = client(f"""
      try {{
        new client.Emotide({{ url: {json.dumps(url)} }});
      }} catch (error) {{
        print([error.name, error.message]);
      }}
    """)
    assert found == ["TypeError", f'url: "{url}" is not an address of a server']


SERVER = """
const requests = [];
let login = true;
globalThis.fetch = async (url, { method = "GET", headers = {} } = {}) => {
  requests.push(`${method} ${url} ${headers.Authorization ?? ""}`.trim());
  const known = method === "GET" || headers.Authorization === "Bearer secret";
  return { ok: known, status: known ? 200 : 401, headers: new Map(),
           json: async () => ({ login, ticket: "t" }) };
};
const events = [];
const connect = async (options) => {
  const stream = new client.Emotide({ url: "http://h.example", ...options }).stream();
  stream.on("*", (event) => events.push([event.type, event.code ?? ""]));
  await settle();
  return WebSocket.all.at(-1)?.protocols ?? null;
};
"""


def test_a_key_is_exchanged_for_a_ticket() -> None:
    found = client(SERVER + 'print([await connect({ key: "secret" }), requests]);')
    assert found == [
        ["emotide.v1", "emotide.ticket.t"],
        ["GET http://h.example/v1/info", "POST http://h.example/v1/token Bearer secret"],
    ]


def test_a_server_without_keys_needs_no_ticket() -> None:
    found = client(SERVER + 'login = false; print(await connect({ key: "secret" }));')
    assert found == ["emotide.v1"]


@pytest.mark.parametrize("options", ["{}", '{ key: "wrong" }'])
def test_without_a_valid_key_there_is_one_failure_and_no_further_attempt(options: str) -> None:
    """A browser hides the status of a refused upgrade, so it would try for ever."""
    found = client(
        SERVER
        + f"""
      await connect({options});
      await advance(60_000);
      print({{ events, sockets: WebSocket.all.length, timers: timers.length }});
    """
    )
    assert found["events"] == [["client.failed", "login"]]
    assert (found["sockets"], found["timers"]) == (0, 0)


def test_a_ticket_that_is_not_to_be_had_now_is_requested_again() -> None:
    found = client(
        SERVER
        + """
      let attempts = 0;
      const ticket = async () => {
        attempts += 1;
        if (attempts < 3) throw new Error("the backend restarts");
        return "t";
      };
      await connect({ ticket });
      await advance(10_000);
      print({ attempts, events: events.map(([type]) => type), sockets: WebSocket.all.length });
    """
    )
    assert found["attempts"] == 3
    assert found["events"][:2] == ["client.reconnecting", "client.connecting"]
    assert found["sockets"] == 1


def test_a_failure_that_no_listener_receives_is_on_the_console() -> None:
    found = client(
        SERVER
        + """
      const printed = [];
      console.error = (text) => printed.push(text);
      const emotide = new client.Emotide({ url: "http://h.example" });
      emotide.stream();
      const heard = emotide.stream();
      heard.on("client.failed", () => {});
      await settle();
      print(printed);
    """
    )
    assert found == ["Emotide: login: the server requires a key: set `key` or `ticket`"]


def test_the_mistake_of_a_listener_does_not_end_the_stream() -> None:
    """It is reported as an uncaught exception, as those of DOM events are."""
    script = f"""
      import * as client from {json.dumps(CLIENT.as_uri())};
      {FAKES}{SERVER}
      let uncaught = 0;
      process.on("uncaughtException", () => (uncaught += 1));
      login = false;
      const stream = new client.Emotide({{ url: "http://h.example" }}).stream();
      stream.on("session.updated", () => {{ throw new Error("a mistake"); }});
      const seen = [];
      stream.on("*", ({{ type }}) => seen.push(type));
      await settle();
      const socket = WebSocket.all[0];
      socket.open();
      socket.receive({{ type: "session.created", seq: 0 }});
      socket.receive({{ type: "session.updated", seq: 1, resume_token: "token" }});
      socket.receive({{ type: "speech.start", seq: 2 }});
      setImmediate(() => print({{ uncaught, seen: seen.slice(-2), closed: socket.closed }}));
    """
    command = ["node", "--input-type=module", "-e", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {"uncaught": 1, "seen": ["session.updated", "speech.start"], "closed": None}


def test_stereo_at_another_rate_is_resumed_by_frames() -> None:
    """The server counts samples per channel."""
    found = client(
        SERVER
        + """
      login = false;
      const audio = { sample_rate: 8000, channels: 2 };
      const stream = new client.Emotide({ url: "http://h.example" }).stream({ audio });
      await settle();
      const start = (socket, event) => {
        socket.open();
        socket.receive({ type: "session.created", seq: 0 });
        socket.receive(event);
      };
      const [first] = WebSocket.all;
      start(first, { type: "session.updated", seq: 1, resume_token: "token" });
      stream.send(new Int16Array(8000));
      stream.skip(250);
      stream.send(new Int16Array(1600));
      const sent = [...first.sent];
      const { session } = JSON.parse(sent.shift());
      first.end(1006);
      await advance(1000);
      const next = WebSocket.all.at(-1);
      start(next, { type: "session.resumed", seq: 2, received_samples: 3000 });
      const show = (data) => typeof data === "string" ? JSON.parse(data) : data.length;
      print({ audio: session.audio, sent: sent.map(show), again: next.sent.map(show),
              buffered: stream.bufferedMs });
    """
    )
    assert found["audio"] == {"sample_rate": 8000, "channels": 2, "encoding": "linear16"}
    skip = {"type": "input.resume", "skipped_ms": 250}
    assert found["sent"] == [8000, skip, 1600]
    assert found["again"] == [2000, skip, 1600]
    assert found["buffered"] == 600


def test_a_subscriber_asks_for_the_events_that_it_missed() -> None:
    found = client(
        SERVER
        + """
      login = false;
      const seen = [];
      const emotide = new client.Emotide({ url: "http://h.example" });
      const subscriber = emotide.subscribe({ rate_hz: 1 }, ({ type }) => seen.push(type));
      await settle();
      const [first] = WebSocket.all;
      first.open();
      const event = (stream_id, seq, type = "emotion.score", more = {}) =>
        first.receive({ type, stream_id, seq, sub: "s1", ...more });
      event("a", 4);
      event("a", 3);
      event("b", 7);
      event("c", 2, "emotion.score", { tenant: "acme" });
      event("b", 8, "session.closed");
      first.end(1006);
      await advance(1000);
      const next = WebSocket.all.at(-1);
      next.open();
      print({ first: first.sent.map(JSON.parse), next: next.sent.map(JSON.parse), seen });
    """
    )
    base = {"type": "subscribe", "id": "s1", "rate_hz": 1}
    assert found["first"] == [base]
    assert found["next"] == [{**base, "since": {"a": 4, "acme/c": 2}}]
    assert found["seen"].count("client.connected") == 2
