"""`emotide history`: on a database with sessions, without a server."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pyarrow.parquet as pq
import pytest

from emotide.history import main
from emotide.history_drawing import call
from stream.config import HistoryConfig, PrivacyConfig
from stream.history.queries.filters import Filter
from stream.history.storage.connect import open_engine, upgrade, writing
from stream.history.storage.identity import configured_identities
from stream.history.storage.store import insert
from tests.support import history_model as model
from tests.support.running import ROOT

CALLS = model.calls(40, seed=21)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a server whose database has the sessions of the model."""
    url, spool = f"sqlite:///{tmp_path}/history.db", tmp_path / "spool"
    settings = HistoryConfig.model_validate({"url": url, "spool": spool})
    identities = configured_identities(settings, PrivacyConfig())
    engine = open_engine(url)
    upgrade(engine)
    hashed = [replace(c, stream_id=identities.stream(c.tenant, c.stream_id)) for c in CALLS]
    with writing(engine) as connection:
        insert(connection, hashed, identities)
    engine.dispose()
    file = tmp_path / "server.toml"
    file.write_text(f'[history]\nurl = "{url}"\nspool = "{spool}"\n')
    return file


@pytest.fixture
def run(config: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the database; return its exit status and both outputs."""

    def command(name: str, *words: str) -> tuple[int, str, str]:
        status = main([name, *words, "--config", str(config)])
        told = capsys.readouterr()
        return status, told.out, told.err

    return command


def lines(text: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in text.splitlines()]


def test_list_prints_the_newest_sessions(run: Run) -> None:
    status, out, _ = run("list", "--limit", "5")
    assert status == 0
    newest = model.listed(CALLS, Filter())[:5]
    assert [line.split()[2] for line in out.splitlines()[1:6]] == newest
    assert "more than 5: narrow the conditions, or raise --limit" in out
    status, out, _ = run("list", "--json", "--alert", "anger", "--min-activation", "0.5")
    wanted = Filter(alert="anger", min_activation=0.5)
    assert [line["id"] for line in lines(out)] == model.listed(CALLS, wanted)
    assert run("list", "--tag", "nothing")[1] == "no session fulfils these conditions\n"


def test_times_are_those_of_a_zone(run: Run) -> None:
    first = run("list", "--limit", "1")[1].splitlines()[1][:16]
    there = run("list", "--limit", "1", "--tz", "Asia/Kolkata")[1].splitlines()[1][:16]
    assert first != there


def test_a_stream_is_found_by_its_id(run: Run) -> None:
    """Ids are hashed with a key that the configuration's spool keeps."""
    ours = {call.uid for call in CALLS if call.stream_id == "call-3"}
    assert {line["id"] for line in lines(run("list", "--stream", "call-3", "--json")[1])} == ours


def test_show_draws_the_call(run: Run) -> None:
    chosen = next(call for call in CALLS if call.alerts and len(call.utterances) == 2)
    status, out, _ = run("show", chosen.uid)
    assert status == 0
    assert "customer" in out
    assert "▲" in out
    assert out.count("angry 60%") == 2
    body = orjson.loads(run("show", chosen.uid, "--json")[1])
    assert body["id"] == chosen.uid
    for width in (40, 80, 200):
        drawn = list(call(body, ZoneInfo("UTC"), width))
        strip = next(line.plain for line in drawn if line.plain.startswith("customer"))
        assert len(strip) == width


@pytest.mark.parametrize(("by", "shown"), [("anna", "acknowledged by anna"), ("", "acknowledged")])
def test_an_acknowledgement_without_a_name_ends_as_a_sentence(
    run: Run, by: str, shown: str
) -> None:
    """On a server without keys the line ended with "acknowledged by"."""
    chosen = next(call for call in CALLS if call.alerts)
    body = orjson.loads(run("show", chosen.uid, "--json")[1])
    body["alerts"][0]["acknowledged"] = {"by": by, "at": "2026-11-28T10:00:00.000Z"}
    drawn = [line.plain for line in call(body, ZoneInfo("UTC"), 80)]
    assert any(line.endswith(f", {shown}") for line in drawn)


def test_a_session_without_speech_is_shown(run: Run) -> None:
    silent = next(call for call in CALLS if not call.utterances)
    status, out, _ = run("show", silent.uid)
    assert status == 0
    assert "no utterances" in out


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_export_writes_a_file(run: Run, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"all.{form}"
    status, printed, told = run("export", "--rows", "utterances", "--out", str(out))
    assert (status, printed) == (0, "")
    assert told.splitlines()[-1] == f"{out}: utterances of {len(CALLS)} sessions"
    expected = sum(len(call.utterances) for call in CALLS)
    if form == "parquet":
        count = pq.read_table(out).num_rows
    elif form == "csv":
        count = len(list(csv.DictReader(io.StringIO(out.read_text()))))
    else:
        count = len(out.read_text().splitlines())
    assert count == expected
    assert [path.name for path in tmp_path.glob("all*")] == [out.name]


def test_an_export_that_fails_leaves_no_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline must not take half an export for a whole one."""

    def broken(*arguments: Any) -> Any:
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stream.history.queries.export.exported", broken)
    status, _, told = run("export", "--out", str(tmp_path / "all.csv"))
    assert status == 1
    assert "No space left on device" in told
    assert not list(tmp_path.glob("all*"))


def test_parquet_without_its_library_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, told = run("export", "--out", str(tmp_path / "all.parquet"))
    assert status == 2
    assert "Parquet needs pyarrow: pip install 'emotide[parquet]'" in told


MISTAKES = {
    ("list", "--limit", "x"): "--limit: Input should be a valid integer",
    ("list", "--from", "yesterday"): "--from: must be a date like 2026-11-28",
    ("list", "--min-duration", "-1"): "--min-duration: Input should be greater than or equal to 0",
    ("list", "--tz", "Berlin"): "--tz: must be the IANA name of a time zone",
    ("export", "--out", "all.txt"): "--out all.txt: must end in .csv, .jsonl or .parquet",
    ("export", "--format", "parquet"): "--format parquet: needs --out FILE",
    ("erase",): "name what to erase: --id, --stream, --attribute or --tenant",
    ("erase", "--attribute", "x", "--yes"): "--attribute: must be NAME:VALUE, like customer:4711",
    ("erase", "--stream", "call-3"): "this cannot be undone; add --yes to erase without a question",
}


def test_a_mistake_names_the_option(run: Run) -> None:
    for words, error in MISTAKES.items():
        status, out, told = run(*words)
        assert (status, out) == (2, ""), words
        assert told.startswith(f"emotide history: {error}"), words


def test_an_unknown_session_is_reported(run: Run) -> None:
    assert run("show", "nope")[0] == 1


def test_erase_erases_of_one_tenant_or_of_all(run: Run) -> None:
    of = {c.uid: c.tenant for c in CALLS if c.stream_id == "call-3"}
    count = sum(tenant == "acme" for tenant in of.values())
    status, out, _ = run("erase", "--stream", "call-3", "--tenant", "acme", "--yes")
    assert (status, out) == (0, f"erased: {count} session{'' if count == 1 else 's'}\n")
    left = {line["id"] for line in lines(run("list", "--json", "--limit", "500")[1])}
    assert left == {call.uid for call in CALLS if of.get(call.uid) != "acme"}
    assert run("erase", "--attribute", "customer:4711", "--yes")[0] == 0
    assert run("list")[1] == "no session fulfils these conditions\n"


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("", 1), ("no", 1)])
def test_erase_asks_first(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, status: int
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    def ask(text: str) -> str:
        asked.append(text)
        return answer

    monkeypatch.setattr("builtins.input", ask)
    assert run("erase", "--tenant", "acme")[0] == status
    assert asked == ["Erase every session of the tenant 'acme' for good? [y/N] "]
    left = lines(run("list", "--json", "--tenant", "acme")[1])
    assert bool(left) == bool(status)


def test_a_server_without_a_history_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "server.toml"
    file.write_text("[server]\nport = 1\n")
    assert main(["list", "--config", str(file)]) == 2
    assert f"history.url: is not set in {file}, so no history" in capsys.readouterr().err
    url = f"history.url=sqlite:///{tmp_path}/none.db"
    assert main(["list", "--set", url]) == 2
    assert "there is no database" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists(), "a question must not make a database"
    (tmp_path / "none.db").touch()
    assert main(["list", "--set", url]) == 1
    assert "the server of this version makes its tables" in capsys.readouterr().err


def test_help_teaches_without_the_libraries_of_the_database(config: Path) -> None:
    """Help must answer on a machine without SQLAlchemy, and other commands say what to install."""
    block = "import sys; sys.modules['sqlalchemy'] = None; from emotide.history import main; "
    helped = subprocess.run(
        [sys.executable, "-c", block + "main(['--help'])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "examples:" in helped.stdout
    asked = subprocess.run(
        [sys.executable, "-c", block + f"sys.exit(main(['list', '--config', {str(config)!r}]))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert asked.returncode == 2
    assert "pip install 'emotide[history]'" in asked.stderr


def test_a_closed_pipe_ends_an_export_quietly(config: Path) -> None:
    """`emotide history export | head -1`."""
    words = [sys.executable, "-m", "emotide", "history", "export", "--config", str(config)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as made:
        assert made.stdout is not None
        made.stdout.close()
        assert made.stderr is not None
        told = made.stderr.read().decode()
        made.wait(60)
    assert "Traceback" not in told
