"""Modules that the client library and its commands load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"pydantic", "numpy", "av", "onnxruntime"}
SERVER = {
    "stream.admission",
    "stream.analysis",
    "stream.app",
    "stream.backends",
    "stream.config",
    "stream.delivery",
    "stream.inference",
    "stream.ingest",
    "stream.recordings",
    "stream.server",
    "stream.sessions",
    "stream.sinks",
    "stream.telemetry",
}


def loaded_by(module: str) -> set[str]:
    """Return the modules that a new process has loaded after it imported `module`."""
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(finished.stdout.splitlines())


def stream_imports(path: Path) -> set[str]:
    """Return the modules of `stream` that a source file imports anywhere."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in names if name.partition(".")[0] == "stream"}


def test_the_library_loads_neither_pydantic_nor_numpy_nor_the_server() -> None:
    """Two constants pulled in both packages: the import took 0.23 s instead of 0.08 s."""
    loaded = loaded_by("client")
    assert loaded & HEAVY == set()
    assert loaded & SERVER == set()


@pytest.mark.parametrize("name", ["analyze", "watch", "replay", "mic"])
def test_commands_that_use_a_server_do_not_load_its_packages(name: str) -> None:
    loaded = loaded_by(f"client.{name}")
    assert loaded & SERVER == set()
    assert "onnxruntime" not in loaded


@pytest.mark.parametrize("name", ["analyze", "watch"])
def test_commands_without_local_audio_do_not_load_ffmpeg(name: str) -> None:
    assert "av" not in loaded_by(f"client.{name}")


def test_the_library_imports_of_stream_only_the_protocol_and_terms() -> None:
    imported = set[str]().union(*map(stream_imports, (ROOT / "client/remote").glob("*.py")))
    assert imported
    assert {name for name in imported if not name.startswith("stream.protocol.")} == {
        "stream.terms"
    }


def test_only_the_local_analyser_imports_the_server() -> None:
    sources = [path for path in (ROOT / "client").rglob("*.py") if path.name != "local.py"]
    imported = set[str]().union(*map(stream_imports, sources))
    assert {".".join(name.split(".")[:2]) for name in imported} & SERVER == set()
