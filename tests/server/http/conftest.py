"""A short recording, for test modules that send one."""

from __future__ import annotations

import pytest

from tests.support.audio_files import record
from tests.support.posting import Part
from tests.support.utterances import RATE, speech


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return four seconds of speech as an MP3 file."""
    return record(tmp_path_factory.mktemp("audio") / "a.mp3", speech()[: 4 * RATE]).read_bytes()


@pytest.fixture
def file(audio: bytes) -> Part:
    return ("file", "call.mp3", audio)
