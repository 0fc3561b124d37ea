"""`python -m client.analyze`: by a server and without one, alike; bad files stop nobody."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.analyze
from client.analyze import recordings
from client.batch.completed import CompletedInputs, key_of
from client.terminal.options import FAILED, INTERRUPTED, OK, USAGE
from tests.support.audio_files import record
from tests.support.contract import check_result
from tests.support.running import Server, running_server
from tests.support.utterances import RATE, speech

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with running_server("--set", f"files.folder={folder}", model="embedded") as server:
        yield server


def analyze(
    *arguments: str | Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[dict[str, Any]], str]:
    """Status, lines of --json, and what was said to people."""
    status = client.analyze.main([*map(str, arguments), "--json"])
    told = capsys.readouterr()
    return status, [json.loads(line) for line in told.out.splitlines()], told.err


def result(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(row["folder"]) / "result.json").read_text())
    check_result(found)
    return found


def test_both_ways_give_the_same(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(tmp_path / "a.mp3")
    options = ("--granularity", "frame", "--language", "fr")
    there = analyze(
        path, "--out", tmp_path / "there", "--server", server.ws, *options, capsys=capsys
    )
    here = analyze(
        path, "--out", tmp_path / "here", "--local", "--model", "embedded", *options, capsys=capsys
    )
    assert there[0] == here[0] == OK
    one, other = result(there[1][0]), result(here[1][0])
    for key in ("schema", "file", "options", "model", "hints", "notice"):
        assert one[key] == other[key], key
    assert one["hints"][-1] == "language"
    for mine, theirs in zip(one["channels"], other["channels"], strict=True):
        assert mine["scores"] == pytest.approx(theirs["scores"], abs=2e-4)
        assert len(mine["utterances"]) == len(theirs["utterances"]) == 2
        for a, b in zip(mine["utterances"], theirs["utterances"], strict=True):
            assert (a["start_s"], a["end_s"], a["quality"]) == (
                b["start_s"],
                b["end_s"],
                b["quality"],
            )
            assert a["scores"] == pytest.approx(b["scores"], abs=2e-4)
    [shares], [others] = one["frames"]["channels"], other["frames"]["channels"]
    assert shares["start_s"] == others["start_s"]
    assert np.allclose(shares["posteriors"], others["posteriors"], atol=2e-4)
    names = {p.name for p in Path(there[1][0]["folder"]).iterdir()}
    assert names == {p.name for p in Path(here[1][0]["folder"]).iterdir()}
    assert names == {"result.json", "frames.csv", "processed_audio.wav"}
    wavs = [Path(way[1][0]["folder"]) / "processed_audio.wav" for way in (there, here)]
    assert wavs[0].read_bytes() == wavs[1].read_bytes()


@pytest.mark.parametrize("way", ["--server", "--local"])
def test_a_batch_goes_on_past_bad_files_and_is_taken_up_again(
    way: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = tmp_path / "calls"
    (calls / "deep").mkdir(parents=True)
    good = [record(calls / "a.wav"), record(calls / "deep" / "b.mp3", speech()[::-1].copy())]
    (calls / "c.mp3").write_text("no music, only words\n" * 100)
    (calls / "notes.txt").write_text("not even tried")
    out = calls / "results"
    where = ["--server", server.ws] if way == "--server" else ["--local", "--model", "embedded"]
    arguments = (calls, tmp_path / "none.wav", "--out", out, "--jobs", "2", *where)
    status, rows, said = analyze(*arguments, capsys=capsys)
    assert status == FAILED
    by_name = {Path(row["file"]).name: row for row in rows}
    assert by_name["a.wav"]["status"] == by_name["b.mp3"]["status"] == "done"
    assert by_name["c.mp3"]["code"] == "not_audio"
    assert by_name["none.wav"]["status"] == "failed"
    assert len(rows) == 4
    assert "2 analysed, 0 were there already, 2 failed" in said
    assert len([*out.glob("outputs_*")]) == 2, "a failure leaves no folder"
    status, rows, said = analyze(*arguments, capsys=capsys)
    assert "0 analysed, 2 were there already, 2 failed" in said
    shutil.rmtree(by_name["a.wav"]["folder"])
    status, rows, _ = analyze(*good, "--out", out, *where, capsys=capsys)
    assert status == OK
    assert sorted(row["status"] for row in rows) == ["done", "skipped"]
    status, rows, _ = analyze(good[1], "--out", out, "--language", "de", *where, capsys=capsys)
    assert [row["status"] for row in rows] == ["done"], "other options are another result"


def test_the_table_is_for_people(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(tmp_path / "a.wav")
    (tmp_path / "b.wav").touch()
    arguments = [str(tmp_path), "--out", str(tmp_path / "o"), "--server", server.ws]
    assert client.analyze.main(arguments) == FAILED
    shown = capsys.readouterr().out
    assert "0:07" in shown
    assert path.name in shown
    assert "empty_file" in shown


def test_people_count_channels_from_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It said channel 1 where the page says channel 2, of the same one; and "1 recordings"."""
    one = speech()
    path = record(tmp_path / "call.wav", np.stack([one, np.roll(one, RATE // 2)], axis=1))
    status, [row], said = analyze(
        path, "--out", tmp_path / "out", "--local", "--model", "embedded", capsys=capsys
    )
    assert status == OK
    assert "channel 2 of 2 (agent) is not analysed" in said
    assert "1 recording, analysed by" in said
    assert [(side["channel"], side["role"]) for side in result(row)["channels"]] == [
        (0, "customer")
    ]


def test_a_model_without_embeddings_says_so_for_each(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dim = server.json("/v1/info")["model"]["embedding_dim"]
    status, rows, _ = analyze(
        record(tmp_path / "a.wav"),
        *("--embedding", "--out", tmp_path / "o", "--server", server.ws),
        capsys=capsys,
    )
    if dim:
        assert np.load(Path(rows[0]["folder"]) / "embedding.npy").shape == (dim,)
    else:
        assert (status, rows[0]["code"]) == (FAILED, "config_invalid")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["."], USAGE, "nothing to analyse"),
        (["a.wav", "--server", "ftp://x"], USAGE, "is not an address like"),
        (["a.wav", "--server", "ws://127.0.0.1:9"], FAILED, "no server answers"),
        (["a.wav", "--local", "--model", "none"], FAILED, "is unknown"),
        (["a.wav", "--roles", "A B"], USAGE, "--roles"),
        (["a.wav", "--language", "?"], USAGE, "--language"),
    ],
)
def test_wrong_use_is_told(
    arguments: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert client.analyze.main([*arguments, "--out", str(tmp_path / "o")]) == status
    assert said in capsys.readouterr().err


def test_without_a_server_it_does_it_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("client.analyze.DEFAULT_URL", "ws://127.0.0.1:9")
    status, rows, said = analyze(
        record(tmp_path / "a.wav"), "--out", tmp_path / "o", "--model", "embedded", capsys=capsys
    )
    assert status == OK
    assert rows[0]["channels"][0]["utterances"] == 2
    assert "no server at ws://127.0.0.1:9: analysing here" in said


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    record(tmp_path / "b.wav", np.tile(speech(), 200))
    out = tmp_path / "o"
    command = [sys.executable, "-m", "client.analyze", str(tmp_path), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--local", "--model", "embedded", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == "done"
    deadline = time.monotonic() + 20
    while len([*out.glob("outputs_*")]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED, said
    assert "1 analysed" in said
    assert "1 not analysed" in said
    assert len([*out.glob("outputs_*")]) == 1


def test_what_is_taken_from_folders(tmp_path: Path) -> None:
    for name in ("b.wav", "a.MP3", "x.txt", "d/c.ogg", "out/outputs_1/processed_audio.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [str(tmp_path), str(tmp_path / "b.wav"), str(tmp_path / "x.txt")]
    found = [path.name for path in recordings(names, tmp_path / "out")]
    assert found == ["a.MP3", "b.wav", "c.ogg", "x.txt"]


def test_the_ledger_survives_a_cut_line_and_knows_bytes_not_names(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"abc")
    key = key_of(path, {"x": 1}, "m@1")
    path.rename(tmp_path / "b.wav")
    assert key_of(tmp_path / "b.wav", {"x": 1}, "m@1") == key
    assert key_of(tmp_path / "b.wav", {"x": 2}, "m@1") != key
    assert key_of(tmp_path / "b.wav", {"x": 1}, "m@2") != key
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "result.json").touch()
    CompletedInputs(tmp_path).add(key, {"folder": "r"})
    with (tmp_path / "analyze.jsonl").open("ab") as file:
        file.write(b'{"key": "cut')
    assert CompletedInputs(tmp_path).find(key) == {"key": key, "folder": "r"}
    (tmp_path / "r" / "result.json").unlink()
    assert CompletedInputs(tmp_path).find(key) is None
