"""Damage: a file is truncated if something of it is missing, and for no other reason."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from stream.audio.files.completeness import CHECKS, ends_early, joined_mp4
from tests.support.audio_files import FORMATS, record
from tests.support.decoding import worked
from tests.support.odd_files import id3, second, timed

CUT = [
    "a.mp3",
    "vorbis.ogg",
    "opus.ogg",
    "a.flac",
    "a.mka",
    "a.webm",
    "fast.m4a",
    "fragments.m4a",
    "live.webm",
    "a.caf",
    "a.w64",
    "a.au",
    "a.wma",
    "a.avi",
]
OPTIONS = {
    "fast.m4a": {"movflags": "faststart"},
    "fragments.m4a": {"movflags": "frag_keyframe+empty_moov", "frag_duration": "200000"},
    "live.webm": {"live": "1"},
}
CODECS = {"a.caf": "pcm_s16be", "a.w64": "pcm_s16le", "a.au": "pcm_s16be", "a.avi": "mp2"}


def made(path: Path) -> bytes:
    """Return the contents of a recording of 7 s in the format of its name."""
    if path.name == "a.wma":
        return wma(path)
    codec = CODECS.get(path.name)
    return record(path, codec=codec, options=OPTIONS.get(path.name)).read_bytes()


def wma(path: Path) -> bytes:
    """Return a WMA; its encoder takes floats, and frames of its own size."""
    with av.open(str(path), "w", format="asf") as file:
        stream = file.add_stream("wmav2", rate=44_100)
        stream.layout, stream.format, stream.bit_rate = "mono", "fltp", 64_000
        time = np.arange(2048 * 120) / 44_100
        for start in range(0, len(time), 2048):
            tone = np.sin(2 * np.pi * 440 * time[start : start + 2048]).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(tone.reshape(1, -1), "fltp", "mono")
            frame.sample_rate, frame.pts = 44_100, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.95, 0.6, 0.3])
@pytest.mark.parametrize("name", CUT)
def test_a_file_that_was_cut_is_truncated(name: str, share: float, tmp_path: Path) -> None:
    content = made(tmp_path / name)
    assert not worked(content).damaged
    assert worked(content[: int(len(content) * share)]).damaged


@pytest.mark.parametrize("name", [*FORMATS, "live.webm", "fragments.m4a"])
def test_joined_files_are_not_truncated(name: str, tmp_path: Path) -> None:
    """Two MP3s joined with `cat` were analysed completely, and were called damaged."""
    content = made(tmp_path / name)
    result = worked(content * 2)
    assert not result.damaged
    seconds = worked(content).seconds
    if result.findings.left_out:  # only the first is read, and a hint says so
        assert name in ("a.m4a", "a.aiff")
        assert result.findings.left_out == len(content)
    elif name != "fragments.m4a":
        assert result.seconds == pytest.approx(2 * seconds, abs=0.3)


@pytest.mark.parametrize("name", ["opus.ogg", "vorbis.ogg"])
def test_an_ogg_without_end_mark_is_complete(name: str, tmp_path: Path) -> None:
    """Recorders of telephones write no last page with the mark."""
    content = bytearray(made(tmp_path / name))
    content[content.rindex(b"OggS") + 5] &= ~4
    assert not worked(bytes(content)).damaged
    assert not ends_early(io.BytesIO(content), len(content), "ogg")
    # Whole pages may be missing: no one can know, unless a packet goes on in the next page.
    ends = content.rindex(b"OggS")
    assert not worked(bytes(content[:ends])).damaged


@pytest.mark.parametrize("name", ["v.webm", "v.mkv", "v.mp4", "v.ts"])
def test_a_picture_that_is_longer_than_the_sound_is_no_damage(name: str, tmp_path: Path) -> None:
    codec = "libopus" if name == "v.webm" else "aac"
    path = tmp_path / name
    if name == "v.webm":
        path = path.with_suffix(".mkv")  # no encoder for the pictures of WebM is needed
    timed(path, [(0, second())], codec, picture_s=4)
    result = worked(path.read_bytes())
    assert not result.damaged
    assert result.seconds == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("picture", [0, 1_000, 70_000, 200_000])
@pytest.mark.parametrize("share", [0.9, 0.5])
def test_an_mp3_with_a_picture_that_was_cut_is_truncated(
    picture: int, share: float, tmp_path: Path
) -> None:
    """A cover of more than 64 kB hid the header with the length, so the hint was missing."""
    sound = record(tmp_path / "a.mp3", options={"id3v2_version": "0"}).read_bytes()
    whole = id3(picture) + sound
    assert not worked(whole).damaged
    cut = whole[: len(whole) - int(len(sound) * (1 - share))]
    assert worked(cut).damaged
    # Of two joined files, the second may be cut.
    assert worked(whole + cut).damaged


def test_an_mp3_without_length_is_complete(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp3", options={"write_xing": "0"})
    content = path.read_bytes()
    assert b"Xing" not in content
    assert not worked(content).damaged
    assert not worked(content[: len(content) // 2]).damaged


def test_a_capture_that_begins_and_ends_within_a_frame_is_complete(tmp_path: Path) -> None:
    """A dump of a radio stream begins anywhere."""
    for name in ("a.mp3", "a.aac"):
        content = record(tmp_path / name, options={"write_xing": "0"}).read_bytes()
        assert not worked(content[5_555:-77]).damaged, name


@pytest.mark.parametrize("container", CHECKS)
def test_any_bytes_end_in_bounded_time(container: str) -> None:
    """A hostile file must not make the check run for ever, or fail."""
    random = np.random.default_rng(5)
    for size in (0, 1, 7, 11, 12, 100, 70_000):
        for content in (random.bytes(size), bytes(size), b"\x01" * size):
            assert ends_early(io.BytesIO(content), size, container) in (True, False)


def test_a_box_of_any_size_ends_the_search() -> None:
    """Found by fuzzing: a box of 2^64 bytes led beyond the positions that a file can have."""
    content = b"\0\0\0\x08ftyp" + b"\0\0\0\x01mdat" + b"\xff" * 8
    assert ends_early(io.BytesIO(content), len(content), "mov,mp4,m4a,3gp,3g2,mj2")
    assert joined_mp4(io.BytesIO(content), len(content)) == 0
