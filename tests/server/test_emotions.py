"""Recordings with known emotions, scored by a server process with the shipped model.

The shipped model was also trained on these recordings. The tests show that decoding, voice
detection, windows, labels and pooling work together; they do not measure its accuracy.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

import numpy as np
import pytest

from stream.labels import activation
from tests.support.clients import stream
from tests.support.running import Server, running_server
from tests.support.utterances import CLIPS, RATE, Pcm, clip, encode
from training.sounds import music

with (CLIPS / "manifest.csv").open(newline="") as lines:
    # Bored speech is `other` in the manifest and `neutral` in the shipped model.
    EMOTIONS = {
        row["path"]: row["emotion"].replace("other", "neutral") for row in csv.DictReader(lines)
    }
    LABELLED = {name: x for name, x in EMOTIONS.items() if x not in ("fearful", "disgusted")}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(model="embedded") as started:
        yield started


async def call_scores(server: Server, pcm: Pcm, **query: object) -> dict[str, float]:
    """Return the scores over a whole stream; empty if it has no utterance."""
    encoding, rate = (
        str(query.get("encoding", "linear16")),
        int(str(query.get("sample_rate", RATE))),
    )
    noise = np.random.default_rng(3).integers(-8, 9, RATE).astype(np.int16)
    async with stream(server, **query) as client:
        await client.audio(encode(np.concatenate([noise, pcm, noise]), encoding, rate))
        await client.close_session()
        segments = client.of("emotion.segment")
        return segments[-1]["rolling"]["call"] if segments else {}


async def test_the_top_label_is_the_emotion_of_the_recording(server: Server) -> None:
    scored = {name: await call_scores(server, clip(name)) for name in LABELLED}
    tops = {name: max(scores, key=scores.__getitem__) for name, scores in scored.items()}
    correct = [name for name, top in tops.items() if top == LABELLED[name]]
    assert len(correct) >= 3, scored


async def test_activation_is_higher_in_aroused_voices_on_the_telephone(server: Server) -> None:
    shares: dict[bool, list[float]] = {True: [], False: []}
    for name, emotion in EMOTIONS.items():
        if emotion != "disgusted":
            scores = await call_scores(server, clip(name), encoding="mulaw", sample_rate=8000)
            share = activation(scores)
            assert share is not None
            shares[emotion in ("angry", "happy", "fearful")].append(share)
    assert np.mean(shares[True]) > np.mean(shares[False]) + 0.3, shares
    assert max(shares[False]) < 0.5, shares


@pytest.mark.parametrize("seed", range(4))
async def test_synthetic_music_has_no_emotion(server: Server, seed: int) -> None:
    sound = music(np.random.default_rng(1000 + seed), 5 * RATE)
    pcm = (sound / np.abs(sound).max() * 16_000).astype(np.int16)
    scores = await call_scores(server, pcm)
    assert not scores or max(scores, key=scores.__getitem__) == "unknown", scores
