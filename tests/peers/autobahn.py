"""The fuzzing client of the Autobahn test suite, in a folder of its own.

The suite needs Python 2.7, which only an older Debian has. `install` makes a minimal one in a
folder with debootstrap, from the mirror and with the package settings of this machine; nothing of
the machine itself changes. It needs root and three minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SUITE = "bullseye"
PACKAGES = "ca-certificates,python2.7,python2.7-dev,gcc,libc6-dev,virtualenv,libssl-dev,libffi-dev"
REQUIREMENTS = (
    *("autobahntestsuite==0.8.2", "autobahn[twisted]==0.10.9", "Twisted==20.3.0"),
    *("klein<20", "werkzeug<1", "zope.interface<6"),
)
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
INSTALL_S = 900


class NotRun(Exception):
    """A peer that cannot run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """The result of one case: of its messages, of the close, and the server's close code."""

    behavior: str
    closing: str
    code: int | None

    @property
    def passed(self) -> bool:
        """Whether RFC 6455 was kept; the suite's stricter wishes do not count."""
        fine = ("OK", "NON-STRICT", "INFORMATIONAL")
        return self.behavior in fine and self.closing in fine


def install(folder: Path) -> Path:
    """Return the folder of a Debian with the suite; make it if it is not there."""
    root = folder / SUITE
    client = root / "srv" / "ab" / "bin" / "wstest"
    if client.exists():
        return root
    if os.geteuid() != 0:
        raise NotRun("it needs root for debootstrap and chroot")
    if shutil.which("debootstrap") is None:
        raise NotRun("debootstrap is not installed: apt-get install debootstrap")
    mirror = _mirror()
    shutil.rmtree(root, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), mirror)
    for name in (CERTIFICATES, "/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf"):
        if Path(name).exists():
            shutil.copy(name, root / name.lstrip("/"))
    _run("chroot", str(root), "virtualenv", "-q", "-p", "python2.7", "/srv/ab")
    _run("chroot", str(root), "/srv/ab/bin/pip", "install", "-q", *REQUIREMENTS)
    return root


def run(root: Path, servers: Mapping[str, str], cases: Sequence[str]) -> dict[str, dict[str, Case]]:
    """Run `cases` (globs) against `servers`, URL by name; return the results by name and case."""
    reports = root / "srv" / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    spec = {
        "outdir": "/srv/reports",
        "servers": [{"agent": name, "url": url} for name, url in servers.items()],
        "cases": list(cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (root / "srv" / "spec.json").write_text(json.dumps(spec))
    client = ("/srv/ab/bin/wstest", "-m", "fuzzingclient", "-s", "/srv/spec.json")
    _run("chroot", str(root), *client)
    return read(root)


def read(root: Path) -> dict[str, dict[str, Case]]:
    """Return the results of the last run by name and case."""
    index = json.loads((root / "srv" / "reports" / "index.json").read_text())
    return {
        name: {
            case: Case(result["behavior"], result["behaviorClose"], result["remoteCloseCode"])
            for case, result in found.items()
        }
        for name, found in index.items()
    }


def _mirror() -> str:
    """Return the mirror that this machine installs its packages from."""
    apt = Path("/etc/apt")
    for path in (*sorted(apt.glob("sources.list.d/*.sources")), apt / "sources.list"):
        text = path.read_text() if path.exists() else ""
        for found in re.findall(r"^(?:URIs:|deb)\s.*?(https?://\S+)", text, re.MULTILINE):
            if found.rstrip("/").endswith("/debian"):
                return str(found)
    raise NotRun("no Debian mirror in /etc/apt")


def _run(*command: str) -> None:
    environ = {**os.environ, "PIP_CERT": CERTIFICATES, "LC_ALL": "C"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_S, check=False, env=environ
    )
    if done.returncode:
        raise NotRun(f"{command[0]}: {(done.stderr or done.stdout).strip()[-500:]}")
