"""Starting, refusing to start, and going."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as websocket

from server import main
from tests.support.clients import Client, run
from tests.support.running import ROOT, Server, running_server
from tests.support.utterances import talk


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
        [
            sys.executable,
            "server.py",
            "--port",
            "0",
            "--model",
            "tests.support.plugins:fast",
            *args,
        ],
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
    assert "put them back" in refusal("--model", "tests.support.plugins:unloadable", status=3)
    assert "cannot be imported" in refusal("--model", "tests.support.plugins:nothing", status=3)


@pytest.mark.parametrize("model", ["broken", "nan_at_once"])
def test_models_that_fail_as_libraries_do(model: str) -> None:
    """Whatever loading or warming up raises ends with one line and status 3, not a traceback."""
    said = refusal("--model", f"tests.support.plugins:{model}", status=3)
    assert f"tests.support.plugins:{model}" in said or "logits" in said or "weights" in said


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
