"""A real MQTT broker for tests, one that never answers, and one without MQTT 5."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.tcp_proxy import TcpProxy
from tests.support.tcp_server import TcpServer

READY_S = 30.0


def _binary(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise AssertionError(f"{name} is needed for this test: apt-get install mosquitto")
    return path


PORTS = range(20_000, 32_000)
"""Ports that no system gives to a connection or to a listener on port 0 (Linux: from 32768 on)."""


def free_port() -> int:
    """Return a port that is free, and stays so until a test binds it, or binds it again.

    The system gives out its own range at any time, so a port of that range may be taken by a
    connection of another test before this one has bound it.
    """
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


class Broker:
    """A mosquitto process on 127.0.0.1 that keeps its port across restarts.

    `user` is a name and a password; without it anonymous clients are accepted. Retained messages
    are lost at every restart unless `persistent`. `options` are further lines of its configuration,
    `access` those of its access list.
    """

    def __init__(
        self,
        directory: Path,
        user: tuple[str, str] | None = None,
        persistent: bool = False,
        options: Sequence[str] = (),
        access: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self._log = directory / "mosquitto.log"
        self._conf = directory / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'false' if user else 'true'}",
            f"persistence {'true' if persistent else 'false'}",
            f"persistence_location {directory}/",
            "max_queued_messages 0",
            *options,
        ]
        if access:
            acl = directory / "access"
            acl.write_text("\n".join(access) + "\n")
            lines.append(f"acl_file {acl}")
        if os.geteuid() == 0:
            lines.append("user root")  # otherwise it cannot read the files in `directory`
        if user:
            passwords = directory / "passwords"
            command = [_binary("mosquitto_passwd"), "-c", "-b", str(passwords), *user]
            subprocess.run(command, check=True, capture_output=True, timeout=10)
            lines.append(f"password_file {passwords}")
        self._conf.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start and wait until it accepts connections."""
        with self._log.open("ab") as log:
            command = [_binary("mosquitto"), "-c", str(self._conf)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.kill()
                    raise AssertionError(
                        f"mosquitto did not start: {self._log.read_text()}"
                    ) from None
                time.sleep(0.02)

    def kill(self) -> None:
        """Kill the process with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def pause(self) -> None:
        """Suspend the process; its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the process after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class MqttProxy(TcpProxy):
    """Proxy in front of a broker, to make it one without MQTT 5.

    `refusal` is the answer to a CONNECT with protocol level 5; then the connection is closed. None
    lets it pass.
    """

    def __init__(self, port: int, refusal: bytes | None) -> None:
        super().__init__(port)
        self.refused = 0
        self._refusal = refusal

    async def forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes = b""
    ) -> None:
        # Fixed header, one or two bytes of length, "MQTT" with its length, then the level.
        head += await reader.readexactly(2)
        if head[1] & 0x80:
            head += await reader.readexactly(1)
        body = await reader.readexactly(7)
        if self._refusal is not None and body[6] == 5:
            self.refused += 1
            writer.write(self._refusal)
            await writer.drain()
            return
        await super().forward(reader, writer, head + body)


class SilentBroker(TcpServer):
    """Broker that accepts connections and never answers."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
