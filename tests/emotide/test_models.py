"""`emotide models` with small models, valid and damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from emotide import models
from stream.backends import embedded, emotion2vec
from stream.backends.emotion2vec import exported
from tests.support import small_emotion2vec

NAME = "emotion2vec_plus_base"
QUESTIONS = Path(__file__).parents[2] / "docs" / "questions.md"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for variable in ("EMOTIDE_MODEL_DIR", "MODELSCOPE_CACHE", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    return tmp_path / "emotide_model_dir"


def test_list_prints_directory_and_licence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_emotion2vec.build(home / NAME)
    assert models.main(["list"]) == 0
    printed = capsys.readouterr().out
    assert str(home / NAME) in printed
    assert printed.count(emotion2vec.LICENCE) == len(emotion2vec.NAMES)
    assert "download emotion2vec_plus_large" in printed


def test_list_prints_the_licence_of_the_shipped_model(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It printed the code's licence, Apache-2.0, for weights under BSD and MIT."""
    assert models.main(["list"]) == 0
    shipped = json.loads((embedded.SHIPPED / "model.json").read_text(encoding="utf-8"))
    assert f"embedded: ships with Emotide ({shipped['licence']})" in capsys.readouterr().out
    monkeypatch.setattr(embedded, "SHIPPED", tmp_path)
    (tmp_path / "model.json").write_text('{"licence": "CC0-1.0"}', encoding="utf-8")
    assert models.main(["list"]) == 0
    assert "embedded: ships with Emotide (CC0-1.0)" in capsys.readouterr().out


def test_the_command_in_the_questions_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/questions.md named the module without a command, which only prints its usage."""
    downloaded: list[str] = []
    monkeypatch.setattr(models, "download", downloaded.append)
    commands = re.findall(r"emotide models([^`]*)`", QUESTIONS.read_text(encoding="utf-8"))
    for command in commands:
        assert models.main(command.split()) == 0
    assert downloaded == ["emotion2vec_plus_large"] * 2, "in English and in Chinese"


def test_download_fetches_a_model_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[str] = []

    def fetch(name: str) -> Path:
        fetched.append(name)
        return small_emotion2vec.build(home / name)

    monkeypatch.setattr(models, "fetch", fetch)
    assert models.main(["download", NAME]) == 0
    assert models.main(["download", NAME]) == 0
    assert fetched == [NAME]
    printed = capsys.readouterr().out
    assert f"now in {home / NAME}" in printed
    assert f"already in {home / NAME}" in printed


def test_verify_compares_with_funasr_and_the_export(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported.export(small_emotion2vec.build(home / NAME, small_emotion2vec.FIVE))
    assert models.main(["verify", NAME]) == 0
    printed = capsys.readouterr().out
    assert "sha256 " in printed
    assert "FunASR gives the same scores to within" in printed
    assert "emotion2vec.onnx gives the same scores to within" in printed


def test_verify_refuses_missing_and_damaged_models(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models.main(["verify", NAME]) == 1
    assert "not on this machine" in capsys.readouterr().err
    directory = small_emotion2vec.build(home / NAME)
    (directory / "model.pt").write_text("<html>")
    assert models.main(["verify", str(directory)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_verify_refuses_scores_that_differ_from_funasr(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = small_emotion2vec.build(home / NAME)
    monkeypatch.setattr(models, "_funasr", lambda *_: dict.fromkeys(["angry"], 0.5))
    assert models.main(["verify", str(directory)]) == 1
    assert "FunASR differs by" in capsys.readouterr().err
