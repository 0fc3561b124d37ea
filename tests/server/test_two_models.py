"""Two models in one process: one for live streams, a larger one for recordings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.backends import choice
from stream.backends.emotion2vec import exported, quantized
from stream.backends.emotion2vec.locate import Files
from stream.backends.registry import load, load_for_recordings
from stream.config import ModelConfig
from stream.types import ModelInfo
from tests.support import small_emotion2vec
from tests.support.clients import stream
from tests.support.posting import post
from tests.support.running import Server, running_server
from tests.support.signals import clips

BASE = choice.BASE


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small model under the name of the base model."""
    folder = tmp_path_factory.mktemp("models")
    small_emotion2vec.build(folder / BASE)
    return folder


@pytest.fixture(scope="module")
def server(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    outputs = tmp_path_factory.mktemp("outputs")
    environment = {"EMOTIDE_MODEL_DIR": str(checkpoints)}
    with running_server(
        "--model", "auto", "--device", "cpu", "--set", f"files.folder={outputs}", env=environment
    ) as running:
        yield running


async def test_recordings_get_the_larger_model_and_live_streams_the_embedded_one(
    server: Server,
) -> None:
    """The web demos analyse recordings with base on a CPU; Emotide offered its smallest model."""
    info = server.json("/v1/info")
    assert info["model"]["id"].startswith("emotide-embedded")
    assert info["recordings_model"]["id"] == BASE
    assert "too slow here for live streams" in info["recordings_model"]["why"]
    result = post(server, "?wait=60", ("file", "a.flac", clips()[0].read_bytes())).body["result"]
    assert result["model"]["id"] == BASE
    assert result["model"]["why"] == info["recordings_model"]["why"]
    async with stream(server) as client:
        created = await client.until("session.created")
        assert created["session"]["analysis"]["model"]["id"] == info["model"]["id"]
        await client.close_session()
    ready = server.line("ready")
    assert ready["recordings_model"] == BASE


def test_a_broken_checkpoint_leaves_recordings_with_the_live_model(tmp_path: Path) -> None:
    """Half a download in a cache must not keep a server from starting."""
    small_emotion2vec.build(tmp_path / BASE)
    (tmp_path / BASE / "model.pt").write_bytes(b"half")
    with running_server(
        "--model", "auto", "--device", "cpu", env={"EMOTIDE_MODEL_DIR": str(tmp_path)}
    ) as running:
        info = running.json("/v1/info")
        assert info["recordings_model"]["id"] == info["model"]["id"]
        assert "model.pt" in running.line("recordings use the live model")["reason"]


LIVE = ModelInfo("emotide-embedded-9", "1", ("angry",), 320, (16_000,), (1,), 1.0, "", "cpu")


@pytest.mark.parametrize(
    ("settings", "live", "expected"),
    [
        ({}, "emotide-embedded-9", BASE),
        ({"recordings": "live"}, "emotide-embedded-9", None),
        ({"recordings": "embedded"}, "emotion2vec_plus_large", "embedded"),
        ({}, "emotion2vec_plus_large", None),
        ({}, "our-own", None),
    ],
)
def test_the_choice_for_recordings(
    settings: dict[str, Any],
    live: str,
    expected: str | None,
    checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMOTIDE_MODEL_DIR", str(checkpoints))
    info = ModelInfo(live, "1", ("angry",), 320, (16_000,), (1,), 1.0, "", "cpu")
    chosen = choice.for_recordings(ModelConfig(**settings), info)
    assert (chosen[0] if chosen else None) == expected


def test_without_a_checkpoint_recordings_use_the_live_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EMOTIDE_MODEL_DIR", "MODELSCOPE_CACHE", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert choice.for_recordings(ModelConfig(), LIVE) is None
    backend = load_for_recordings(ModelConfig(device="cpu"))
    assert backend.info.id.startswith("emotide-embedded")
    backend.close()


class Slow:
    """A backend that needs a known time for a window."""

    info = LIVE

    def infer(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        time.sleep(0.02)
        return np.zeros((len(batch), 50, 1), np.float32)

    def close(self) -> None: ...


def test_the_speed_of_a_model_tells_how_many_streams_it_carries() -> None:
    speed = choice.measure(Slow())
    # The fastest of several windows; their sum would be at least as many times 20 ms.
    assert 20 <= speed.window_ms < 20 * choice.MEASURED_WINDOWS
    assert speed.streams == int(choice.LOAD / (choice.SPEECH_SHARE * speed.window_ms / 1000))


@pytest.mark.parametrize(("needed", "expected"), [(1, BASE), (1_000_000, "emotide-embedded")])
def test_auto_measures_whether_base_in_8_bits_is_fast_enough(
    needed: int, expected: str, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files.of(checkpoints / BASE)
    if not files.int8.is_file():
        exported.export(checkpoints / BASE)
        quantized.quantize(files)
    monkeypatch.setenv("EMOTIDE_MODEL_DIR", str(checkpoints))
    backend = load("auto", device="auto", min_streams=needed)
    assert backend.info.id.startswith(expected)
    assert "ms per window here, so it carries" in backend.info.why
    backend.close()
