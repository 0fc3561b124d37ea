"""Real peers against the server: foreign programs that developers did not write.

  make peers                                  every row
  .venv/bin/python -m tests.peers telephony   one kind of rows; see `main`
  PEERS_FOLDER=/var/tmp/peers make peers      peers are installed there (default: outputs/peers)

Rows: calls by telephony systems (a real Asterisk, a simulator of Twilio), with what a subscriber
saw; the WebSocket conformance groups of the Autobahn test suite on each endpoint. The suite wants a
server that echoes, and ours does not; a plain server of the `websockets` library that swallows
every message, too, shows which cases need an echo. Each case that it passes, ours must pass. A real
Home Assistant: a room appears, changes, becomes unavailable, and returns. A real Prometheus that
scrapes a server answers every expression of the boards and rules. A real Node-RED runs the flow of
deploy/node-red, and a real MicroPython the light of examples/. Firefox and WebKit show the page and
run emotide.js; TypeScript's compiler checks its types.
A row whose peer cannot run here says so, and why.

Clients of telephony and of speech servers run if their files are given:
  AUDIOHOOK_CLIENT=DIR   the folder `client` of Genesys' reference implementation, built
  VOSK_CLIENT=FILE       test.py of vosk-server; those beside it run as well
  FUNASR_CLIENT=FILE     funasr_wss_client.py of FunASR
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

from bench.tables import table
from tests.peers import (
    autobahn,
    browsers,
    clients,
    home_assistant,
    micropython,
    node_red,
    prometheus,
    telephony,
)
from tests.peers.autobahn import Case
from tests.peers.debian import NotRun
from tests.support.running import ROOT, running_server

FOLDER = Path(os.environ.get("PEERS_FOLDER", ROOT / "outputs" / "peers"))

SPEAKS_FIRST = ("stream", "files")
"""Endpoints that send a message at once. The suite expects none, so of their cases only the close
is compared with that of the plain server: whether, and with which code."""

NEED_SILENCE = ("2",)
"""Groups that the suite gives up at a message which it does not expect."""

GROUPS = {
    "1": "frames",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "close",
    "10": "automatic fragments",
}
CASES = ("1.1.*", "1.2.*", "2.*", "3.*", "4.*", "5.*", "6.2.*", "6.3.*", "6.4.*", "7.*", "10.*")
ENDPOINTS = {
    "stream": "/v1/stream?sample_rate=16000",
    "subscribe": "/v1/subscribe",
    "files": "/v1/files",
}


@contextmanager
def swallowing_server() -> Iterator[str]:
    """Run a server of the library that reads every message and answers none; yield its URL."""
    loop = asyncio.new_event_loop()
    stop: asyncio.Future[None] = loop.create_future()
    ports: list[int] = []
    ready = threading.Event()

    async def swallow(socket: ServerConnection) -> None:
        async for _ in socket:
            pass

    async def main() -> None:
        log = logging.getLogger("tests.peers")
        log.setLevel(logging.CRITICAL)  # the suite breaks the protocol some hundred times
        async with serve(swallow, "127.0.0.1", 0, compression=None, logger=log) as server:
            ports.append(next(iter(server.sockets)).getsockname()[1])
            ready.set()
            await stop

    thread = threading.Thread(target=loop.run_until_complete, args=[main()])
    thread.start()
    ready.wait(10)
    try:
        yield f"ws://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set_result, None)
        thread.join(10)
        loop.close()


def conformance() -> tuple[list[list[object]], list[str]]:
    """Return the rows of the suite, and the cases that broke the protocol."""
    try:
        root = autobahn.install(FOLDER)
        with swallowing_server() as plain, running_server() as server:
            urls = {name: server.ws + path for name, path in ENDPOINTS.items()}
            results = autobahn.run(root, {"plain": plain, **urls}, CASES)
    except NotRun as why:
        return [["Autobahn", name, "all", "not run", "", "", str(why)] for name in ENDPOINTS], []
    return _rows(results)


def _rows(results: dict[str, dict[str, Case]]) -> tuple[list[list[object]], list[str]]:
    plain = results.pop("plain")
    rows: list[list[object]] = []
    broken: list[str] = []
    for name, found in results.items():
        for group, title in GROUPS.items():
            cases = [case for case in found if case.split(".")[0] == group]
            asked = [case for case in cases if plain[case].passed]
            if name in SPEAKS_FIRST:
                asked = [case for case in asked if group not in NEED_SILENCE]
                failed = [case for case in asked if not _closed_alike(found[case], plain[case])]
            else:
                failed = [case for case in asked if not _kept(found[case], plain[case])]
            broken += [f"{name} {case}: {found[case]}" for case in failed]
            passed, left = len(asked) - len(failed), len(cases) - len(asked)
            rows.append(
                ["Autobahn", name, title, len(asked), passed, left, ", ".join(failed) or "-"]
            )
    return rows, broken


def _kept(found: Case, plain: Case) -> bool:
    """Return whether the protocol was kept.

    A subscriber's text that is no request is answered by an event. Some cases begin with such a
    text and send the rest byte by byte; whether the answer is sent before the bad frame is complete
    is chance. The suite expects the text itself, so that only the close counts then.
    """
    return found.passed or (found.echo and _closed_alike(found, plain))


def _closed_alike(found: Case, plain: Case) -> bool:
    return (found.closing, found.code) == (plain.closing, plain.code)


ALL = (
    "telephony",
    "clients",
    "conformance",
    "home_assistant",
    "node_red",
    "micropython",
    "browsers",
    "prometheus",
)
"""Kinds of rows."""


def main() -> int:
    """Print the tables of all rows, or of those named; return 1 if one went wrong."""
    wanted = sys.argv[1:] or [*ALL]
    broken: list[str] = []
    if "telephony" in wanted:
        calls, wrong = telephony.rows(FOLDER)
        broken += wrong
        print(table(telephony.HEADS, calls))
    if "clients" in wanted:
        runs, wrong = clients.rows()
        broken += wrong
        print(table(clients.HEADS, runs))
    if "conformance" in wanted:
        rows, wrong = conformance()
        broken += wrong
        print(table(["peer", "endpoint", "group", "cases", "passed", "not asked", "failed"], rows))
    if "home_assistant" in wanted:
        rooms, wrong = home_assistant.rows(FOLDER)
        broken += wrong
        print(table(["peer", "check", "result", "after"], rooms))
    if "node_red" in wanted:
        flows, wrong = node_red.rows(FOLDER)
        broken += wrong
        print(table(["peer", "check", "result", "after"], flows))
    if "micropython" in wanted:
        lights, wrong = micropython.rows(FOLDER)
        broken += wrong
        print(table(["peer", "check", "result", "after"], lights))
    if "browsers" in wanted:
        pages, wrong = browsers.rows(FOLDER)
        broken += wrong
        print(table(["peer", "check", "result", "after"], pages))
    if "prometheus" in wanted:
        measured, wrong = prometheus.rows()
        broken += wrong
        print(table(["peer", "check", "result", "answered"], measured))
    for line in broken:
        print(line)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
