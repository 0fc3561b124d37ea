"""The fuzzing client of the Autobahn test suite, in a folder of its own.

The suite needs Python 2.7, which only an older Debian has; `install` makes one in three minutes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.peers import debian

SUITE = "bullseye"
PACKAGES = "ca-certificates,python2.7,python2.7-dev,gcc,libc6-dev,virtualenv,libssl-dev,libffi-dev"
REQUIREMENTS = (
    *("autobahntestsuite==0.8.2", "autobahn[twisted]==0.10.9", "Twisted==20.3.0"),
    *("klein<20", "werkzeug<1", "zope.interface<6"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """The result of one case: of its messages, of the close, and the server's close code.

    `echo`: the case begins with a good message, which the suite expects back.
    """

    behavior: str
    closing: str
    code: int | None
    echo: bool = False

    @property
    def passed(self) -> bool:
        """True if RFC 6455 was kept; the suite's stricter wishes do not count."""
        fine = ("OK", "NON-STRICT", "INFORMATIONAL")
        return self.behavior in fine and self.closing in fine


def install(folder: Path) -> Path:
    """Return the folder of a Debian with the suite; make it if it is not there."""
    root = folder / SUITE
    client = root / "srv" / "ab" / "bin" / "wstest"
    if client.exists():
        return root
    debian.make(root, SUITE, PACKAGES)
    debian.command("chroot", str(root), "virtualenv", "-q", "-p", "python2.7", "/srv/ab")
    debian.command("chroot", str(root), "/srv/ab/bin/pip", "install", "-q", *REQUIREMENTS)
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
    debian.command("chroot", str(root), *client)
    return read(root)


def read(root: Path) -> dict[str, dict[str, Case]]:
    """Return the results of the last run by name and case."""
    reports = root / "srv" / "reports"
    index = json.loads((reports / "index.json").read_text())
    return {
        name: {case: _case(reports / result["reportfile"]) for case, result in found.items()}
        for name, found in index.items()
    }


def _case(report: Path) -> Case:
    result = json.loads(report.read_text())
    echo = any(event[0] == "message" for events in result["expected"].values() for event in events)
    return Case(result["behavior"], result["behaviorClose"], result["remoteCloseCode"], echo)
