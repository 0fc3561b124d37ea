"""Network namespace for a process under test, with a cable that a test can cut and slow down.

Packets on a cut cable vanish without FIN or RST, which no proxy can do. It needs the right to make
namespaces (root, or `unshare -rn`), `ip`, and `tc` for `limit`; `missing` names what is not there.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from functools import cache
from types import TracebackType
from typing import Self

NO_ONE = "02:00:00:00:00:01"
"""Link address that no interface has."""

_numbers = itertools.count()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@cache
def missing() -> str:
    """Return why no namespace can be made here; empty if one can."""
    for program in ("ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"not run: {program} is not installed"
    try:
        with Namespace():
            return ""
    except OSError as error:
        return f"not run: network namespaces are not allowed here ({error})"


class Namespace:
    """Namespace that is reached by `address`, from `outside`; a context manager."""

    def __init__(self) -> None:
        number = (os.getpid() * 16 + next(_numbers) % 16) % 16_384
        net = f"10.213.{number // 64}.{number % 64 * 4}"
        base, last = net.rsplit(".", 1)
        self.outside, self.address = f"{base}.{int(last) + 1}", f"{base}.{int(last) + 2}"
        self._cable = f"emo{number}"
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # `cat` keeps the namespace and says when it is there: unshare has run once cat answers.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        try:
            assert self._holder.stdin is not None and self._holder.stdout is not None  # noqa: PT018
            try:
                self._holder.stdin.write(b"\n")
                ready = self._holder.stdout.read(1)
            except BrokenPipeError:
                ready = b""
            if not ready:
                raise OSError("unshare --net was refused")
            pid, end = str(self._holder.pid), f"{self._cable}b"
            _run(*f"ip link add {self._cable} type veth peer name {end} netns {pid}".split())
            _run(*f"ip addr add {self.outside}/30 dev {self._cable}".split())
            _run(*f"ip link set {self._cable} up".split())
            for command in (
                "ip link set lo up",
                f"ip addr add {self.address}/30 dev {end}",
                f"ip link set {end} up",
            ):
                _run(*self.command(*command.split()))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._holder is not None
        self._holder.kill()
        self._holder.communicate()
        subprocess.run(["ip", "link", "del", self._cable], capture_output=True, timeout=10)

    def command(self, *command: str) -> list[str]:
        """Return the command line that runs `command` inside the namespace."""
        assert self._holder is not None
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command]

    def cut(self) -> None:
        """Drop all packets of both directions from now on, without a notice to either side."""
        # A wrong link address: packets leave and no one takes them. Sockets are told about a route
        # or a link that goes down.
        self._neighbour("replace", "lladdr", NO_ONE, "nud", "permanent")

    def mend(self) -> None:
        """Let packets pass again."""
        self._neighbour("del")

    def limit(self, kbit: int) -> None:
        """Limit what comes out of the namespace to `kbit` kilobits a second."""
        rule = (
            f"tc qdisc replace dev {self._cable}b root tbf rate {kbit}kbit burst 4kb latency 400ms"
        )
        _run(*self.command(*rule.split()))

    def _neighbour(self, action: str, *state: str) -> None:
        end = f"{self._cable}b"
        _run("ip", "neigh", action, self.address, "dev", self._cable, *state)
        _run(*self.command("ip", "neigh", action, self.outside, "dev", end, *state))
