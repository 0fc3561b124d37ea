"""streamdouble, a third party's simulator of Twilio Media Streams, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.peers import debian
from tests.peers.debian import NotRun

CALL_S = 60


def install(folder: Path) -> Path:
    """Return the program; install it if it is not there."""
    environment = folder / "streamdouble"
    program = environment / "bin" / "streamdouble"
    if not program.exists():
        debian.command(sys.executable, "-m", "venv", str(environment))
        debian.command(
            str(environment / "bin/python"), "-m", "pip", "-q", "install", "streamdouble"
        )
    return program


def version(program: Path) -> str:
    """Return the version of the installed package."""
    python = program.parent / "python"
    code = "from importlib.metadata import version; print(version('streamdouble'))"
    return debian.command(str(python), "-c", code).strip()


def call(program: Path, url: str, caller: Path, agent: Path, *options: str) -> None:
    """Make a call with both tracks to the URL; `caller` and `agent` are WAV files."""
    tracks = ("--fork", "--track", "both", "--audio", str(caller), "--agent-audio", str(agent))
    done = subprocess.run(
        [str(program), "call", *tracks, "--param", "queue=billing", *options, url],
        capture_output=True,
        text=True,
        timeout=CALL_S,
        check=False,
    )
    if done.returncode:
        raise NotRun(f"streamdouble: {(done.stderr or done.stdout).strip()[-300:]}")
