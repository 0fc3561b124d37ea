"""The models of live streams and of recordings: loaded, shared, refused, interrupted."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import Any

import pytest

from stream.config import Config
from stream.errors import ConfigError, ModelRefused
from stream.inference.engine import ThreadEngine
from stream.inference.models import Models
from stream.types import ModelInfo
from tests.support.plugins import Fast


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def engine(model_id: str = "live", **changes: Any) -> ThreadEngine:
    """Return the engine of a stand-in model."""
    backend = Fast((1, 2))
    backend.info = dataclasses.replace(backend.info, id=model_id, **changes)
    return ThreadEngine(lambda: backend, 2)


def broken(error: Exception) -> ThreadEngine:
    """Return an engine whose model cannot be loaded."""

    def load() -> Fast:
        raise error

    return ThreadEngine(load, 2)


async def test_recordings_share_the_live_model_unless_they_have_their_own() -> None:
    models = Models(config(), engine())
    live, recordings = await models.load()
    assert live is recordings
    assert models.recordings is models.live
    await models.stop(5)
    assert not models.alive


async def test_recordings_get_the_model_that_is_chosen_for_the_live_one() -> None:
    models = Models(config(), engine(), lambda live: engine(f"beside {live.id}"))
    live, recordings = await models.load()
    assert (live.id, recordings.id) == ("live", "beside live")
    assert models.recordings is not models.live
    assert models.alive
    await models.live.stop(5)
    assert models.alive, "that of recordings runs"
    await models.stop(5)
    assert not models.alive


async def test_without_recordings_no_model_is_loaded_for_them() -> None:
    models = Models(config(files={"enabled": False}), engine(), lambda live: engine("unused"))
    live, recordings = await models.load()
    assert live is recordings
    await models.stop(5)


async def test_a_model_of_recordings_that_is_refused_is_replaced_only_if_it_was_not_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refused(live: ModelInfo) -> ThreadEngine:
        return broken(ModelRefused("too old"))

    models = Models(config(), engine(), refused)
    live, recordings = await models.load()
    assert live is recordings
    assert models.recordings is models.live
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert (record.getMessage(), vars(record)["reason"]) == (
        "recordings use the live model",
        "too old",
    )
    await models.stop(5)
    named = Models(config(model={"recordings": "embedded"}), engine(), refused)
    with pytest.raises(ModelRefused, match="too old"):
        await named.load()
    await named.stop(5)


async def test_an_exception_of_a_library_becomes_a_refusal_that_names_the_model() -> None:
    models = Models(config(model={"name": "embedded"}), broken(OSError("no such symbol")))
    expected = "model embedded cannot run: OSError: no such symbol"
    with pytest.raises(ModelRefused, match=expected):
        await models.load()


@pytest.mark.parametrize("poor", ["live", "recordings"])
async def test_feedback_needs_a_model_with_embeddings(poor: str) -> None:
    """Each of both models: its features are what is stored."""
    dims = {"live": 2, "recordings": 2, poor: 0}
    models = Models(
        config(feedback={"enabled": True}),
        engine("live", dim=dims["live"]),
        lambda live: engine("recordings", dim=dims["recordings"]),
    )
    with pytest.raises(ConfigError, match=rf"feedback\.enabled: model {poor} has no embeddings"):
        await models.load()
    await models.stop(5)


async def test_loading_that_is_cancelled_does_not_wait_for_the_model() -> None:
    """SIGTERM while a model loads: native code cannot be interrupted, and is not waited for."""
    begun, release = threading.Event(), threading.Event()

    def load() -> Fast:
        begun.set()
        release.wait(20)
        return Fast()

    models = Models(config(), ThreadEngine(load, 2))
    loading = asyncio.create_task(models.load())
    await asyncio.to_thread(begun.wait, 20)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(loading, 10)
    assert models.alive
    release.set()
    await models.stop(5)
