"""Fixtures of the emotion2vec tests: one small model for all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stream.backends.emotion2vec import Emotion2vec
from tests.support import small_emotion2vec
from tests.support.emotion2vec import load


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_emotion2vec.build(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="session")
def backend(model_dir: Path) -> Emotion2vec:
    return load(model_dir)


@pytest.fixture
def damaged(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the model for a test to damage."""
    return Path(shutil.copytree(model_dir, tmp_path / "damaged"))
