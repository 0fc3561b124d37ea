"""Audio that is not what its producer declared: files sent as samples, and wrong formats."""

from __future__ import annotations

import base64
import functools
import io
import struct
from collections.abc import Callable

import av
import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from client.audio.encoders import ENCODERS
from stream.audio.raw_format import HEAD, Finding, FormatCheck, WrongFormat
from stream.types import AudioFormat, Encoding, Samples
from tests.support.utterances import CLIPS, clip

PHONE = AudioFormat("mulaw", 8_000, 1)
MONO = AudioFormat("linear16", 16_000, 1)


@functools.cache
def call(first: int = 0, rate: int = 16_000) -> Samples:
    """Return half a minute of speech with faint noise in its pauses, as float32."""
    rng, pieces = np.random.default_rng(1), list[NDArray[np.floating]]()
    for path in (sorted(CLIPS.glob("*.flac"))[first::3] * 8)[:8]:
        pieces += [np.zeros(8_000), clip(path.name) / np.float32(32_768)]
    audio = np.concatenate(pieces)
    audio = (audio + rng.normal(0, 1e-4, len(audio))).astype(np.float32)
    return soxr.resample(audio, 16_000, rate).astype(np.float32) if rate != 16_000 else audio


def linear16(audio: Samples) -> bytes:
    return np.round(audio * 32_767).astype("<i2").tobytes()


SENT: dict[str, Callable[[Samples], bytes]] = {
    "linear16": linear16,
    "f32le": lambda audio: audio.astype("<f4").tobytes(),
    "mulaw": lambda audio: ENCODERS["mulaw"](np.frombuffer(linear16(audio), np.int16)),
    "alaw": lambda audio: ENCODERS["alaw"](np.frombuffer(linear16(audio), np.int16)),
    "big-endian": lambda audio: np.round(audio * 32_767).astype(">i2").tobytes(),
    "24-bit": lambda audio: (
        np.round(audio * 8_388_607).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    ),
    "32-bit integer": lambda audio: (
        np.round(audio.astype(float) * 2**31).clip(-(2**31), 2**31 - 1).astype("<i4").tobytes()
    ),
}
NAMES = {"linear16": "16-bit", "f32le": "float", "mulaw": "mu-law", "alaw": "A-law"}


def findings(audio: AudioFormat, data: bytes, chunk: int = 3_200) -> list[Finding]:
    """Return what is found in `data`, sent in chunks."""
    check, found = FormatCheck(audio), list[Finding | None]()
    for at in range(0, len(data), chunk):
        samples, finding = check.begin(data[at : at + chunk])
        found += [finding, check.inspect(samples)]
    return [finding for finding in found if finding is not None]


# -- samples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("declared", ["linear16", "f32le", "mulaw", "alaw"])
@pytest.mark.parametrize("sent", SENT)
def test_another_encoding_is_recognised_and_the_right_one_is_not_doubted(
    declared: Encoding, sent: str, rate: int
) -> None:
    """24-bit audio said to be 16 bit was noise, scored for a whole call without a word."""
    for first in range(2):
        found = findings(AudioFormat(declared, rate, 1), SENT[sent](call(first, rate)))
        if sent == declared:
            assert found == []
        else:
            (finding,) = found
            assert finding.code == "format_mismatch"
            assert NAMES.get(sent, sent) in finding.message
            assert declared in finding.message


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_another_number_of_channels_is_recognised(rate: int) -> None:
    left, right = call(0, rate), call(1, rate)
    size = min(len(left), len(right))
    silent = np.zeros(size, np.float32)
    noise = np.random.default_rng(2).normal(0, 1e-3, size).astype(np.float32)
    pairs: dict[str, tuple[Samples, Samples]] = {
        "two people": (left[:size], right[:size]),
        "one voice on both": (left[:size], left[:size]),
        "one voice on one": (left[:size], silent),
        "one voice with noise": (left[:size], left[:size] * np.float32(0.8) + noise),
    }
    for name, pair in pairs.items():
        data = linear16(np.stack(pair, axis=1).reshape(-1))
        assert findings(AudioFormat("linear16", rate, 2), data) == [], name
        found = findings(AudioFormat("linear16", rate, 1), data)
        assert ["two channels" in finding.message for finding in found] == [True], name
    (finding,) = findings(AudioFormat("linear16", rate, 2), linear16(left))
    assert "one channel" in finding.message
    assert "channels=1" in finding.message


