"""Starting, refusing to start, and going."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed

from server import main
from tests.clients import Client, run, stream, subscriber
from tests.running import ROOT, Gate, Server, running_server, started_server
from tests.utterances import talk


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


def command(*args: str) -> Ended:
    """`python server.py …` where it ends before it serves; in this process, which is faster."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(args))
    return Ended(status, out.getvalue(), err.getvalue())


def refusal(*args: str, status: int) -> str:
    """The one thing a server says that does not start."""
    ended = subprocess.run(
        [sys.executable, "server.py", "--port", "0", "--model", "tests.plugins:fast", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    said = [x for x in ended.stderr.splitlines() if x.startswith("emotide: ")]
    assert len(said) == 1, ended.stderr
    return said[0]


# -- refusing to start ------------------------------------------------------------------------


def test_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = refusal("--port", port, status=2)
    assert "server.port" in said
    assert port in said
    assert "choose another --port" in said


def test_unreadable_certificate(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    assert str(missing) in refusal("--set", f"server.tls_cert={missing}", status=2)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("not a certificate")
    assert str(nonsense) in refusal("--set", f"server.tls_cert={nonsense}", status=2)
    assert "tls_cert" in refusal("--set", f"server.tls_key={nonsense}", status=2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[vad]\nmode = 9\n", "vad.mode"),
        ("[vad]\nmod = 2\n", "did you mean 'mode'"),
        ("[sever]\nport = 1\n", "did you mean 'server'"),
        ("port = 1\n", "port"),
        ("[server\n", "not valid TOML"),
        ('[privacy]\nanalyse_roles = ["agent"]\n', "employee_basis"),
    ],
)
def test_bad_configuration(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    ended = command("--config", str(path), "--check-config")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"emotide: {path}: ")
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_missing_configuration(tmp_path: Path) -> None:
    assert "no such file" in command("--config", str(tmp_path / "none.toml")).stderr
    assert "SECTION.KEY=VALUE" in command("--set", "vad").stderr
    assert "audit_log" in refusal("--set", "privacy.audit_log=/proc/none/audit", status=2)


def test_models_that_are_none(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    assert str(missing) in refusal("--model", str(missing), status=3)
    said = refusal("--model", str(empty), status=3)
    assert str(empty) in said
    assert "model.json" in said
    assert "put them back" in refusal("--model", "tests.plugins:unloadable", status=3)
    assert "cannot be imported" in refusal("--model", "tests.plugins:nothing", status=3)


@pytest.mark.parametrize("model", ["broken", "nan_at_once"])
def test_models_that_fail_as_libraries_do(model: str) -> None:
    """Whatever loading or warming up raises ends with one line and status 3, not a traceback."""
    said = refusal("--model", f"tests.plugins:{model}", status=3)
    assert f"tests.plugins:{model}" in said or "logits" in said or "weights" in said


# -- configuration on the command line --------------------------------------------------------


def test_check_config() -> None:
    for path in sorted((ROOT / "configs").glob("*.toml")):
        ended = command("--config", str(path), "--check-config")
        assert (ended.returncode, ended.stderr) == (0, ""), path


def test_print_config_can_be_read_back(tmp_path: Path) -> None:
    odd = 'a "quoted" \\ text'
    asked = ("--port", "1234", "--set", "vad.mode=3", "--set", f"privacy.disclosure={odd}")
    first = command("--print-config", *asked)
    assert first.returncode == 0
    tree = tomllib.loads(first.stdout)
    assert tree["server"]["port"] == 1234
    assert tree["privacy"]["disclosure"] == odd
    path = tmp_path / "printed.toml"
    path.write_text(first.stdout)
    again = command("--print-config", "--config", str(path))
    assert (again.returncode, again.stdout) == (0, first.stdout)


def test_a_printed_configuration_shows_no_secret() -> None:
    ended = command("--print-config", "--set", "mqtt.password=hunter2")
    assert ended.returncode == 0
    assert "hunter2" not in ended.stdout + ended.stderr


# -- TLS ---------------------------------------------------------------------------------------


def test_tls(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
            f"-keyout {key} -out {cert} -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        ).split(),
        check=True,
        capture_output=True,
        timeout=20,
    )
    trust = ssl.create_default_context(cafile=str(cert))

    async def session(server: Server) -> None:
        assert server.url.startswith("https://")
        async with websocket(f"{server.ws}/v1/stream?sample_rate=16000", ssl=trust) as socket:
            client = Client(socket, False)
            await client.audio(talk(1.5))
            closed = await client.close_session()
            assert closed["totals"]["segments"] == 1

    args = ("--set", f"server.tls_cert={cert}", "--set", f"server.tls_key={key}")
    with running_server(*args) as server:
        run(session(server))


# -- going -------------------------------------------------------------------------------------


def test_sigterm_during_model_load(tmp_path: Path) -> None:
    """A load that cannot be interrupted does not hold up the exit."""
    gate = Gate(tmp_path / "loading")
    gate.shut()
    env = {"EMOTEST_LOADING": str(gate.path)}
    with started_server(model="tests.plugins:loading", env=env) as server:
        server.listens()
        server.signal()
        before = time.monotonic()
        assert server.exit(5) == 0
        assert time.monotonic() - before < 2
        assert not server.noise, server.noise


def test_sigint_is_sigterm() -> None:
    with running_server() as server:
        server.signal(signal.SIGINT)
        assert server.exit(5) == 0, server.log()


async def told_to_go(client: Client) -> None:
    """The producer hears why, gets its tail and its totals, and 1012."""
    assert await client.closed(10) == 1012, str(client)
    kinds = [event["type"] for event in client.events]
    error = client.events[kinds.index("error")]
    assert (error["code"], error["fatal"], error["retryable"]) == ("draining", True, True)
    assert error["retry_after_s"] > 0
    closed = client.events[-1]
    assert (closed["type"], closed["reason"]) == ("session.closed", "draining")
    assert kinds.count("session.closed") == 1


async def talking(client: Client, stop: asyncio.Event) -> None:
    """A call goes on whatever the server does."""
    voice = talk(20)
    with contextlib.suppress(ConnectionClosed):
        while not stop.is_set():
            piece, voice = voice[:3200], voice[3200:]
            await client.socket.send(piece)
            await asyncio.sleep(0.1)


def test_sigterm_with_live_calls() -> None:
    """Tails are scored and told, clients learn why, probes see 503 meanwhile, the exit is 0.

    The port was closed first, so /readyz and new streams got "connection refused" for as long as
    the calls drained, and the answers that the router has for that time were never given.
    """

    async def session(server: Server) -> None:
        stop = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            calls = [await stack.enter_async_context(stream(server)) for _ in range(3)]
            parked = await stack.enter_async_context(stream(server, stream_id="parked"))
            listener = await stack.enter_async_context(subscriber(server))
            tasks = [asyncio.create_task(talking(call, stop)) for call in calls]
            await parked.audio(talk(0.5))
            await parked.until("speech.start")
            await parked.abort()
            for call in calls:
                await call.until("speech.start")
            server.signal()
            await asyncio.to_thread(server.line, "draining", 2)
            before = time.monotonic()
            try:
                status = (await asyncio.to_thread(server.get, "/readyz"))[0]
            except OSError as error:
                print(f"readyz: {error}")
                status = -1
            for call in calls:
                await told_to_go(call)
                segment = call.of("emotion.segment")[-1]
                assert segment["trigger"] == "flush"
                assert segment["covered"] > 0.9
            assert await listener.closed(5) == 1012
            assert [e["code"] for e in listener.of("error") if "stream_id" not in e] == ["draining"]
            ended = listener.of("session.closed")
            assert sorted(e["reason"] for e in ended) == ["draining"] * 4
            stop.set()
            await asyncio.gather(*tasks)
            assert await asyncio.to_thread(server.exit, 10) == 0, server.log()
            assert time.monotonic() - before < 5
            assert not server.noise, server.noise
            ready_status.append(status)

    ready_status: list[int] = []
    args = ("--set", "server.drain_timeout_s=5")
    slow = {"model": "tests.plugins:slow", "env": {"EMOTEST_SLEEP_S": "0.3"}}
    with running_server(*args, **slow) as server:
        run(session(server))
    assert ready_status == [503], "readyz answers while calls drain (-1: nobody listened)"


def test_drain_ends_in_time_when_the_model_does_not_answer(tmp_path: Path) -> None:
    """The tails cannot be scored: clients are told what is lost, and closed, and the exit is 0.

    The drain ran into its limit, cancelled everybody's goodbye on the way, and left all clients
    with a dead connection and neither `session.closed` nor 1012.
    """
    gate = Gate(tmp_path / "block")

    async def session(server: Server) -> None:
        async with stream(server) as call:
            gate.shut()
            await call.audio(talk(2.5))
            await call.until("speech.start")
            before = time.monotonic()
            server.signal()
            code = await call.closed(6)
            assert await asyncio.to_thread(server.exit, 5) == 0
            assert time.monotonic() - before < 3.5
            assert call.of("error")[0]["code"] == "draining"
            assert code == 1012
            assert call.events[-1]["type"] == "session.closed"
            assert call.events[-1]["totals"]["dropped_ms"] > 1000

    args = ("--set", "server.drain_timeout_s=2.5")
    env = {"EMOTEST_BLOCK": str(gate.path)}
    with running_server(*args, model="tests.plugins:blocked", env=env) as server:
        run(session(server))


def test_second_signal_leaves_at_once(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "block")

    async def session(server: Server) -> None:
        async with stream(server) as call:
            gate.shut()
            await call.audio(talk(2.5))
            await call.until("speech.start")
            server.signal()
            await asyncio.to_thread(server.line, "draining", 2)
            await asyncio.sleep(0.2)
            assert not server.ended
            before = time.monotonic()
            server.signal()
            assert await asyncio.to_thread(server.exit, 3) == 130
            assert time.monotonic() - before < 1

    env = {"EMOTEST_BLOCK": str(gate.path)}
    with running_server(model="tests.plugins:blocked", env=env) as server:
        run(session(server))


def test_a_connection_that_never_asked_for_anything_is_closed_at_the_end() -> None:
    """Browsers connect in advance. Such a connection was left open, with a warning on stderr."""
    with running_server() as server, socket.create_connection((server.host, server.port)) as idle:
        time.sleep(0.1)
        server.signal()
        assert server.exit() == 0
        assert not server.noise
        idle.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(1) == b""
