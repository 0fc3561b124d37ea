"""Start of the server: refusals, the command line, TLS."""

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
from tests.support.clients import Client
from tests.support.running import ROOT, running_server
from tests.support.utterances import talk


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


def command(*args: str) -> Result:
    """Run `python server.py …` in this process, for arguments with which it does not serve."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(args))
    return Result(status, out.getvalue(), err.getvalue())


def refusal(*args: str, status: int) -> str:
    """Start a server that must exit with `status`; return its only error message."""
    result = subprocess.run(
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
        timeout=60,
        check=False,
    )
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    messages = [x for x in result.stderr.splitlines() if x.startswith("emotide: ")]
    assert len(messages) == 1, result.stderr
    return messages[0]


# -- refusing to start ------------------------------------------------------------------------


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        message = refusal("--port", port, status=2)
    assert "server.port" in message
    assert port in message
    assert "choose another --port" in message


def test_an_unreadable_certificate_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    assert str(missing) in refusal("--set", f"server.tls_cert={missing}", status=2)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("not a certificate")
    assert str(nonsense) in refusal("--set", f"server.tls_cert={nonsense}", status=2)
    assert "tls_cert" in refusal("--set", f"server.tls_key={nonsense}", status=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[vad]\nmode = 9\n", "vad.mode"),
        ("[vad]\nmod = 2\n", "did you mean 'mode'"),
        ("[sever]\nport = 1\n", "did you mean 'server'"),
        ("port = 1\n", "port"),
        ("[server\n", "not valid TOML"),
        ('[privacy]\nanalyse_roles = ["agent"]\n', "employee_basis"),
    ],
)
def test_an_invalid_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    result = command("--config", str(path), "--check-config")
    assert result.returncode == 2
    assert result.stderr.startswith(f"emotide: {path}: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_configuration_is_refused(tmp_path: Path) -> None:
    assert "no such file" in command("--config", str(tmp_path / "none.toml")).stderr
    assert "SECTION.KEY=VALUE" in command("--set", "vad").stderr
    assert "audit_log" in refusal("--set", "privacy.audit_log=/proc/none/audit", status=2)


def test_an_invalid_model_is_refused(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    assert str(missing) in refusal("--model", str(missing), status=3)
    message = refusal("--model", str(empty), status=3)
    assert str(empty) in message
    assert "model.json" in message
    assert "put them back" in refusal("--model", "tests.support.plugins:unloadable", status=3)
    assert "cannot be imported" in refusal("--model", "tests.support.plugins:nothing", status=3)


@pytest.mark.parametrize("model", ["broken", "nan_at_once"])
def test_a_model_that_raises_any_exception_is_refused(model: str) -> None:
    """Any exception while loading or warming up becomes one line and status 3, no traceback."""
    message = refusal("--model", f"tests.support.plugins:{model}", status=3)
    name = f"tests.support.plugins:{model}"
    assert name in message or "logits" in message or "weights" in message


# -- configuration on the command line --------------------------------------------------------


def test_check_config() -> None:
    for path in sorted((ROOT / "configs").glob("*.toml")):
        result = command("--config", str(path), "--check-config")
        assert (result.returncode, result.stderr) == (0, ""), path


def test_a_printed_configuration_can_be_loaded(tmp_path: Path) -> None:
    odd = 'a "quoted" \\ text'
    options = ("--port", "1234", "--set", "vad.mode=3", "--set", f"privacy.disclosure={odd}")
    first = command("--print-config", *options)
    assert first.returncode == 0
    tree = tomllib.loads(first.stdout)
    assert tree["server"]["port"] == 1234
    assert tree["privacy"]["disclosure"] == odd
    path = tmp_path / "printed.toml"
    path.write_text(first.stdout)
    again = command("--print-config", "--config", str(path))
    assert (again.returncode, again.stdout) == (0, first.stdout)


def test_a_printed_configuration_contains_no_secret() -> None:
    result = command("--print-config", "--set", "mqtt.password=hunter2")
    assert result.returncode == 0
    assert "hunter2" not in result.stdout + result.stderr


# -- TLS ---------------------------------------------------------------------------------------


async def test_tls(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
            f"-keyout {key} -out {cert} -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        ).split(),
        check=True,
        capture_output=True,
        timeout=60,
    )
    trust = ssl.create_default_context(cafile=str(cert))

    args = ("--set", f"server.tls_cert={cert}", "--set", f"server.tls_key={key}")
    with running_server(*args) as server:
        assert server.url.startswith("https://")
        async with websocket(f"{server.ws}/v1/stream?sample_rate=16000", ssl=trust) as socket:
            client = Client(socket, "to_producer")
            await client.audio(talk(1.5))
            closed = await client.close_session()
            assert closed["totals"]["segments"] == 1
