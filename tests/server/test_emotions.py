"""Recordings with known emotions through the real server and the model that is shipped.

The shipped model was trained on these recordings too: that it names their emotions shows that
decoding, voice detection, windows, labels and pooling fit together, and nothing of its accuracy.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.clients import run, stream
from tests.support.running import Server, running_server
from tests.support.utterances import CLIPS, RATE, Pcm, clip, encode
from training.sounds import music

with (CLIPS / "manifest.csv").open(newline="") as lines:
    # Bored voices, `other` in the manifest, are neutral to the shipped model.
    EMOTIONS = {
        row["path"]: row["emotion"].replace("other", "neutral") for row in csv.DictReader(lines)
    }


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(model="embedded") as started:
        yield started


async def heard(server: Server, pcm: Pcm, **query: object) -> dict[str, float]:
    """The whole call's scores after the last utterance of a stream; empty if none was found."""
    encoding, rate = (
        str(query.get("encoding", "linear16")),
        int(str(query.get("sample_rate", RATE))),
    )
    quiet = np.random.default_rng(3).integers(-8, 9, RATE).astype(np.int16)
    async with stream(server, **query) as client:
        await client.audio(encode(np.concatenate([quiet, pcm, quiet]), encoding, rate))
        await client.close_session()
        segments = client.of("emotion.segment")
        return segments[-1]["rolling"]["call"] if segments else {}


def test_names_the_emotion_of_a_recording(server: Server) -> None:
    named = {name: run(heard(server, clip(name))) for name in EMOTIONS}
    tops = {name: max(scores, key=scores.__getitem__) for name, scores in named.items()}
    right = [name for name, top in tops.items() if top == EMOTIONS[name]]
    assert len(right) >= 6, named


@pytest.mark.parametrize("name", [name for name, x in EMOTIONS.items() if x != "disgusted"])
def test_hears_activation_over_a_telephone(server: Server, name: str) -> None:
    scores = run(heard(server, clip(name), encoding="mulaw", sample_rate=8000))
    aroused = scores["angry"] + scores["happy"] + scores["fearful"]
    calm = scores["neutral"] + scores["sad"]
    assert (aroused > calm) == (EMOTIONS[name] in ("angry", "happy", "fearful")), scores


@pytest.mark.parametrize("seed", range(4))
def test_music_made_by_code_has_no_emotion(server: Server, seed: int) -> None:
    sound = music(np.random.default_rng(1000 + seed), 5 * RATE)
    pcm = (sound / np.abs(sound).max() * 16_000).astype(np.int16)
    scores = run(heard(server, pcm))
    assert not scores or max(scores, key=scores.__getitem__) == "unknown", scores
