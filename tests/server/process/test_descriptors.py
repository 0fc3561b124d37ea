"""File descriptors: the limit is raised, and connections beyond it are refused."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from stream.config import Config
from stream.server.process.descriptors import connection_limit
from tests.support.clients import stream
from tests.support.running import ROOT, Server, running_server
from tests.support.utterances import talk

LIMIT = 200


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (100, 300));"
        "from stream.server.process.descriptors import raise_limit;"
        "print(raise_limit(), r.getrlimit(r.RLIMIT_NOFILE))"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "300 (300, 300)\n"


def test_recordings_and_the_process_keep_their_descriptors() -> None:
    config = Config.model_validate({"files": {"max_clients": 10, "max_downloads": 20}})
    assert connection_limit(1_000, config) == 1_000 - 64 - 10 - 20 - 2 * 8
    without = Config.model_validate({"files": {"enabled": False}})
    assert connection_limit(1_000, without) == 1_000 - 64
    assert connection_limit(100, config) == 25


@pytest.fixture
def few() -> Iterator[Server]:
    """A server with 200 descriptors."""
    limited = ["bash", "-c", f'ulimit -n {LIMIT}; exec "$0" "$@"']
    with running_server(wrapper=limited) as running:
        yield running


async def test_a_call_survives_more_connections_than_descriptors(few: Server) -> None:
    """At the limit there were 4045 tracebacks in 6 s, and a live call ended with 1011."""
    cap = few.line("ready")["max_connections"]
    assert 0 < cap < LIMIT
    refused = b""
    async with stream(few) as call:
        with contextlib.ExitStack() as stack:
            sockets = [
                stack.enter_context(socket.create_connection(("127.0.0.1", few.port)))
                for _ in range(2 * LIMIT)
            ]
            await call.audio(talk(3.0), 3200, 0.03)
            for sock in sockets:
                sock.setblocking(False)
                with contextlib.suppress(OSError):
                    refused += sock.recv(1000)
        closed = await call.close_session()
    assert call.of("emotion.score")
    assert closed["reason"] == "completed"
    assert b"503 Service Unavailable" in refused
    assert b"too many connections" in refused
    records = [line for line in few.lines if "connection limit" in line["event"]]
    assert len(records) == 1
    assert len(few.lines) < 20, few.lines
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            if few.get("/readyz")[0] == 200:
                return
        assert time.monotonic() < deadline, "connections must be accepted again"
        time.sleep(0.1)
