"""Python code that runs inside the confined decoder, as a hostile file would run it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stream.audio.confinement.report import command, environment
from stream.audio.files.decode_worker import Job

PRELUDE = """
from stream.audio.confinement import separate
separated = separate()
import ctypes, encodings.idna, errno, fcntl, json, mmap, os, resource, signal, socket, sys
import threading, time
from stream.audio.files import decode_worker

libc = ctypes.CDLL(None, use_errno=True)
ctypes.pythonapi  # resolved while libraries can be opened

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def outcome(act):
    try:
        return {"done": repr(act())}
    except OSError as error:
        return {"refused": errno.errorcode.get(error.errno, str(error))}

arguments = json.loads(sys.argv[2])
"""

MAIN = """
def attempt(job, file, out):
    out.write(json.dumps({name: outcome(act) for name, act in acts.items()}).encode())
    out.flush()

decode_worker.work = attempt
sys.exit(decode_worker.main(separated))
"""


def run_code(code: str, *arguments: str, file: Path | None = None) -> str:
    """Run Python code in the environment of a decoder; return its standard output."""
    run = [*command("")[:2], "-c", code, *arguments]
    with (file or Path("/dev/null")).open("rb") as stdin:
        result = subprocess.run(
            run, stdin=stdin, capture_output=True, text=True, timeout=60, env=environment()
        )
    assert result.returncode == 0, (result.returncode, result.stderr[-2000:])
    return result.stdout


def attempt(acts: str, arguments: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Run the functions of a dict literal inside the real decoder process; return what happened.

    Each result is {"done": repr of the value} or {"refused": name of the error}. The functions
    may use `arguments` and the names of `PRELUDE`.
    """
    code = f"{PRELUDE}\nacts = {acts}\n{MAIN}"
    job = json.dumps(asdict(Job(max_s=60)))
    result: dict[str, dict[str, str]] = json.loads(run_code(code, job, json.dumps(arguments)))
    return result
