"""The wheel in an empty environment outside the checkout: command, import, package data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.support import clean_environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "emotide"
    # From a copy, so that no build folder is left in the checkout.
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if name.startswith(("tests/", "training/", "bench/")) or not (ROOT / name).exists():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out)]
    finished = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel and its dependencies."""
    needed = [
        re.split(r"[^\w.-]", line)[0] for line in requires("emotide") or () if ";" not in line
    ]
    python = clean_environment.make(tmp_path_factory.mktemp("installed"), needed)
    install = ["pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", *install], capture_output=True, check=True)
    return python.parent


@pytest.fixture(scope="module")
def url(bin_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an installed server that runs in an empty folder."""
    folder = tmp_path_factory.mktemp("empty")
    command: list[str | Path] = [
        bin_folder / "emotide",
        "serve",
        "--model",
        "embedded",
        "--port",
        "0",
    ]
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(command, cwd=folder, stderr=log, env=_environment()) as server,
    ):
        try:
            yield _address(folder / "log", server)
        finally:
            server.terminate()


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


def _address(log: Path, server: subprocess.Popen[bytes]) -> str:
    for _ in range(900):
        found = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
        if found:
            return found[0].rstrip("/")
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_the_wheel_installs_no_module_outside_its_packages(wheel: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names if not name.split("/")[0].endswith("-info")}
    assert folders == {"emotide", "stream", "client"}


def test_the_command_runs_outside_the_checkout(bin_folder: Path, tmp_path: Path) -> None:
    for arguments in (["--version"], ["--help"], ["models", "list"], ["check", "--port", "0"]):
        finished = subprocess.run(
            [bin_folder / "emotide", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=_environment(),
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr


def test_types_are_shipped(bin_folder: Path) -> None:
    (site,) = bin_folder.parent.glob("lib/python*/site-packages")
    for package in ("emotide", "client", "stream"):
        assert (site / package / "py.typed").is_file()


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("/", b"<!DOCTYPE html>"),
        ("/asyncapi.yaml", b"asyncapi:"),
        ("/openapi.json", b"{"),
        ("/result.schema.json", b"{"),
        ("/questions.md", b"#"),
        ("/app.js", b"import"),
        ("/samples/emotions.flac", b"fLaC"),
        ("/v1/info", b"{"),
    ],
)
def test_an_installed_server_serves_its_page_and_contracts(
    url: str, path: str, start: bytes
) -> None:
    """The contract was looked for beside the checkout: installed, it was a silent 404."""
    with urllib.request.urlopen(url + path) as answer:
        assert answer.status == 200
        assert answer.read(200).lstrip().lower().startswith(start.lower())


def test_an_installed_demo_shows_a_call(bin_folder: Path, tmp_path: Path) -> None:
    finished = subprocess.run(
        [bin_folder / "emotide", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**_environment(), "DEMO_SECONDS": "5"},
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "customer" in finished.stdout