@pytest.mark.parametrize("bits", [16, 24])
def test_floats_in_the_range_of_integers_are_named(bits: int) -> None:
    """They were clipped to noise, and the hint said that the speaker was too loud."""
    data = (call() * 2 ** (bits - 1)).astype("<f4").tobytes()
    (finding,) = findings(AudioFormat("f32le", 16_000, 1), data)
    assert finding.code == "float_range"
    assert f"{bits}-bit" in finding.message
    assert f"divide them by {2 ** (bits - 1)}" in finding.message


@pytest.mark.parametrize("audio", [MONO, PHONE, AudioFormat("f32le", 16_000, 2)])
def test_silence_noise_and_tones_raise_no_doubt(audio: AudioFormat) -> None:
    rng, time = np.random.default_rng(5), np.arange(30 * audio.sample_rate) / audio.sample_rate
    sounds = {
        "digital silence": np.zeros(len(time)),
        "faint noise": rng.normal(0, 3e-4, len(time)),
        "loud noise": rng.normal(0, 0.2, len(time)),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "high tone": 0.3 * np.sin(2 * np.pi * 3_400 * time),
        "dtmf": 0.2 * (np.sin(2 * np.pi * 770 * time) + np.sin(2 * np.pi * 1_336 * time)),
    }
    for name, sound in sounds.items():
        data = SENT[audio.encoding](np.repeat(sound.astype(np.float32), audio.channels))
        assert findings(audio, data) == [], name


def test_any_chunking_finds_the_same() -> None:
    data = SENT["24-bit"](call())
    found = [findings(MONO, data, chunk) for chunk in (7, 320, 3_200, 200_000)]
    assert found == [found[0]] * 4


def test_the_check_ends_after_a_minute_of_audio() -> None:
    check = FormatCheck(MONO)
    for _ in range(70):
        check.inspect(linear16(np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32)))
    assert check.done


def test_the_bandwidth_tells_some_fast_speech_from_audio_of_a_higher_rate() -> None:
    """Both arrive three times too fast; audio of 48 kHz never looks like speech played faster."""
    fast: list[float] = []
    wide: list[float] = []
    for first in range(3):
        for found, rate in ((fast, 16_000), (wide, 48_000)):
            check = FormatCheck(MONO)
            check.inspect(linear16(call(first, rate)))
            assert check.bandwidth is not None
            found.append(3 * check.bandwidth)
    assert max(fast) > 6_000
    assert max(wide) < 5_000


# -- first bytes -------------------------------------------------------------------------------


