"""Decoding of recordings in a separate process, and the errors for files that are not audio."""

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
from stream.audio.denoise import Denoiser
from stream.audio.files.decode import Source, analysed_channels
from stream.audio.files.decode_process import Decoder, DecoderMessage, Finished, ProbeResult
from stream.audio.files.decode_worker import Job
from stream.audio.files.undecodable import Undecodable
from stream.audio.resample import Resampler
from stream.types import SAMPLE_RATE
from tests.support.audio_files import FORMATS, bad_files, cut, record
from tests.support.utterances import RATE, speech

LONG = Job(max_s=3600)


async def decode(path: Path, job: Job = LONG, timeout_s: float = 30.0) -> list[DecoderMessage]:
    """Decode a file; return all messages of the decoder process."""
    decoder = Decoder(path, job, timeout_s)
    try:
        await decoder.start()
        return [message async for message in decoder.messages()]
    finally:
        await decoder.stop()


def audio(messages: list[DecoderMessage]) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    return np.concatenate([message for message in messages if isinstance(message, np.ndarray)])


def probed(messages: list[DecoderMessage]) -> ProbeResult:
    [result] = [message for message in messages if isinstance(message, ProbeResult)]
    return result


@pytest.mark.parametrize("name", FORMATS)
async def test_every_format_is_decoded(name: str, tmp_path: Path) -> None:
    messages = await decode(record(tmp_path / name))
    pcm, expected = audio(messages)[:, 0].astype(float), speech().astype(float)
    assert probed(messages).info.sample_rate == FORMATS[name][1]
    assert isinstance(messages[-1], Finished)
    assert not messages[-1].damaged
    assert len(pcm) == pytest.approx(len(expected), abs=0.15 * RATE)
    # The maximum over all lags, because codecs add different delays.
    size = len(pcm) + len(expected)
    correlation = np.fft.irfft(np.fft.rfft(pcm, size) * np.conj(np.fft.rfft(expected, size)))
    assert correlation.max() > 0.9 * np.sqrt((pcm**2).sum() * (expected**2).sum())


async def test_the_audio_track_of_a_video_is_decoded(tmp_path: Path) -> None:
    messages = await decode(record(tmp_path / "v.mp4", video=True))
    assert probed(messages).info.container == "mp4"
    assert len(audio(messages)) == pytest.approx(len(speech()), abs=0.15 * RATE)


async def test_bad_files_get_the_error_code_of_their_fault(tmp_path: Path) -> None:
    for name, (path, code) in bad_files(tmp_path).items():
        with pytest.raises(Undecodable) as refused:
            await decode(path)
        assert refused.value.code == code, (name, str(refused.value))
        assert len(str(refused.value)) > 20, name


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.webm", "fast.m4a", "opus.ogg"])
async def test_the_rest_of_a_truncated_file_is_decoded(name: str, tmp_path: Path) -> None:
    options = {"movflags": "faststart"} if name == "fast.m4a" else {}
    messages = await decode(cut(record(tmp_path / name, options=options)))
    assert isinstance(messages[-1], Finished)
    assert messages[-1].damaged
    assert 0.4 < len(audio(messages)) / len(speech()) < 0.8


async def test_a_wav_from_a_live_recorder_is_not_damaged(tmp_path: Path) -> None:
    """A recorder that cannot seek leaves the sizes at their maximum; no audio is missing then."""
    path = record(tmp_path / "a.wav")
    content = bytearray(path.read_bytes())
    at = content.index(b"data")
    content[at + 4 : at + 8] = content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    messages = await decode(path)
    assert isinstance(messages[-1], Finished)
    assert not messages[-1].damaged
    assert len(audio(messages)) == len(speech())


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
async def test_a_recording_is_decoded_to_the_same_samples_as_a_live_stream(
    rate: int, tmp_path: Path
) -> None:
    """The live stream is linear16 at the file's own rate, as the replay client sends it."""
    path = record(tmp_path / "a.flac", rate=rate)
    resampler, scale = Resampler(rate), np.float32(1 / 32768)
    sent = [pcm[:, 0].astype(np.float32) * scale for pcm in blocks(probe(path), rate, 1)]
    live = np.concatenate([*(resampler.push(piece) for piece in sent), resampler.drain()])
    expected = np.rint(np.clip(live, -1, 32767 / 32768) * 32768).astype(np.int16)
    assert np.array_equal(audio(await decode(path))[:, 0], expected)


