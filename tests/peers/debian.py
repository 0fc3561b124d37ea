"""A Debian in a folder, made with debootstrap from the mirror and package settings of this machine.

Nothing of the machine itself changes. It needs root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
INSTALL_S = 900


class NotRun(Exception):
    """A peer that cannot run here; the text says why."""


def make(root: Path, suite: str, packages: str) -> None:
    """Make a minimal Debian of a suite with packages (separated by commas) in `root`."""
    if os.geteuid() != 0:
        raise NotRun("it needs root for debootstrap and chroot")
    if shutil.which("debootstrap") is None:
        raise NotRun("debootstrap is not installed: apt-get install debootstrap")
    mirror = _mirror()
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    command("debootstrap", "--variant=minbase", f"--include={packages}", suite, str(root), mirror)
    for name in (CERTIFICATES, "/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf"):
        if Path(name).exists():
            shutil.copy(name, root / name.lstrip("/"))
    # A mirror that is a copy of an earlier day has files past their date; apt is told here.
    dates = command("apt-config", "dump", "Acquire::Check-Valid-Until")
    (root / "etc/apt/apt.conf.d/90dates").write_text(dates)


def _mirror() -> str:
    """Return the mirror that this machine installs its packages from."""
    apt = Path("/etc/apt")
    for path in (*sorted(apt.glob("sources.list.d/*.sources")), apt / "sources.list"):
        text = path.read_text() if path.exists() else ""
        for found in re.findall(r"^(?:URIs:|deb)\s.*?(https?://\S+)", text, re.MULTILINE):
            if found.rstrip("/").endswith("/debian"):
                return str(found)
    raise NotRun("no Debian mirror in /etc/apt")


def command(*words: str) -> str:
    """Run a command; return its output. Raises `NotRun` if it fails."""
    environ = {
        **os.environ,
        "PIP_CERT": CERTIFICATES,
        "LC_ALL": "C",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=INSTALL_S, check=False, env=environ
    )
    if done.returncode:
        raise NotRun(f"{words[0]}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout
