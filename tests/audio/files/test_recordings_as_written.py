"""Recordings as recorders really write them: time stamps, tags, tracks, late sound, no sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream.audio.files.undecodable import Undecodable
from tests.support.audio_files import record
from tests.support.decoding import Decoded, worked
from tests.support.odd_files import id3, second, timed, tracks, wav

SOUND = second()


def heard(result: Decoded) -> list[tuple[float, float]]:
    """Return start and end in seconds of all sound; pauses below half a second do not count."""
    loud = np.flatnonzero(np.abs(result.pcm[:, 0].astype(int)) > 100) / 16_000
    edges = np.flatnonzero(np.diff(loud) > 0.5)
    starts, ends = [loud[0], *loud[edges + 1]], [*loud[edges], loud[-1]]
    return [(float(start), float(end)) for start, end in zip(starts, ends, strict=True)]


TIMED = {"h.webm": "libopus", "h.mka": "flac", "h.mkv": "aac", "h.mp4": "aac", "h.ts": "aac"}


@pytest.mark.parametrize("name", TIMED)
def test_a_hole_in_the_time_stamps_is_silence(name: str, tmp_path: Path) -> None:
    """A browser that lost its network wrote a hole of 20 s: all that followed was 20 s early."""
    path = timed(tmp_path / name, [(0, SOUND), (6, SOUND)], TIMED[name])
    result = worked(path.read_bytes())
    [(first, _), (second_start, end)] = heard(result)
    assert second_start - first == pytest.approx(6, abs=0.15)
    assert end == pytest.approx(7, abs=0.2)
    assert result.findings.timing.holes == 1
    assert result.findings.timing.silence_s == pytest.approx(5, abs=0.2)
    assert not result.damaged


@pytest.mark.parametrize("name", ["l.mp4", "l.mkv", "l.mov", "l.ts", "l.mpg"])
def test_sound_that_begins_late_is_placed_at_its_time(name: str, tmp_path: Path) -> None:
    codec = "mp2" if name == "l.mpg" else "aac"
    path = timed(tmp_path / name, [(3, SOUND)], codec, picture_s=4)
    [(start, end)] = heard(worked(path.read_bytes()))
    assert start == pytest.approx(3 + heard(worked(wav(SOUND)))[0][0], abs=0.15)
    assert end == pytest.approx(4, abs=0.15)


@pytest.mark.parametrize("name", ["far.ts", "far.mpg"])
def test_sound_that_begins_far_behind_the_picture_is_found(name: str, tmp_path: Path) -> None:
    """The sound of a broadcast began after 25 s: "this video has no sound"."""
    path = timed(tmp_path / name, [(25, SOUND)], "mp2", picture_s=26.5)
    [(start, _)] = heard(worked(path.read_bytes()))
    assert start == pytest.approx(25, abs=0.3)


@pytest.mark.parametrize("jump_s", [4_000, 95_443, 10_000_000])
def test_a_jump_of_hours_in_the_time_stamps_is_left_out(jump_s: float, tmp_path: Path) -> None:
    path = timed(tmp_path / "jump.mka", [(0, SOUND), (jump_s, SOUND)], "flac")
    result = worked(path.read_bytes())
    assert result.seconds == pytest.approx(2, abs=0.1)
    assert result.findings.timing.jumps == 1
    assert worked(timed(tmp_path / "at.mka", [(jump_s, SOUND)], "flac").read_bytes()).seconds < 1.1


def test_a_hole_never_makes_a_recording_too_long(tmp_path: Path) -> None:
    path = timed(tmp_path / "a.mka", [(0, SOUND), (50, SOUND)], "flac")
    assert worked(path.read_bytes(), max_s=10).seconds == pytest.approx(2, abs=0.1)


TAGGED = {
    **dict.fromkeys(("a.wav", "a.flac", "opus.ogg", "a.aac", "a.aiff", "a.webm", "a.m4a")),
    "a.mov": "aac",
    "a.au": "pcm_s16be",
    "a.caf": "pcm_s16be",
}


@pytest.mark.parametrize("picture", [10, 100_000])
@pytest.mark.parametrize("name", TAGGED)
def test_a_tag_in_front_of_any_format_is_skipped(name: str, picture: int, tmp_path: Path) -> None:
    """Taggers write ID3 in front of RIFF; it was refused as a damaged MP3."""
    content = record(tmp_path / name, codec=TAGGED[name]).read_bytes()
    plain = worked(content)
    for tagged in (id3(picture) + content, id3(picture) + id3() + bytes(512) + content):
        result = worked(tagged)
        assert (result.info["container"], result.damaged) == (plain.info["container"], False)
        assert np.array_equal(result.pcm, plain.pcm)


@pytest.mark.parametrize("size", [(1 << 63) - 1, (1 << 64) - 1])
def test_a_wave64_that_was_written_to_a_pipe_is_whole(size: int, tmp_path: Path) -> None:
    """FFmpeg states a length of 2^63 - 1, which it refuses itself: "damaged, export it again"."""
    content = record(tmp_path / "a.w64", codec="pcm_s16le").read_bytes()
    plain = worked(content)
    data = content.index(b"data\xf3\xac")
    piped = bytearray(content)
    piped[16:24] = (0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")
    piped[data + 16 : data + 24] = size.to_bytes(8, "little")
    result = worked(bytes(piped))
    assert (result.info["container"], result.damaged) == (plain.info["container"], False)
    assert np.array_equal(result.pcm, plain.pcm)
    assert len(worked(bytes(piped[:-20_000])).pcm) == len(plain.pcm) - 10_000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, b"\xef\xbb\xbf\r\n ") for name in ("a.wav", "a.flac", "a.m4a", "a.mp3")),
        *(("a.wav", text) for text in (b"\xef\xbb\xbf", b"\r\n", b"\n\n")),
    ],
)
def test_text_in_front_of_any_format_is_skipped(name: str, text: bytes, tmp_path: Path) -> None:
    """Scripts that send a file as text put a byte-order mark before it, or an empty line of a form;
    the recording was refused as no audio."""
    content = record(tmp_path / name, codec=TAGGED.get(name)).read_bytes()
    plain, result = worked(content), worked(text + content)
    assert (result.info["container"], result.damaged) == (plain.info["container"], False)
    assert np.array_equal(result.pcm, plain.pcm)


@pytest.mark.parametrize(
    "content",
    [
        wav(SOUND[:0]),
        wav(SOUND[:0], data_size=0xFFFF_FFFF, riff_size=0xFFFF_FFFF),
        wav(SOUND[:0], behind=b"LIST\x04\x00\x00\x00INFO"),
        id3(10),
        id3(100_000) + wav(SOUND[:0]),
    ],
)
def test_a_header_without_sound_is_called_so(content: bytes) -> None:
    """A recorder that was stopped at once: "damaged, copy it again"."""
    with pytest.raises(Undecodable, match="there is no sound in it") as refused:
        worked(content)
    assert refused.value.code == "empty_file"


@pytest.mark.parametrize("name", ["a.flac", "a.mka", "a.webm", "opus.ogg", "a.aiff"])
def test_other_formats_without_sound_are_called_so(name: str, tmp_path: Path) -> None:
    path = record(tmp_path / name, SOUND[:0])
    with pytest.raises(Undecodable, match="there is no sound in it") as refused:
        worked(path.read_bytes())
    assert refused.value.code == "empty_file"


@pytest.mark.parametrize("name", ["t.mkv", "t.mp4", "t.mka"])
def test_the_default_track_is_taken_and_any_can_be_chosen(name: str, tmp_path: Path) -> None:
    """The first of two tracks was silent, the second marked as default."""
    sounds = [SOUND * 0, SOUND, SOUND * 0]
    content = tracks(tmp_path / name, sounds, default=1).read_bytes()
    taken = worked(content)
    assert (taken.info["track"], taken.info["audio_streams"]) == (2, 3)
    assert np.abs(taken.pcm).max() > 1_000
    for number in (1, 3):
        chosen = worked(content, track=number)
        assert chosen.info["track"] == number
        assert np.abs(chosen.pcm).max() < 100
    with pytest.raises(Undecodable, match="has 3 audio tracks") as refused:
        worked(content, track=4)
    assert refused.value.code == "unknown_track"


def test_without_a_mark_the_first_track_is_taken(tmp_path: Path) -> None:
    content = tracks(tmp_path / "t.mkv", [SOUND, SOUND * 0], default=None).read_bytes()
    assert worked(content).info["track"] == 1


def test_the_limit_applies_to_what_is_decoded(tmp_path: Path) -> None:
    """A VBR MP3 without a Xing header was guessed to be five times as long, and refused."""
    quiet_first = np.concatenate([np.zeros(16_000, np.int16), *(second(n) for n in range(6))])
    path = tmp_path / "vbr.mp3"
    record(path, quiet_first, options={"write_xing": "0"})
    content = path.read_bytes()
    assert worked(content, max_s=9).seconds == pytest.approx(7, abs=0.2)
    with pytest.raises(Undecodable) as refused:
        worked(content, max_s=5)
    assert refused.value.code == "audio_too_long"


def test_a_limit_below_a_minute_is_named_in_seconds() -> None:
    """The message said "longer than 0 minutes"."""
    with pytest.raises(Undecodable, match="longer than 15 seconds"):
        worked(wav(np.tile(SOUND, 20)), max_s=15)


def test_a_recording_without_a_length_has_progress_by_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar stayed at 0 % until the end, because a header without a length has no share."""
    monkeypatch.setattr("stream.audio.files.decode_worker.PROGRESS_EVERY_S", 0.0)
    path = record(tmp_path / "a.webm", np.tile(SOUND, 60), options={"live": "1"})
    shares = worked(path.read_bytes()).shares
    assert len(shares) > 100
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert 0.9 < shares[-1] <= 1
