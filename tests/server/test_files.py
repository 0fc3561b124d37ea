"""Recordings sent to a server process: formats, files of the result, equality with live streams."""

from __future__ import annotations

import asyncio
import csv
import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from client.audio.files import blocks, chunks, probe
from client.audio.playback import PlaybackClock, play, run_call
from client.remote.call import stream as live_stream
from tests.support.audio_files import FORMATS, cut, record
from tests.support.contract import check_result
from tests.support.running import Event, Server, running_server
from tests.support.uploading import analyse, fetch, uploader
from tests.support.utterances import RATE, speech

# -- results -----------------------------------------------------------------------------------


async def test_every_format_is_analysed(server: Server, tmp_path: Path) -> None:
    async with uploader(server) as client:
        for name in [*FORMATS, "film.mp4"]:
            path = record(tmp_path / name, video=name == "film.mp4")
            done = await analyse(client, path)
            assert done["type"] == "file.done", (name, done)
            [channel] = done["result"]["channels"]
            assert [u["utterance"] for u in channel["utterances"]] == [0, 1], name
            assert done["result"]["file"]["name"] == name
            assert "truncated" not in done["result"]["hints"], name


async def test_a_result_has_all_files(server: Server, folder: Path, tmp_path: Path) -> None:
    path = record(tmp_path / "my call.wav")

    async with uploader(server) as client:
        done = await analyse(client, path, granularity="frame", embedding=True, language="fr")

    check_result(done["result"])
    assert "frames" not in done["result"]
    result = orjson.loads(fetch(server, done, "result.json"))
    check_result(result)
    frames = result.pop("frames")
    assert result == done["result"]

    rows = list(csv.reader(io.StringIO(fetch(server, done, "frames.csv").decode())))
    labels = done["result"]["model"]["labels"]
    assert rows[0] == ["channel", "start_s", *labels]
    [column] = frames["channels"]
    assert [float(row[1]) for row in rows[1:]] == column["start_s"]
    assert np.allclose([list(map(float, row[2:])) for row in rows[1:]], column["posteriors"])
    assert np.allclose(np.sum(column["posteriors"], axis=1), 1, atol=1e-3)
    assert np.all(np.diff(column["start_s"]) > 0)

    embedding = np.load(io.BytesIO(fetch(server, done, "embedding.npy")))
    assert embedding.shape == (len(rows) - 1, 2)
    assert embedding.dtype == np.float32
    per_utterance = np.load(io.BytesIO(fetch(server, done, "embeddings_utterances.npy")))
    assert per_utterance.shape == (2, 2)

    with wave.open(io.BytesIO(fetch(server, done, "processed_audio.wav"))) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (RATE, 1, 2)
        audio = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
    assert np.array_equal(audio, speech())

    assert client.of("emotion.score")[0]["frames"]["posteriors"]
    stages = [event["stage"] for event in client.of("file.progress")]
    assert list(dict.fromkeys(stages)) == ["upload", "decode", "analysis", "write"]
    assert client.of("file.progress")[-1]["share"] == 1

    [result_folder] = [one for one in folder.iterdir() if (one / "embedding.npy").exists()]
    assert result_folder.name.startswith("outputs_20")
    assert sorted(p.name for p in result_folder.iterdir() if not p.name.startswith(".")) == sorted(
        file["name"] for file in done["files"]
    )
    assert [p.name for p in result_folder.iterdir() if p.name.startswith(".")] == [".emotide"]


async def test_every_utterance_has_one_embedding(server: Server, tmp_path: Path) -> None:
    async with uploader(server) as client:
        done = await analyse(client, record(tmp_path / "a.flac"), embedding=True)
        assert not any("frames" in e or "embedding" in e for e in client.of("emotion.score"))

    overall = np.load(io.BytesIO(fetch(server, done, "embedding.npy")))
    each = np.load(io.BytesIO(fetch(server, done, "embeddings_utterances.npy")))
    assert (overall.shape, each.shape) == ((2,), (2, 2))
    assert each.min(axis=0)[0] <= overall[0] <= each.max(axis=0)[0]
    assert "frames" not in orjson.loads(fetch(server, done, "result.json"))


