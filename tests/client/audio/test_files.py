from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.audio.encoders import ENCODERS
from client.audio.errors import NotAudio
from client.audio.files import blocks, chunks, joined, level_dbfs, pair_up, probe
from stream.audio.codecs import CODECS
from stream.audio.samples import Pcm
from stream.types import Encoding
from tests.support.odd_files import second, wav

EVERY = np.arange(-32768, 32768, dtype=np.int16).reshape(-1, 1)


def write(path: Path, pcm: Pcm, rate: int = 8000) -> Path:
    """Write PCM[samples, channels] in the format of the suffix; return `path`."""
    layout = "stereo" if pcm.shape[1] == 2 else "mono"
    with av.open(str(path), "w") as container:
        codec = "flac" if path.suffix == ".flac" else "pcm_s16le"
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm).reshape(1, -1), "s16", layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def tone(seconds: float, rate: int = 8000, hz: float = 440.0) -> Pcm:
    t = np.arange(int(seconds * rate)) / rate
    return (np.sin(2 * np.pi * hz * t) * 10_000).astype(np.int16).reshape(-1, 1)


@pytest.mark.parametrize("encoding", ["linear16", "f32le"])
def test_linear_encodings_are_exact(encoding: Encoding) -> None:
    decoded = CODECS[encoding](ENCODERS[encoding](EVERY))
    assert np.array_equal(decoded, EVERY[:, 0] / np.float32(32768))


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_telephone_encodings_choose_the_nearest_value(encoding: Encoding) -> None:
    decode = CODECS[encoding]
    decoded = decode(ENCODERS[encoding](EVERY))
    levels = np.unique(decode(bytes(range(256))))
    expected = EVERY[:, 0] / np.float32(32768)
    nearest = np.abs(expected[:, None] - levels[None, :]).min(axis=1)
    assert np.allclose(np.abs(decoded - expected), nearest, atol=1e-7)
    assert np.array_equal(decode(ENCODERS[encoding]((decoded * 32768).astype(np.int16))), decoded)


def test_silence_has_the_codes_of_telephones() -> None:
    silence = np.zeros((4, 2), np.int16)
    assert ENCODERS["mulaw"](silence) == b"\xff" * 8
    assert ENCODERS["alaw"](silence) in (b"\xd5" * 8, b"\x55" * 8)


@pytest.mark.parametrize("name", ["a.flac", "a.wav"])
def test_a_lossless_recording_is_read_unchanged(name: str, tmp_path: Path) -> None:
    pcm = np.hstack([tone(0.5), tone(0.5, hz=200)])
    recording = probe(write(tmp_path / name, pcm))
    assert (recording.sample_rate, recording.channels) == (8000, 2)
    assert recording.duration_s == pytest.approx(0.5)
    assert np.array_equal(np.concatenate(list(blocks(recording, 8000, 2))), pcm)


def test_rate_and_channels_are_converted(tmp_path: Path) -> None:
    recording = probe(write(tmp_path / "a.wav", np.hstack([tone(1.0), tone(1.0)])))
    pcm = np.concatenate(list(blocks(recording, 16000, 1)))
    assert pcm.shape[1] == 1
    assert len(pcm) == pytest.approx(16000, abs=64)
    assert level_dbfs(pcm) == pytest.approx(level_dbfs(tone(1.0)), abs=1.0)


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 50), max_size=12), size=st.integers(1, 40))
def test_chunks_are_of_one_size_and_lose_nothing(sizes: list[int], size: int) -> None:
    audio = np.arange(sum(sizes), dtype=np.int16).reshape(-1, 1)
    ends = np.cumsum(sizes, dtype=int)
    pieces = (audio[end - n : end] for n, end in zip(sizes, ends, strict=True))
    cut = list(chunks(pieces, size))
    assert all(len(piece) == size for piece in cut[:-1])
    assert all(0 < len(piece) <= size for piece in cut)
    assert np.array_equal(np.concatenate([np.zeros((0, 1), np.int16), *cut]), audio)


def test_two_sides_are_joined_and_the_shorter_one_is_padded() -> None:
    left, right = tone(0.1), tone(0.05, hz=200)
    pcm = np.concatenate(list(joined(iter([left]), iter([right]), 160)))
    assert pcm.shape == (800, 2)
    assert np.array_equal(pcm[:, :1], left)
    assert np.array_equal(pcm[:400, 1:], right)
    assert not pcm[400:, 1].any()


def test_only_two_mono_files_can_be_joined(tmp_path: Path) -> None:
    mono = probe(write(tmp_path / "a.wav", tone(0.1)))
    stereo = probe(write(tmp_path / "b.wav", np.hstack([tone(0.1)] * 2)))
    assert pair_up([mono, mono]) == (mono, mono)
    for wrong in ([mono], [mono, stereo], [mono, mono, mono]):
        with pytest.raises(NotAudio, match="exactly two mono files"):
            pair_up(wrong)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(NotAudio, match=r"none\.wav: no such file"):
        probe(tmp_path / "none.wav")
    text = tmp_path / "text.wav"
    text.write_text("not audio, but long enough to be probed " * 20)
    with pytest.raises(NotAudio, match=r"text\.wav: "):
        probe(text)


def test_levels() -> None:
    assert level_dbfs(np.zeros((100, 1), np.int16)) == -96.0
    assert level_dbfs(np.zeros((0, 1), np.int16)) == -96.0
    assert level_dbfs(np.full((100, 1), -32768, np.int16)) == 0.0


def test_the_sample_call_has_two_channels_and_is_small() -> None:
    path = Path(__file__).parents[3] / "client" / "samples" / "call.flac"
    recording = probe(path)
    assert (recording.sample_rate, recording.channels) == (8000, 2)
    assert recording.duration_s == pytest.approx(126.6)
    assert path.stat().st_size < 2_500_000
    pcm = np.concatenate(list(blocks(recording, 8000, 2)))
    assert all(level_dbfs(pcm[:, [side]]) > -40 for side in (0, 1))


@pytest.mark.parametrize("channels", [3, 9, 60, 255])
def test_every_channel_of_many_is_played(channels: int, tmp_path: Path) -> None:
    """Nine channels have no layout: the replay ended with a traceback of the library."""
    voice = second()
    columns = np.zeros((len(voice), channels), np.int16)
    columns[:, -1] = voice
    path = tmp_path / "many.wav"
    path.write_bytes(wav(columns))
    recording = probe(path)
    assert recording.channels == channels
    for wanted in (1, 2):
        pcm = np.concatenate(list(blocks(recording, 16_000, wanted)))
        assert pcm.shape == (len(voice), wanted)
        assert np.abs(pcm[:, 0].astype(int) - voice).max() <= 2


def test_audio_above_full_scale_is_played_below_it(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    path.write_bytes(wav((second() / 4_000).astype(np.float32)))
    pcm = np.concatenate(list(blocks(probe(path), 16_000, 1)))[:, 0]
    assert np.abs(pcm).max() == pytest.approx(0.99 * 32_768, abs=2)
    assert np.corrcoef(pcm, second())[0, 1] > 0.999_99


@pytest.mark.parametrize("size", [0, 10, 44, 60, 3_000])
def test_a_file_of_any_length_is_played_or_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    path.write_bytes(wav(second())[:size])

    def play() -> int:
        return sum(map(len, blocks(probe(path), 16_000, 1)))

    if size <= 44:
        with pytest.raises(NotAudio, match=r"cut\.wav: "):
            play()
    else:
        assert play() == (size - 44) // 2
