"""Any recording becomes PCM, in a process of its own; what is none is named."""

from __future__ import annotations

import asyncio
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from client.audio.files import blocks, probe
from stream.audio.decode import Source, Undecodable, alike, taken_channels
from stream.audio.decode_process import Decoder, Finished, Found, Told
from stream.audio.decode_worker import Job
from stream.audio.denoise import Denoiser
from stream.audio.resample import Resampler
from stream.types import SAMPLE_RATE
from tests.support.audio_files import FORMATS, bad_files, cut, record
from tests.support.clients import run
from tests.support.utterances import RATE, speech

LONG = Job(max_s=3600)


def told(path: Path, job: Job = LONG, patience_s: float = 30.0) -> list[Told]:
    """Everything a worker tells of a file."""

    async def listen() -> list[Told]:
        worker = Decoder(path, job, patience_s)
        try:
            await worker.start()
            return [item async for item in worker.told()]
        finally:
            await worker.stop()

    return run(listen(), 60)


def audio(items: list[Told]) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    return np.concatenate([item for item in items if isinstance(item, np.ndarray)])


def found(items: list[Told]) -> Found:
    [one] = [item for item in items if isinstance(item, Found)]
    return one


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_heard(name: str, tmp_path: Path) -> None:
    items = told(record(tmp_path / name))
    pcm, wanted = audio(items)[:, 0].astype(float), speech().astype(float)
    about = found(items).about
    assert about.sample_rate == FORMATS[name][1]
    assert isinstance(items[-1], Finished)
    assert not items[-1].damaged
    assert len(pcm) == pytest.approx(len(wanted), abs=0.15 * RATE)
    # The same sound, wherever the codec's delay has put it.
    size = len(pcm) + len(wanted)
    both = np.fft.irfft(np.fft.rfft(pcm, size) * np.conj(np.fft.rfft(wanted, size)))
    assert both.max() > 0.9 * np.sqrt((pcm**2).sum() * (wanted**2).sum())


def test_the_sound_of_a_video_is_taken(tmp_path: Path) -> None:
    items = told(record(tmp_path / "v.mp4", video=True))
    assert found(items).about.container == "mp4"
    assert len(audio(items)) == pytest.approx(len(speech()), abs=0.15 * RATE)


def test_bad_files_are_named_by_what_they_are(tmp_path: Path) -> None:
    for name, (path, code) in bad_files(tmp_path).items():
        with pytest.raises(Undecodable) as refused:
            told(path)
        assert refused.value.code == code, (name, str(refused.value))
        assert len(str(refused.value)) > 20, name


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.webm", "fast.m4a", "opus.ogg"])
def test_what_is_left_of_a_cut_file_is_heard(name: str, tmp_path: Path) -> None:
    options = {"movflags": "faststart"} if name == "fast.m4a" else {}
    items = told(cut(record(tmp_path / name, options=options)))
    assert isinstance(items[-1], Finished)
    assert items[-1].damaged
    assert 0.4 < len(audio(items)) / len(speech()) < 0.8


def test_a_wav_of_a_live_stream_is_whole(tmp_path: Path) -> None:
    """A recorder that cannot seek leaves the sizes at their most: nothing is missing there."""
    path = record(tmp_path / "a.wav")
    content = bytearray(path.read_bytes())
    at = content.index(b"data")
    content[at + 4 : at + 8] = content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    items = told(path)
    assert isinstance(items[-1], Finished)
    assert not items[-1].damaged
    assert len(audio(items)) == len(speech())


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_recording_is_heard_as_a_live_stream_of_it(rate: int, tmp_path: Path) -> None:
    """Bit for bit what a channel makes of the replay client's linear16 at the file's own rate."""
    path = record(tmp_path / "a.flac", rate=rate)
    resampler, scale = Resampler(rate), np.float32(1 / 32768)
    sent = [pcm[:, 0].astype(np.float32) * scale for pcm in blocks(probe(path), rate, 1)]
    live = np.concatenate([*(resampler.push(piece) for piece in sent), resampler.drain()])
    wanted = np.rint(np.clip(live, -1, 32767 / 32768) * 32768).astype(np.int16)
    assert np.array_equal(audio(told(path))[:, 0], wanted)


def test_two_equal_channels_are_one_and_different_ones_stay(tmp_path: Path) -> None:
    one = speech()
    twice = found(told(record(tmp_path / "same.wav", np.stack([one, one], axis=1))))
    assert (twice.about.channels, twice.channels, twice.alike) == (2, 1, True)
    other = np.roll(one, RATE)
    items = told(record(tmp_path / "two.wav", np.stack([one, other], axis=1)))
    assert (found(items).channels, found(items).alike) == (2, False)
    assert np.array_equal(audio(items), np.stack([one, other], axis=1))