async def test_stereo_is_analysed_by_channel_and_equal_channels_as_one(
    server: Server, tmp_path: Path
) -> None:
    one = speech()
    two = np.stack([one, np.roll(one, RATE // 2)], axis=1)

    async with uploader(server) as client:
        done = await analyse(client, record(tmp_path / "two.wav", two))
        assert [c["role"] for c in done["result"]["channels"]] == ["customer"]
        assert client.of("file.log")[-1]["code"] == "channel_skipped"
        done = await analyse(
            client, record(tmp_path / "two.wav", two), roles=["speaker", "customer"]
        )
        assert [c["role"] for c in done["result"]["channels"]] == ["speaker", "customer"]
        assert all(len(c["utterances"]) == 2 for c in done["result"]["channels"])
        done = await analyse(client, record(tmp_path / "one.wav", np.stack([one, one], 1)))
        assert [c["role"] for c in done["result"]["channels"]] == ["speaker"]
        assert "channels_alike" in [e["code"] for e in client.of("file.log")]
        # Roles for a batch of stereo calls must not refuse a mono file in it.
        done = await analyse(client, record(tmp_path / "m.wav"), roles=["speaker", "customer"])
        assert [c["role"] for c in done["result"]["channels"]] == ["speaker"]
        refused = await analyse(client, record(tmp_path / "m.wav"), roles=["agent"])
        assert refused["code"] == "agent_channel_forbidden"


async def test_silence_gives_a_result_without_speech(server: Server, tmp_path: Path) -> None:
    silence = np.random.default_rng(1).integers(-8, 9, 3 * RATE).astype(np.int16)

    async with uploader(server) as client:
        done = await analyse(client, record(tmp_path / "a.wav", silence))

    [channel] = done["result"]["channels"]
    assert (channel["utterances"], channel["scores"], channel["top"]) == ([], {}, None)
    assert done["result"]["hints"] == ["no_speech"]
    assert fetch(server, done, "frames.csv").count(b"\n") == 1


async def test_a_truncated_file_is_analysed_with_a_warning(server: Server, tmp_path: Path) -> None:
    async with uploader(server) as client:
        done = await analyse(client, cut(record(tmp_path / "a.flac"), 0.7))
        assert "truncated" in done["result"]["hints"]
        assert client.of("file.log")[-1]["code"] == "truncated"
        assert done["result"]["channels"][0]["utterances"]


async def test_noise_suppression_is_applied_with_a_warning(server: Server, tmp_path: Path) -> None:
    async with uploader(server) as client:
        assert client.events[0]["denoise"] is True
        done = await analyse(client, record(tmp_path / "a.wav"), denoise=True)
        assert done["result"]["options"]["denoise"] is True
        assert [e["code"] for e in client.of("file.log")] == ["decoded", "denoised"]
        assert client.of("file.log")[-1]["level"] == "warning"
        audio = fetch(server, done, "processed_audio.wav")
        assert len(audio) == 44 + 2 * len(speech())


# -- equality with live streams ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "mulaw.wav", "float.wav", "stereo.flac"])
async def test_a_recording_and_its_live_replay_have_equal_scores(name: str, tmp_path: Path) -> None:
    """This is promised for recordings; checked with the shipped model, client and server."""
    one = speech()
    two = np.stack([one, np.roll(one, RATE // 2)], axis=1)
    path = record(tmp_path / name, two if name.startswith("stereo") else one)
    roles = ["speaker", "customer"][: probe(path).channels]

    with running_server("--set", f"files.folder={tmp_path / 'out'}", model="embedded") as server:
        live = await replayed(server, path, roles)
        async with uploader(server) as client:
            done = await analyse(client, path, roles=roles)
            segments = client.of("emotion.segment")

    assert len(live) == len(segments) == 2 * len(roles)
    keys = ("role", "utterance", "audio_start_ms", "audio_end_ms", "trigger", "quality", "hints")
    for channel, result in enumerate(done["result"]["channels"]):
        of_call = [event for event in live if event["channel"] == channel]
        of_file = [event for event in segments if event["channel"] == channel]
        assert len(of_call) == len(result["utterances"]) == 2
        for spoken, sent, stored in zip(of_call, of_file, result["utterances"], strict=True):
            assert {key: spoken[key] for key in keys} == {key: sent[key] for key in keys}
            assert spoken["scores"] == pytest.approx(sent["scores"], abs=2e-4)
            # The result compares each utterance with the whole recording, a call with its past.
            raw = [item["baseline"]["scores"] for item in (spoken, stored)]
            assert raw[0] == pytest.approx(raw[1], abs=2e-4)
            assert round(1000 * stored["start_s"]) == spoken["audio_start_ms"]


async def replayed(server: Server, path: Path, roles: list[str]) -> list[Event]:
    """Play a recording as a live stream at twice its speed; return its segments."""
    recording = probe(path)
    rate = recording.sample_rate
    pieces = chunks(blocks(recording, rate, len(roles)), rate // 50)
    call = live_stream(server.ws, sample_rate=rate, channels=len(roles), roles=roles)
    events: list[Any] = []
    await run_call(
        call,
        lambda: play(call, pieces, rate, "linear16", PlaybackClock(2.0), asyncio.Event()),
        events.append,
    )
    return [event for event in events if event["type"] == "emotion.segment"]


async def test_a_model_without_embeddings_refuses_them(tmp_path: Path) -> None:
    with running_server("--set", f"files.folder={tmp_path / 'o'}", model="embedded") as server:
        async with uploader(server) as client:
            if client.events[0]["model"]["embedding_dim"]:
                done = await analyse(client, record(tmp_path / "a.wav"), embedding=True)
                dim = client.events[0]["model"]["embedding_dim"]
                assert np.load(io.BytesIO(fetch(server, done, "embedding.npy"))).shape == (dim,)
                return
            refused = await analyse(client, record(tmp_path / "a.wav"), embedding=True)
            assert (refused["code"], refused["param"]) == ("config_invalid", "options.embedding")
            assert "has no embeddings" in refused["message"]