async def test_identical_channels_become_one_and_different_ones_stay_two(tmp_path: Path) -> None:
    one = speech()
    twice = probed(await decode(record(tmp_path / "same.wav", np.stack([one, one], axis=1))))
    assert (twice.info.channels, twice.channels, twice.identical_channels) == (2, 1, True)
    other = np.roll(one, RATE)
    messages = await decode(record(tmp_path / "two.wav", np.stack([one, other], axis=1)))
    assert (probed(messages).channels, probed(messages).identical_channels) == (2, False)
    assert np.array_equal(audio(messages), np.stack([one, other], axis=1))


async def test_more_than_two_channels_are_mixed_into_one(tmp_path: Path) -> None:
    six = np.repeat(speech()[:, None], 6, axis=1)
    path = record(tmp_path / "six.wav", six, layout="5.1")
    messages = await decode(path)
    assert (probed(messages).info.channels, probed(messages).channels) == (6, 1)
    assert np.abs(audio(messages)).max() > 1000


async def test_a_recording_that_is_too_long_is_refused_before_and_while_it_is_decoded(
    tmp_path: Path,
) -> None:
    short = Job(max_s=2)
    with pytest.raises(Undecodable) as refused:
        await decode(record(tmp_path / "a.wav"), short)
    assert refused.value.code == "audio_too_long"
    with pytest.raises(Undecodable) as refused:  # an ADTS header states no length
        await decode(record(tmp_path / "a.aac"), short)
    assert refused.value.code == "audio_too_long"


async def test_a_slow_reader_stops_the_decoder(tmp_path: Path) -> None:
    """Backpressure: of an hour, only as much is decoded as pipe and buffers hold."""
    hour = np.tile(speech(), 500)
    path = record(tmp_path / "a.flac", hour)

    decoder = Decoder(path, Job(max_s=7200), 30)
    try:
        await decoder.start()
        messages = decoder.messages()
        while not isinstance(await anext(messages), np.ndarray):
            pass
        assert decoder._process is not None
        # The first process waits; the second one, in its own PID namespace, decodes.
        outer = psutil.Process(decoder._process.pid)
        [process] = outer.children() or [outer]
        await asyncio.sleep(1.0)
        before = process.cpu_times().user
        await asyncio.sleep(1.0)
        assert process.cpu_times().user - before < 0.1
        assert process.memory_info().rss < 300e6
    finally:
        await decoder.stop()
    assert decoder._process is not None
    assert decoder._process.returncode == -signal.SIGKILL
    # The kernel ends the inner process with the outer one, but not in the same instant.
    _, alive = psutil.wait_procs([process], timeout=10)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


async def test_a_decoder_without_messages_times_out(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav")

    decoder = Decoder(path, LONG, 0.001)
    try:
        await decoder.start()
        with pytest.raises(Undecodable) as refused:
            async for _ in decoder.messages():
                pass
        assert refused.value.code == "decode_timeout"
    finally:
        began = time.monotonic()
        await decoder.stop()
        assert time.monotonic() - began < 5


async def test_cpu_time_is_bounded(tmp_path: Path) -> None:
    path = record(tmp_path / "a.flac", np.tile(speech(), 500))
    with pytest.raises(Undecodable) as refused:
        await decode(path, Job(max_s=7200, denoise=True, cpu_s=1))
    assert refused.value.code == "decode_timeout"


def test_the_decoder_cannot_write_files_and_its_memory_and_cpu_time_are_bounded(
    tmp_path: Path,
) -> None:
    """The process drops these rights before it reads a byte of the file."""
    script = """
import resource, sys
file = open(sys.argv[1], "wb", buffering=0)
from stream.audio.confinement import confine
from stream.audio.files.decode_worker import MAX_MEMORY
confine(MAX_MEMORY, 7, 0)
assert resource.getrlimit(resource.RLIMIT_AS)[0] == MAX_MEMORY
assert resource.getrlimit(resource.RLIMIT_CPU)[0] == 7
try:
    file.write(b"x" * 10)
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
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "no writing: 27" in result.stdout, result
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0


def test_the_format_follows_from_the_contents_and_not_from_the_name(tmp_path: Path) -> None:
    """A WAV with the suffix .mp3 is a WAV. A text file with the suffix .wav is in `bad_files`."""
    path = record(tmp_path / "a.wav").rename(tmp_path / "a.mp3")
    with path.open("rb") as file, Source(file) as source:
        assert source.info.container == "wav"
        assert analysed_channels(source.info) == 1


def test_the_denoiser_keeps_positions_for_any_chunking() -> None:
    pcm = speech().astype(np.float32) / np.float32(32768)
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
    pause = slice(-SAMPLE_RATE // 2, None)  # by then it has adapted to the noise
    assert clean[pause].std() < 0.8 * noisy[pause].std()
