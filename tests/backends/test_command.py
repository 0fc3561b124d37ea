"""`python -m stream.backends` on small models: what it says of good ones and of bad ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from stream.backends import __main__, embedded, emotion2vec
from stream.backends.emotion2vec import exported
from tests.support import small_emotion2vec

NAME = "emotion2vec_plus_base"
QUESTIONS = Path(__main__.__file__).parents[2] / "docs" / "questions.md"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for variable in ("EMOTIDE_MODEL_DIR", "MODELSCOPE_CACHE", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    return tmp_path / "emotide_model_dir"


def test_list_says_where_and_under_which_licence(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_emotion2vec.build(home / NAME)
    assert __main__.main(["list"]) == 0
    said = capsys.readouterr().out
    assert str(home / NAME) in said
    assert said.count(emotion2vec.LICENCE) == len(emotion2vec.NAMES)
    assert "download emotion2vec_plus_large" in said


def test_list_says_the_licence_that_ships(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said Apache-2.0, which is the code's, of weights that come under BSD and MIT."""
    assert __main__.main(["list"]) == 0
    shipped = json.loads((embedded.SHIPPED / "model.json").read_text(encoding="utf-8"))
    assert f"embedded: comes with Emotide ({shipped['licence']})" in capsys.readouterr().out
    monkeypatch.setattr(embedded, "SHIPPED", tmp_path)
    (tmp_path / "model.json").write_text('{"licence": "CC0-1.0"}', encoding="utf-8")
    assert __main__.main(["list"]) == 0
    assert "embedded: comes with Emotide (CC0-1.0)" in capsys.readouterr().out


def test_the_command_that_the_answers_give_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/questions.md told people to run the module alone, which ends with its usage."""
    fetched: list[str] = []
    monkeypatch.setattr(__main__, "download", fetched.append)
    commands = re.findall(r"-m stream\.backends([^`]*)`", QUESTIONS.read_text(encoding="utf-8"))
    for command in commands:
        assert __main__.main(command.split()) == 0
    assert fetched == ["emotion2vec_plus_large"] * 2, "in English and in Chinese"


def test_download_fetches_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[str] = []

    def fetch(name: str) -> Path:
        fetched.append(name)
        return small_emotion2vec.build(home / name)

    monkeypatch.setattr(__main__, "fetch", fetch)
    assert __main__.main(["download", NAME]) == 0
    assert __main__.main(["download", NAME]) == 0
    assert fetched == [NAME]
    said = capsys.readouterr().out
    assert f"now in {home / NAME}" in said
    assert f"already in {home / NAME}" in said


def test_verify_compares_with_funasr_and_the_export(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported.export(small_emotion2vec.build(home / NAME, small_emotion2vec.FIVE))
    assert __main__.main(["verify", NAME]) == 0
    said = capsys.readouterr().out
    assert "sha256 " in said
    assert "FunASR gives the same scores" in said
    assert "emotion2vec.onnx gives the same scores" in said


def test_verify_refuses(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["verify", NAME]) == 1
    assert "not on this machine" in capsys.readouterr().err
    directory = small_emotion2vec.build(home / NAME)
    (directory / "model.pt").write_text("<html>")
    assert __main__.main(["verify", str(directory)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_verify_notices_other_scores(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = small_emotion2vec.build(home / NAME)
    monkeypatch.setattr(__main__, "_funasr", lambda *_: dict.fromkeys(["angry"], 0.5))
    assert __main__.main(["verify", str(directory)]) == 1
    assert "FunASR differs by" in capsys.readouterr().err