def test_more_channels_are_mixed_into_one(tmp_path: Path) -> None:
    six = np.repeat(speech()[:, None], 6, axis=1)
    path = record(tmp_path / "six.wav", six, layout="5.1")
    items = told(path)
    assert (found(items).about.channels, found(items).channels) == (6, 1)
    assert np.abs(audio(items)).max() > 1000


def test_a_recording_that_is_too_long_is_refused_before_and_while_it_is_decoded(
    tmp_path: Path,
) -> None:
    short = Job(max_s=2)
    with pytest.raises(Undecodable) as refused:
        told(record(tmp_path / "a.wav"), short)
    assert refused.value.code == "audio_too_long"
    with pytest.raises(Undecodable) as refused:  # ADTS knows no length
        told(record(tmp_path / "a.aac"), short)
    assert refused.value.code == "audio_too_long"


def test_a_reader_that_waits_stops_the_worker(tmp_path: Path) -> None:
    """Backpressure: of an hour, only what pipe and buffers hold is decoded before it is read."""
    hour = np.tile(speech(), 500)
    path = record(tmp_path / "a.flac", hour)

    async def stare() -> None:
        worker = Decoder(path, Job(max_s=7200), 30)
        try:
            await worker.start()
            listening = worker.told()
            while not isinstance(await anext(listening), np.ndarray):
                pass
            process = psutil.Process(worker._process.pid)
            await asyncio.sleep(1.0)
            before = process.cpu_times().user
            await asyncio.sleep(1.0)
            assert process.cpu_times().user - before < 0.1
            assert process.memory_info().rss < 300e6
        finally:
            await worker.stop()
        assert worker._process is not None
        assert worker._process.returncode == -signal.SIGKILL

    run(stare(), 60)


def test_a_worker_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav")

    async def stall() -> None:
        worker = Decoder(path, LONG, 0.001)
        try:
            await worker.start()
            with pytest.raises(Undecodable) as refused:
                async for _ in worker.told():
                    pass
            assert refused.value.code == "decode_timeout"
        finally:
            began = time.monotonic()
            await worker.stop()
            assert time.monotonic() - began < 5

    run(stall(), 30)


def test_cpu_time_is_bounded(tmp_path: Path) -> None:
    path = record(tmp_path / "a.flac", np.tile(speech(), 500))
    with pytest.raises(Undecodable) as refused:
        told(path, Job(max_s=7200, denoise=True, cpu_s=1))
    assert refused.value.code == "decode_timeout"


def test_the_worker_can_write_no_file_and_has_no_network(tmp_path: Path) -> None:
    """What decoding does not need it gives up before it reads a byte."""
    script = """
import resource, socket, sys
from stream.audio.decode_worker import Job, confine, MEMORY
confine(Job(max_s=1, cpu_s=7))
assert resource.getrlimit(resource.RLIMIT_AS)[0] == MEMORY
assert resource.getrlimit(resource.RLIMIT_CPU)[0] == 7
try:
    open(sys.argv[1], "wb", buffering=0).write(b"x" * 10)
except OSError as error:
    print("no writing:", error.errno)
"""
    path = tmp_path / "must-not-be-written"
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)" + script,
        str(path),
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "no writing: 27" in said.stdout, said
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0


def test_decoding_needs_no_name(tmp_path: Path) -> None:
    """Contents decide: a WAV called .mp3 is a WAV, a text called .wav is none."""
    path = record(tmp_path / "a.wav").rename(tmp_path / "a.mp3")
    with path.open("rb") as file, Source(file) as source:
        assert source.about.container == "wav"
        assert taken_channels(source.about) == 1


def test_alike_looks_no_further_than_it_must() -> None:
    seen = []

    def pieces():
        for number in range(100):
            seen.append(number)
            yield np.full((100, 2), 1000, np.int16) * np.array([1, 1 + (number == 3)], np.int16)

    assert not alike(pieces())
    assert len(seen) == 4


def test_the_denoiser_keeps_time_whatever_the_chunks() -> None:
    pcm = speech().astype(np.float32) / 32768
    noisy = pcm + np.random.default_rng(1).normal(0, 0.01, len(pcm)).astype(np.float32)

    def through(size: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        denoiser = Denoiser()
        parts = [denoiser.push(noisy[n : n + size]) for n in range(0, len(noisy), size)]
        return np.concatenate([*parts, denoiser.drain()])

    clean = through(16_000)
    assert len(clean) == len(noisy)
    assert np.allclose(clean, through(777), atol=1e-6)
    lag = np.fft.irfft(np.fft.rfft(clean) * np.conj(np.fft.rfft(noisy))).argmax()
    assert min(lag, len(noisy) - lag) <= 2
    pause = slice(-SAMPLE_RATE // 2, None)  # by then it knows the noise
    assert clean[pause].std() < 0.8 * noisy[pause].std()
