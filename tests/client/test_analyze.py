"""`emotide analyze`: same results with and without a server; bad files are skipped."""

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
from client.batch.completed import CompletedInputs, key_of
from client.terminal.options import FAILED, INTERRUPTED, OK, USAGE
from tests.support.audio_files import record
from tests.support.contract import check_result
from tests.support.odd_files import second, tracks, wav
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
    """Return the status, the lines of --json, and the text on stderr."""
    status = client.analyze.main([*map(str, arguments), "--json"])
    output = capsys.readouterr()
    return status, [json.loads(line) for line in output.out.splitlines()], output.err


def result(row: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((Path(row["folder"]) / "result.json").read_text())
    check_result(result)
    return result


def test_server_and_local_give_the_same_result(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(tmp_path / "a.mp3")
    options = ("--granularity", "frame", "--language", "fr")
    remote = analyze(
        path, "--out", tmp_path / "remote", "--server", server.ws, *options, capsys=capsys
    )
    local = analyze(
        path, "--out", tmp_path / "local", "--local", "--model", "embedded", *options, capsys=capsys
    )
    assert remote[0] == local[0] == OK
    one, other = result(remote[1][0]), result(local[1][0])
    for key in ("schema", "file", "options", "model", "hints", "notice"):
        assert one[key] == other[key], key
    assert one["hints"][-1] == "language"
    for left, right in zip(one["channels"], other["channels"], strict=True):
        assert left["scores"] == pytest.approx(right["scores"], abs=2e-4)
        assert len(left["utterances"]) == len(right["utterances"]) == 2
        for a, b in zip(left["utterances"], right["utterances"], strict=True):
            assert (a["start_s"], a["end_s"], a["quality"]) == (
                b["start_s"],
                b["end_s"],
                b["quality"],
            )
            assert a["scores"] == pytest.approx(b["scores"], abs=2e-4)
    [left], [right] = one["frames"]["channels"], other["frames"]["channels"]
    assert left["start_s"] == right["start_s"]
    # With another number of threads, the int8 of the model rounds some frames the other way.
    difference = np.abs(np.subtract(left["posteriors"], right["posteriors"]))
    assert np.median(difference) < 2e-4
    assert difference.max() < 0.02
    names = {p.name for p in Path(remote[1][0]["folder"]).iterdir()}
    assert names == {p.name for p in Path(local[1][0]["folder"]).iterdir()}
    assert names == {"result.json", "frames.csv", "processed_audio.wav"}
    wavs = [Path(rows[0]["folder"]) / "processed_audio.wav" for _, rows, _ in (remote, local)]
    assert wavs[0].read_bytes() == wavs[1].read_bytes()


@pytest.mark.parametrize("place", ["--server", "--local"])
def test_a_batch_continues_after_bad_files_and_is_resumed(
    place: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = tmp_path / "calls"
    (calls / "deep").mkdir(parents=True)
    good = [record(calls / "a.wav"), record(calls / "deep" / "b.mp3", speech()[::-1].copy())]
    (calls / "c.mp3").write_text("no music, only words\n" * 100)
    (calls / "notes.txt").write_text("not analysed")
    out = calls / "results"
    where = ["--server", server.ws] if place == "--server" else ["--local", "--model", "embedded"]
    inputs = (calls, tmp_path / "none.wav")
    arguments: list[str | Path] = [*inputs, "--out", out, "--jobs", "2", *where]
    status, rows, messages = analyze(*arguments, capsys=capsys)
    assert status == FAILED
    by_name = {Path(row["file"]).name: row for row in rows}
    assert by_name["a.wav"]["status"] == by_name["b.mp3"]["status"] == "done"
    assert by_name["c.mp3"]["code"] == "not_audio"
    assert by_name["none.wav"]["status"] == "failed"
    assert len(rows) == 4
    assert "2 analysed, 0 skipped (result exists), 2 failed" in messages
    assert len([*out.glob("outputs_*")]) == 2, "a failure leaves no folder"
    status, rows, messages = analyze(*arguments, capsys=capsys)
    assert "0 analysed, 2 skipped (result exists), 2 failed" in messages
    shutil.rmtree(by_name["a.wav"]["folder"])
    status, rows, _ = analyze(*good, "--out", out, *where, capsys=capsys)
    assert status == OK
    assert sorted(row["status"] for row in rows) == ["done", "skipped"]
    status, rows, _ = analyze(good[1], "--out", out, "--language", "de", *where, capsys=capsys)
    assert [row["status"] for row in rows] == ["done"], "other options are another result"


def test_the_table_shows_lengths_and_errors(
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


def test_messages_count_channels_from_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message had channel 1 where the page has channel 2; and "1 recordings"."""
    one = speech()
    path = record(tmp_path / "call.wav", np.stack([one, np.roll(one, RATE // 2)], axis=1))
    status, [row], messages = analyze(
        path, "--out", tmp_path / "out", "--local", "--model", "embedded", capsys=capsys
    )
    assert status == OK
    assert "channel 2 of 2 (agent) is not analysed" in messages
    assert "1 recording, analysed by" in messages
    assert [(side["channel"], side["role"]) for side in result(row)["channels"]] == [
        (0, "customer")
    ]


def test_embeddings_are_written_or_refused_for_each_recording(
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
    ("arguments", "status", "expected"),
    [
        (["."], USAGE, "nothing to analyse"),
        (["a.wav", "--server", "ftp://x"], USAGE, "is not an address like"),
        (["a.wav", "--server", "ws://127.0.0.1:9"], FAILED, "no server answers"),
        (["a.wav", "--local", "--model", "none"], FAILED, "is neither a known name nor"),
        (["a.wav", "--roles", "A B"], USAGE, "--roles"),
        (["a.wav", "--language", "?"], USAGE, "--language"),
    ],
)
def test_invalid_usage_is_reported(
    arguments: list[str],
    status: int,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert client.analyze.main([*arguments, "--out", str(tmp_path / "o")]) == status
    assert expected in capsys.readouterr().err


def test_without_a_server_this_process_analyses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("client.analyze.DEFAULT_URL", "ws://127.0.0.1:9")
    status, rows, messages = analyze(
        record(tmp_path / "a.wav"), "--out", tmp_path / "o", "--model", "embedded", capsys=capsys
    )
    assert status == OK
    assert rows[0]["channels"][0]["utterances"] == 2
    assert "no server at ws://127.0.0.1:9: analysing in this process" in messages


def test_ctrl_c_keeps_finished_results(tmp_path: Path) -> None:
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
    deadline = time.monotonic() + 90
    while len([*out.glob("outputs_*")]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, messages
    assert "1 analysed" in messages
    assert "1 not analysed" in messages
    assert len([*out.glob("outputs_*")]) == 1


def test_any_name_is_analysed_and_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One name that is not UTF-8 ended the whole batch; `[music].wav` was shown as `.wav`."""
    calls = tmp_path / "calls"
    calls.mkdir()
    content = wav(second())
    names = [b"caf\xe9.wav", b"[music].wav", b"\x1b[2Jred.wav", b"[bold]:smile:.wav", b"z.wav"]
    for number, name in enumerate(names):
        path = calls / os.fsdecode(name)
        path.write_bytes(content + bytes(2 * number))
    (calls / "._[red]z.wav").write_bytes(b"x")
    arguments = [str(calls), "--out", str(tmp_path / "o"), "--local", "--model", "embedded"]
    assert client.analyze.main(arguments) == OK
    output = capsys.readouterr()
    for shown in ("caf\\xe9.wav", "[music].wav", "\\x1b[2Jred.wav", "[bold]:smile:.wav"):
        assert shown in output.out, output.out
    assert "\x1b[2J" not in output.out + output.err
    assert "z.wav: left out, a companion file" in output.err.replace("\n", "")
    assert client.analyze.main([*arguments, "--json"]) == OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["status"] for row in rows] == ["skipped"] * 5
    assert str(calls / "caf\\xe9.wav") in [row["file"] for row in rows]


def test_a_fault_of_this_program_with_one_file_does_not_end_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(wav(second(ord(name[0]) % 2)))
    original = key_of

    def fails_for_a(path: Path, options: dict[str, Any], model: str) -> str:
        if path.name == "a.wav":
            raise RuntimeError("a fault")
        return original(path, options, model)

    monkeypatch.setattr("client.analyze.key_of", fails_for_a)
    status, rows, _ = analyze(
        tmp_path, "--out", tmp_path / "o", "--local", "--model", "embedded", capsys=capsys
    )
    assert status == FAILED
    assert [(row["status"], row.get("code")) for row in rows] == [
        ("failed", "internal_error"),
        ("done", None),
    ]


@pytest.mark.parametrize("place", ["--server", "--local"])
def test_a_track_can_be_chosen(
    place: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tracks(tmp_path / "t.mkv", [second() * 0, speech()], default=1)
    where = ["--server", server.ws] if place == "--server" else ["--local", "--model", "embedded"]
    _, [row], _ = analyze(path, "--out", tmp_path / "o", *where, capsys=capsys)
    assert (result(row)["file"]["track"], result(row)["file"]["tracks"]) == (2, 2)
    assert row["channels"][0]["utterances"] > 0
    _, [row], _ = analyze(path, "--out", tmp_path / "o", "--track", "1", *where, capsys=capsys)
    assert result(row)["file"]["track"] == 1
    assert "no_speech" in row["hints"]
    status, [row], _ = analyze(path, "--out", tmp_path / "o", "--track", "3", *where, capsys=capsys)
    assert (status, row["code"]) == (FAILED, "unknown_track")
    assert "2 audio tracks" in row["message"]


def test_a_voice_on_the_channel_that_is_not_analysed_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The batch said only `no_speech` where the agent's side had all of the sound."""
    voice = speech()
    right = np.stack([voice * 0, voice], axis=1)
    hiss = np.random.default_rng(1).normal(0, 10, len(voice)).astype(np.int16)
    for name, columns in (("silent.wav", right), ("hiss.wav", right + hiss[:, None] * [1, 0])):
        path = tmp_path / name
        path.write_bytes(wav(columns.astype(np.int16)))
        _, [row], messages = analyze(
            path, "--out", tmp_path / "o", "--local", "--model", "embedded", capsys=capsys
        )
        assert row["hints"] == ["no_speech", "silent_channel"]
        if name == "silent.wav":
            assert "channel 1 (customer) is silent: all sound is on channel 2 (agent)" in (
                messages.replace("\n", " ")
            )


def test_completed_inputs_ignore_incomplete_lines_and_file_names(tmp_path: Path) -> None:
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
