"""Decoding of PCM bytes, with any chunking."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.audio.codecs import CODECS, PcmDecoder
from stream.types import BYTES_PER_SAMPLE, AudioFormat, Encoding
from tests.support.signals import chunks, encode_alaw, encode_mulaw

ALL = np.arange(-32768, 32768).astype(np.int16)
CODES = bytes(range(256))
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

Encoder = Callable[[NDArray[np.int16]], NDArray[np.uint8]]
"""Encoder of G.711: PCM to codes."""


def mulaw_value(code: int) -> int:
    """Return the value by ITU-T G.711 table 2 in 16 bits; all bits are inverted.

    It is ((2·m + 33)·2^e − 33)·4.
    """
    code ^= 0xFF
    e, m = code >> 4 & 7, code & 15
    value = (((2 * m + 33) << e) - 33) * 4
    return -value if code & 0x80 else value


def alaw_value(code: int) -> int:
    """Return the value by ITU-T G.711 table 1 in 16 bits; sign 1 is positive.

    It is (2·m + 1)·8 for e = 0, else (2·m + 33)·2^(e−1)·8.
    """
    code ^= 0x55
    e, m = code >> 4 & 7, code & 15
    value = (2 * m + 1) * 8 if e == 0 else ((2 * m + 33) << (e - 1)) * 8
    return value if code & 0x80 else -value


def decode(encoding: Encoding, data: bytes, channels: int = 1) -> NDArray[np.float32]:
    return PcmDecoder(AudioFormat(encoding, 8000, channels)).decode(data)


@pytest.mark.parametrize(
    ("encoding", "value", "landmarks"),
    [
        ("mulaw", mulaw_value, {0x00: -32124, 0x80: 32124, 0xFF: 0, 0x7F: 0, 0xFE: 8, 0x8F: 16764}),
        ("alaw", alaw_value, {0x2A: -32256, 0xAA: 32256, 0xD5: 8, 0x55: -8, 0x80: 5504}),
    ],
)
def test_g711_decodes_to_the_values_of_the_itu_tables(
    encoding: Encoding, value: Callable[[int], int], landmarks: dict[int, int]
) -> None:
    decoded = decode(encoding, CODES)[0] * 32768
    assert decoded.tolist() == [value(code) for code in range(256)]
    assert {code: int(decoded[code]) for code in landmarks} == landmarks


@pytest.mark.parametrize(
    ("encoding", "encoder", "max_error"),
    [("mulaw", encode_mulaw, 644), ("alaw", encode_alaw, 512)],
)
def test_g711_decodes_to_within_half_a_step_of_the_original(
    encoding: Encoding, encoder: Encoder, max_error: int
) -> None:
    decoded = decode(encoding, encoder(ALL).tobytes())[0] * 32768
    error = np.abs(decoded - ALL)
    assert error.max() <= max_error
    # Half a step is at most 1/32 of the value, or half of the finest step if that is more.
    assert (error <= np.maximum(8, np.abs(ALL.astype(np.int64)) / 31 + 5)).all()


@pytest.mark.parametrize(("encoding", "encoder"), [("mulaw", encode_mulaw), ("alaw", encode_alaw)])
def test_g711_codes_are_unchanged_after_decoding_and_encoding(
    encoding: Encoding, encoder: Encoder
) -> None:
    values = (decode(encoding, CODES)[0] * 32768).astype(np.int16)
    again = encoder(values)
    differ = [code for code in range(256) if again[code] != code]
    assert differ == ([0x7F] if encoding == "mulaw" else [])  # mu-law has a negative zero


def test_linear16_is_little_endian_and_its_lowest_value_is_minus_one() -> None:
    assert decode("linear16", b"\x00\x80\xff\x7f\x01\x00\x00\x00")[0].tolist() == [
        -1.0,
        32767 / 32768,
        1 / 32768,
        0.0,
    ]


def test_f32le_is_unchanged_except_for_clipping_to_full_scale() -> None:
    sent = np.array([0.25, -0.5, 3.0, -1e30, 1e-30], "<f4")
    assert decode("f32le", sent.tobytes())[0].tolist() == pytest.approx(
        [0.25, -0.5, 1.0, -1.0, 1e-30]
    )


@given(
    encoding=st.sampled_from(["linear16", "mulaw", "alaw", "f32le"]),
    channels=st.integers(1, 2),
    raw=st.lists(st.integers(-32768, 32767), max_size=60),
    sizes=st.lists(st.integers(1, 13), min_size=1, max_size=6),
)
@example(encoding="f32le", channels=2, raw=[1, 2, 3, 4, 5, 6], sizes=[1])
@settings(deadline=None, max_examples=80)
def test_any_chunking_decodes_the_same(
    encoding: Encoding, channels: int, raw: list[int], sizes: list[int]
) -> None:
    """Proxies split data anywhere: in the middle of a sample, between two channels, byte by byte.

    Bytes that do not make a whole sample of every channel are carried over to the next chunk."""
    pcm = np.array(raw, "<i2")
    data = (pcm / 32768).astype("<f4").tobytes() if encoding == "f32le" else pcm.tobytes()
    audio = AudioFormat(encoding, 8000, channels)
    decoder = PcmDecoder(audio)
    pieces = []
    for chunk in chunks(data, sizes):
        count = decoder.count(chunk)
        pieces.append(decoder.decode(chunk))
        assert pieces[-1].shape == (channels, count)
    whole_samples = len(data) // audio.bytes_per_frame
    expected = PcmDecoder(audio).decode(data[: whole_samples * audio.bytes_per_frame])
    got = np.concatenate([np.zeros((channels, 0), np.float32), *pieces], axis=1)
    assert got.dtype == np.float32
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_channels_never_mix(size: int) -> None:
    left, right = np.arange(1, 400), -np.arange(1, 400)
    data = np.stack([left, right], axis=1).astype("<i2").tobytes()
    decoder = PcmDecoder(AudioFormat("linear16", 8000, 2))
    got = np.concatenate([decoder.decode(c) for c in chunks(data, [size])], axis=1) * 32768
    assert np.array_equal(got[0], left)
    assert np.array_equal(got[1], right)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_sample_that_is_no_number_becomes_zero_and_the_next_chunk_is_aligned(
    bad: float, channels: int
) -> None:
    """One NaN in the memory of the resampler would spoil every later window of its channel.

    The chunk ends in the middle of a sample; its tail must not shift later samples."""
    sound = np.arange(8, dtype="<f4") / 16
    broken = sound.copy()
    broken[2] = bad
    decoder = PcmDecoder(AudioFormat("f32le", 16000, channels))
    pieces = [decoder.decode(broken.tobytes()[:-3])]
    pieces.append(decoder.decode(broken.tobytes()[-3:] + sound.tobytes()))
    expected = np.concatenate([np.where(np.isfinite(broken), broken, 0), sound])
    assert np.array_equal(np.concatenate(pieces, axis=1), expected.reshape(-1, channels).T)
    assert decoder.invalid == 1


@given(
    encoding=st.sampled_from(["linear16", "mulaw", "f32le"]),
    channels=st.integers(1, 2),
    sizes=st.lists(st.tuples(st.integers(0, 13), st.booleans()), min_size=1, max_size=12),
)
@example(encoding="linear16", channels=1, sizes=[(1, False), (0, True), (1, False)])
@example(encoding="f32le", channels=2, sizes=[(3, False), (2, True), (3, False)])
@example(encoding="linear16", channels=2, sizes=[(3, True), (9, False)])
@settings(deadline=None, max_examples=120)
def test_samples_stay_aligned_across_discarded_chunks(
    encoding: Encoding, channels: int, sizes: list[tuple[int, bool]]
) -> None:
    """A paused producer's chunk ended in the middle of a sample. If its first byte were lost, all
    later audio would be noise."""
    audio = AudioFormat(encoding, 8000, channels)
    total = sum(size for size, _ in sizes)
    # As float32, small bytes of any order are finite numbers.
    data = bytes(n % 100 for n in range(total + audio.bytes_per_frame))
    whole = data[: len(data) // audio.bytes_per_frame * audio.bytes_per_frame]
    expected = PcmDecoder(audio).decode(whole)
    decoder = PcmDecoder(audio)
    at = samples = 0
    for size, discarded in sizes:
        chunk = data[at : at + size]
        at += size
        count = decoder.count(chunk)
        if discarded:
            assert decoder.discard(chunk) == count
        else:
            got = decoder.decode(chunk)
            assert np.array_equal(got, expected[:, samples : samples + count])
        samples += count
    assert samples == at // audio.bytes_per_frame


def test_drop_carry_drops_an_incomplete_sample() -> None:
    decoder = PcmDecoder(AudioFormat("linear16", 16000, 1))
    decoder.decode(b"\x01")
    decoder.drop_carry()
    assert (decoder.decode(b"\x02\x00")[0] * 32768).tolist() == [2]


def test_no_bytes_decode_to_no_samples() -> None:
    for encoding in ENCODINGS:
        assert decode(encoding, b"", 2).shape == (2, 0)


def test_every_codec_has_a_width() -> None:
    assert set(CODECS) == set(BYTES_PER_SAMPLE) == set(ENCODINGS)
    for encoding, width in BYTES_PER_SAMPLE.items():
        assert len(CODECS[encoding](bytes(width * 5))) == 5
