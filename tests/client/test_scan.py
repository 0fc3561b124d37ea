"""Search for recordings in folders: contents decide, the rest is listed with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from client.batch.scan import Skipped, has_sound, scan
from tests.support.audio_files import FORMATS, record
from tests.support.odd_files import id3, second, timed, wav

SOUND = wav(second()[:4_000])


def found(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the names of the recordings, and the reasons by name of the files left out."""
    files = list(scan([str(folder)], folder / "out"))
    return (
        [file.name for file in files if isinstance(file, Path)],
        {file.path.name: file.reason for file in files if isinstance(file, Skipped)},
    )


def test_recordings_are_found_by_their_contents(tmp_path: Path) -> None:
    """Of .3gpp, .3ga, .m4b, .weba, .mpga, .mp2, .spx, .wave, .mpeg, .qta most were left out."""
    recorded = record(tmp_path / "a.mp3").read_bytes()
    for name in ("x.mpga", "noname", "voice.bin", "a.3gpp"):
        (tmp_path / name).write_bytes(recorded)
    (tmp_path / "notes.txt").write_text("not a recording")
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(100))
    (tmp_path / "nothing").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "processed_audio.wav").write_bytes(SOUND)
    recordings, left_out = found(tmp_path)
    assert recordings == ["a.3gpp", "a.mp3", "noname", "voice.bin", "x.mpga"]
    assert left_out == {
        "notes.txt": "not a recording",
        "cover.jpg": "not a recording",
        "nothing": "empty",
    }


def test_a_file_that_is_named_like_a_recording_is_tried(tmp_path: Path) -> None:
    """It is reported as failed, with the reason, because the user takes it for a recording."""
    (tmp_path / "a.mp3").write_text("words")
    assert found(tmp_path) == (["a.mp3"], {})


@pytest.mark.parametrize(
    "name", ["._a.wav", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/a.wav", "@eaDir/a.wav"]
)
def test_companions_of_the_system_are_left_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(SOUND)
    recordings, left_out = found(tmp_path)
    assert not recordings
    assert "companion" in left_out[Path(name).name]


def test_a_file_that_is_named_by_the_user_is_always_tried(tmp_path: Path) -> None:
    for name in ("._a.wav", "x.txt"):
        (tmp_path / name).write_bytes(b"x")
    names = [str(tmp_path / name) for name in ("._a.wav", "x.txt", "none.wav", "x.txt")]
    assert [str(path) for path in scan(names, tmp_path / "out")] == names[:3]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_recognised(name: str, tmp_path: Path) -> None:
    content = record(tmp_path / name).read_bytes()
    assert has_sound(content[:4_096])
    assert has_sound((id3(10) + content)[:4_096])


def test_formats_without_a_name_are_recognised(tmp_path: Path) -> None:
    sound = [(0.0, second())]
    for name, codec in (("a.ts", "aac"), ("a.mpg", "mp2"), ("a.mp2", "mp2")):
        path = timed(tmp_path / name, sound, codec, picture_s=0 if name == "a.mp2" else 1)
        assert has_sound(path.read_bytes()[:4_096]), name
    # A capture of a radio stream begins within a frame.
    mp3 = record(tmp_path / "a.mp3", options={"write_xing": "0"}).read_bytes()
    assert has_sound(mp3[1_111:5_207])


def test_other_files_are_not_recordings() -> None:
    for content in (
        b"",
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        b"RIFF\x00\x00\x00\x00ACON",
        b"\x89PNG\r\n\x1a\n",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"\xff\xfe" + "text in UTF-16".encode("utf-16-le"),
        b"\xff\xd8\xff\xe1" + b"\xff" * 4_000,
        b"words " * 600,
        bytes(4_096),
    ):
        assert not has_sound(content), content[:20]


def test_a_name_that_is_not_utf_8_is_found(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(SOUND)
    assert found(tmp_path) == (["caf\udce9.wav"], {})
