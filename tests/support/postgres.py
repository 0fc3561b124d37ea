"""A real PostgreSQL for tests: a cluster in a scratch folder, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from tests.support.broker import free_port

READY_S = 60.0


def _binary(name: str) -> str:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if path is None:
        raise AssertionError(f"{name} is needed for this test: apt-get install postgresql")
    return path


def _user() -> dict[str, Any]:
    """Return the options of a process: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
    raise AssertionError("PostgreSQL does not run as root: add the user nobody")


class Postgres:
    """A server that keeps its port and its data across `kill` and `start`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._user = _user()
        self._folder = Path(tempfile.mkdtemp(prefix="emotide-postgres-"))
        if self._user:
            os.chown(self._folder, self._user["user"], self._user["group"])
        self._process: subprocess.Popen[bytes] | None = None
        command = ["initdb", "-D", self._data, "-U", "emotide", "-A", "trust", "-E", "UTF8"]
        self._run([*command, "--locale=C", "--no-sync"])

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            [_binary(command[0]), *command[1:]],
            capture_output=True,
            timeout=READY_S,
            cwd=self._folder,
            **self._user,
        )
        assert not done.returncode, done.stderr.decode()

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(_binary("postgres"), "-D", self._data, "-p", str(self.port), "-F"),
                    *("-c", "listen_addresses=127.0.0.1", "-k", str(self._folder)),
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._user,
            )
        engine = sa.create_engine(self._url("postgres", driver="+psycopg"), poolclass=sa.NullPool)
        deadline = time.monotonic() + READY_S
        while True:
            try:
                with engine.connect():
                    return
            except sa.exc.OperationalError:
                log_text = (self._folder / "log").read_text()
                assert self._process.poll() is None, log_text
                assert time.monotonic() < deadline, log_text
                time.sleep(0.05)

    def kill(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it as a crash does: connections break, and nothing is written.

        SIGQUIT instead of SIGKILL, which would leave its children behind.
        """
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(READY_S)
            self._process = None

    def database(self) -> str:
        """Make an empty database; return its URL, as in `history.url`."""
        name = f"h{secrets.token_hex(6)}"
        url = self._url("postgres", driver="+psycopg")
        engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        return self._url(name)

    def _url(self, name: str, driver: str = "") -> str:
        return f"postgresql{driver}://emotide@127.0.0.1:{self.port}/{name}"

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
        shutil.rmtree(self._folder, ignore_errors=True)
