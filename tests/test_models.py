"""`python -m stream.models` on small models: what it says of good ones and of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream import models
from stream.backends import emotion2vec
from stream.backends.emotion2vec import exported
from tests.backends import small_model

NAME = "emotion2vec_plus_base"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for variable in ("EMOTIDE_MODEL_DIR", "MODELSCOPE_CACHE", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    return tmp_path / "emotide_model_dir"


def test_list_says_where_and_under_which_licence(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_model.build(home / NAME)
    assert models.main(["list"]) == 0
    said = capsys.readouterr().out
    assert str(home / NAME) in said
    assert said.count(emotion2vec.LICENCE) == len(emotion2vec.NAMES)
    assert "download emotion2vec_plus_large" in said


def test_download_fetches_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[str] = []

    def fetch(name: str) -> Path:
        fetched.append(name)
        return small_model.build(home / name)

    monkeypatch.setattr(models, "fetch", fetch)
    assert models.main(["download", NAME]) == 0
    assert models.main(["download", NAME]) == 0
    assert fetched == [NAME]
    said = capsys.readouterr().out
    assert f"now in {home / NAME}" in said
    assert f"already in {home / NAME}" in said


def test_verify_compares_with_funasr_and_the_export(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported.export(small_model.build(home / NAME, small_model.FIVE))
    assert models.main(["verify", NAME]) == 0
    said = capsys.readouterr().out
    assert "sha256 " in said
    assert "FunASR gives the same scores" in said
    assert "emotion2vec.onnx gives the same scores" in said


def test_verify_refuses(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert models.main(["verify", NAME]) == 1
    assert "not on this machine" in capsys.readouterr().err
    directory = small_model.build(home / NAME)
    (directory / "model.pt").write_text("<html>")
    assert models.main(["verify", str(directory)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_verify_notices_other_scores(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = small_model.build(home / NAME)
    monkeypatch.setattr(models, "_funasr", lambda *_: dict.fromkeys(["angry"], 0.5))
    assert models.main(["verify", str(directory)]) == 1
    assert "FunASR differs by" in capsys.readouterr().err