def container(name: str, codec: str, audio: Samples, **options: str) -> bytes:
    """Return a file of a format and codec that holds the audio."""
    file = io.BytesIO()
    with av.open(file, "w", format=name, options=options) as output:
        rate = 48_000 if codec == "libopus" else 16_000
        track = output.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (audio[None, :48_000] * 32_767).astype(np.int16), "s16", "mono"
        )
        frame.sample_rate = 16_000
        frame.pts = 0
        resampler = av.AudioResampler(track.format.name, "mono", rate, track.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(track.encode(piece))
        output.mux(track.encode(None))
    return file.getvalue()


FILES = {
    "webm": ("webm", "libopus", "WebM"),
    "ogg": ("ogg", "libopus", "Ogg"),
    "mp3": ("mp3", "libmp3lame", "MP3"),
    "mp3 without a tag": ("mp3", "libmp3lame", "MP3"),
    "flac": ("flac", "flac", "FLAC"),
    "aiff": ("aiff", "pcm_s16be", "AIFF"),
    "caf": ("caf", "pcm_s16le", "CAF"),
    "mp4": ("mp4", "aac", "MP4"),
    "adts": ("adts", "aac", "AAC"),
    "au": ("au", "pcm_s16be", "AU"),
    "w64": ("w64", "pcm_s16le", "Wave64"),
    "ts": ("mpegts", "aac", "MPEG transport stream"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("chunk", [5, 640, 100_000])
@pytest.mark.parametrize("audio", [MONO, PHONE, AudioFormat("f32le", 48_000, 2)])
def test_a_file_sent_as_samples_is_named_at_once(name: str, chunk: int, audio: AudioFormat) -> None:
    """A browser's WebM sent as samples was asked about its sample rate, after ten seconds."""
    form, codec, shown = FILES[name]
    options = {"id3v2_version": "0", "write_xing": "0"} if "without" in name else {}
    data = container(form, codec, call(), **options)
    with pytest.raises(WrongFormat, match=shown) as error:
        findings(audio, data, chunk)
    assert "/v1/files" in str(error.value)


TEXTS = {
    "base64 of a WAV": lambda: base64.b64encode(wav(MONO, linear16(call())[:3_200])),
    "base64 of mu-law": lambda: base64.b64encode(SENT["mulaw"](call())[20_000:23_200]),
    "base64 of PCM": lambda: base64.b64encode(linear16(call())[20_000:23_200]),
    "JSON": lambda: b'{"event": "media", "media": {"track": "inbound", "payload": "/v7+"}}' * 9,
    "a page": lambda: b'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"></head>' * 9,
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("audio", [MONO, PHONE, AudioFormat("alaw", 8_000)])
def test_text_sent_as_samples_is_named(audio: AudioFormat, text: str) -> None:
    with pytest.raises(WrongFormat, match="base64"):
        findings(audio, TEXTS[text]())


def wav(audio: AudioFormat, data: bytes, extra: bytes = b"") -> bytes:
    """Return a WAV file; `extra` are chunks before its data."""
    tag, width = {"linear16": (1, 2), "f32le": (3, 4), "mulaw": (7, 1), "alaw": (6, 1)}[
        audio.encoding
    ]
    block = width * audio.channels
    form = struct.pack(
        "<HHIIHH", tag, audio.channels, audio.sample_rate, audio.bytes_per_second, block, 8 * width
    )
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + extra
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf61.7.100\0\0"


@pytest.mark.parametrize("audio", [MONO, PHONE, AudioFormat("f32le", 48_000, 1)])
@pytest.mark.parametrize("extra", [b"", LIST])
@pytest.mark.parametrize("chunk", [1, 7, 30, 640, 100_000])
def test_the_header_of_a_wav_of_the_declared_format_is_left_out(
    audio: AudioFormat, extra: bytes, chunk: int
) -> None:
    """Sending a WAV file as it is was what most examples on the net do; its header was a click."""
    samples = SENT[audio.encoding](call(0, audio.sample_rate))[:40_000]
    file = wav(audio, samples, extra)
    check, passed, found = FormatCheck(audio), b"", []
    for at in range(0, len(file), chunk):
        data, finding = check.begin(file[at : at + chunk])
        passed += data
        found += [finding] if finding else []
    assert passed == samples
    assert [finding.code for finding in found] == ["wav_header"]


@pytest.mark.parametrize(
    ("declared", "sent"),
    [
        (MONO, AudioFormat("linear16", 44_100, 2)),
        (PHONE, MONO),
        (MONO, AudioFormat("f32le", 16_000, 1)),
    ],
)
def test_a_wav_of_another_format_is_refused_with_both_formats(
    declared: AudioFormat, sent: AudioFormat
) -> None:
    with pytest.raises(WrongFormat) as error:
        findings(declared, wav(sent, bytes(1000)))
    for audio in (declared, sent):
        assert f"{audio.encoding}, {audio.sample_rate} Hz" in str(error.value)
    assert "header of 44 bytes" in str(error.value)


def test_a_wav_with_an_endless_header_is_refused() -> None:
    with pytest.raises(WrongFormat, match="WAV"):
        findings(MONO, wav(MONO, b"", b"junk" + struct.pack("<I", 10**6) + bytes(2 * HEAD)))


@pytest.mark.parametrize("offset", [0.0, -0.002, -0.01])
@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_a_call_of_g711_may_begin_anywhere(encoding: Encoding, offset: float) -> None:
    """Every fifteenth call was refused as text: all negative samples of G.711 are ASCII.

    It began within a low note, or on a line with an offset.
    """
    audio = SENT[encoding](call(0, 8_000) + np.float32(offset))
    check = AudioFormat(encoding, 8_000)
    for begin in range(0, len(audio) - 640, 160):
        FormatCheck(check).begin(audio[begin : begin + 640])


def test_samples_that_begin_like_a_riff_are_audio() -> None:
    check = FormatCheck(MONO)
    data = b"RI" + bytes(range(1, 200))
    assert b"".join(check.begin(data[n : n + 1])[0] for n in range(len(data))) == data
