"""Marks on disk: contents, replacement, deletion, tenants, the bound in bytes, exports."""

from __future__ import annotations

import csv
import io
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.feedback.export import COLUMNS, PIECE, manifest, zipped
from stream.feedback.mark import Mark
from stream.feedback.store import BLOCK, FeedbackStore, StoreFull
from stream.feedback.utterance import MarkableUtterance, Source

CALL = Source("stream", "4930123456", "sess_1")


def utterance(number: int = 0, audio: bool = False, dim: int = 4) -> MarkableUtterance:
    clip = np.arange(1600, dtype=np.int16) if audio else None
    features = np.arange(dim, dtype=np.float32) + number
    return MarkableUtterance(1, number, 16_000, 40_000, ("fast", "1"), features, clip)


def add(
    store: FeedbackStore,
    number: int = 0,
    label: str = "angry",
    tenant: str = "acme",
    source: Source = CALL,
    audio: bool = False,
    speaker: str = "",
) -> tuple[Mark, bool]:
    return store.add(tenant, source, utterance(number, audio), label, speaker, "ann", 1e9)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback", 10**6)


def test_a_mark_has_label_features_model_position_and_no_audio(
    store: FeedbackStore, tmp_path: Path
) -> None:
    mark, replaced = add(store)
    assert not replaced
    folder = tmp_path / "feedback" / "acme"
    assert files(folder) == {f"{mark.id}.json", f"{mark.id}.npy"}
    np.testing.assert_array_equal(np.load(folder / f"{mark.id}.npy"), [0, 1, 2, 3])
    assert list(store.marks("acme")) == [mark]
    assert mark.body() == {
        "id": mark.id,
        "label": "angry",
        "speaker": f"stream-{mark.source}",
        "channel": 1,
        "utterance": 0,
        "audio_start_ms": 1000,
        "audio_end_ms": 2500,
        "model": {"id": "fast", "revision": "1"},
        "audio": False,
        "key": "ann",
        "created": "2001-09-09T01:46:40.000Z",
    }
    for path in (folder, *folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, "other users of the machine cannot read it"


def test_no_file_has_the_id_of_the_stream_and_other_servers_hash_it_differently(
    store: FeedbackStore, tmp_path: Path
) -> None:
    """Stream ids may be telephone numbers, which a plain hash does not hide."""
    mark, _ = add(store)
    for path in (tmp_path / "feedback").rglob("*"):
        assert path.is_dir() or b"4930123456" not in path.read_bytes()
    other, _ = add(FeedbackStore(tmp_path / "other", 10**6))
    assert other.source != mark.source
    # After a restart it is the same, so that its marks can be deleted by their stream.
    assert FeedbackStore(tmp_path / "feedback", 10**6).source("acme", CALL) == mark.source


def test_marking_an_utterance_again_replaces_its_label(store: FeedbackStore) -> None:
    first, _ = add(store, label="angry", audio=True)
    second, replaced = add(store, label="sad")
    assert replaced
    assert first.id == second.id
    assert [mark.label for mark in store.marks("acme")] == ["sad"]
    assert store.read("acme", f"{first.id}.wav") is None, "audio that is no longer kept"
    third, _ = add(store, source=Source("stream", CALL.id, "sess_2"))
    assert third.id != first.id, "another session has utterances of its own"
    assert third.source == first.source


def test_marks_never_cross_tenants(store: FeedbackStore) -> None:
    acme, _ = add(store)
    globex, _ = add(store, tenant="globex", label="sad")
    assert acme.id != globex.id
    assert not store.delete("globex", acme.id)
    assert store.delete_of("initech", CALL) == 0
    assert store.delete_all("globex") == 1
    assert list(store.marks("acme")) == [acme]


@pytest.mark.parametrize("name", ["../acme/fb_" + "0" * 24, "fb_", "", ".salt", "fb_" + "g" * 24])
def test_an_id_that_is_none_deletes_nothing(
    store: FeedbackStore, tmp_path: Path, name: str
) -> None:
    add(store)
    before = files(tmp_path / "feedback") | files(tmp_path / "feedback" / "acme")
    assert not store.delete("acme", name)
    assert files(tmp_path / "feedback") | files(tmp_path / "feedback" / "acme") == before


def test_deletion_of_one_of_a_stream_and_of_all(store: FeedbackStore, tmp_path: Path) -> None:
    recording = Source("recording", "file_1")
    one, _ = add(store, 0, audio=True)
    for number in (1, 2):
        add(store, number)
    kept, _ = add(store, 0, source=recording)
    assert store.delete("acme", one.id)
    assert not store.delete("acme", one.id)
    assert store.delete_of("acme", CALL) == 2
    assert list(store.marks("acme")) == [kept]
    folder = tmp_path / "feedback" / "acme"
    (folder / "fb_0.npy.new").write_bytes(b"left by a process that was killed")
    assert store.delete_all("acme") == 1
    assert files(folder) == set()


def test_the_bytes_of_a_tenant_are_bounded_and_deletion_makes_room(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, 6 * BLOCK)
    first, _ = add(store, 0)
    for number in (1, 2):
        add(store, number)
    with pytest.raises(StoreFull):
        add(store, 3)
    add(store, 2, label="sad")
    add(store, 3, tenant="globex")
    # It counts what an earlier process wrote.
    again = FeedbackStore(tmp_path, 6 * BLOCK)
    with pytest.raises(StoreFull):
        add(again, 3)
    assert again.delete("acme", first.id)
    add(again, 3)
    with pytest.raises(StoreFull):
        add(again, 2, audio=True)
    assert [mark.utterance for mark in sorted(again.marks("acme"), key=lambda m: m.utterance)] == [
        *(1, 2, 3)
    ]


def test_an_unreadable_mark_does_not_stop_the_others(
    store: FeedbackStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mark, _ = add(store)
    for name, content in (("fb_1", b"{"), ("fb_2", b'{"id": 1}')):
        (tmp_path / "feedback" / "acme" / f"{name}.json").write_bytes(content)
    assert list(store.marks("acme")) == [mark]
    assert "mark not readable" in caplog.text


def rows(content: bytes) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_manifest_has_a_row_per_mark(store: FeedbackStore) -> None:
    mark, _ = add(store, audio=True, speaker="Zoë, 2")
    [row] = rows(manifest(store.marks("acme")))
    assert tuple(row) == COLUMNS
    assert row["features"] == f"{mark.id}.npy"
    assert row["path"] == f"{mark.id}.wav"
    assert (row["speaker"], row["label"]) == ("Zoë, 2", "angry")
    assert (row["model"], row["revision"]) == ("fast", "1")
    assert (row["utterance_start_s"], row["utterance_end_s"]) == ("1.00", "2.50")
    # `start_s` would make `training.adapt` cut a part of the clip.
    assert "start_s" not in row


def test_the_zip_has_the_features_and_the_audio_of_every_row(store: FeedbackStore) -> None:
    with_audio, _ = add(store, 0, audio=True)
    without, _ = add(store, 1)
    with zipfile.ZipFile(io.BytesIO(b"".join(zipped(store, "acme")))) as archive:
        assert archive.testzip() is None
        listed = rows(archive.read("manifest.csv"))
        assert {row["id"] for row in listed} == {with_audio.id, without.id}
        expected = {f"{row[c]}" for row in listed for c in ("features", "path") if row[c]}
        assert set(archive.namelist()) == expected | {"manifest.csv"}
        features = np.load(io.BytesIO(archive.read(f"{without.id}.npy")))
        np.testing.assert_array_equal(features, [1, 2, 3, 4])
        with wave.open(io.BytesIO(archive.read(f"{with_audio.id}.wav"))) as clip:
            assert (clip.getnchannels(), clip.getframerate(), clip.getnframes()) == (
                1,
                16_000,
                1600,
            )


def test_a_zip_comes_in_pieces_and_leaves_out_what_is_deleted_meanwhile(tmp_path: Path) -> None:
    """An export of a thousand marks must not hold them all, nor fail because one is undone."""
    store = FeedbackStore(tmp_path, 10**8)
    for number in range(60):
        store.add("acme", CALL, utterance(number, dim=1024), "sad", "", "", 1e9)
    pieces = zipped(store, "acme")
    first = next(pieces)
    assert PIECE <= len(first) < 2 * PIECE
    store.delete_all("acme")
    with zipfile.ZipFile(io.BytesIO(first + b"".join(pieces))) as archive:
        listed = rows(archive.read("manifest.csv"))
        assert 10 < len(listed) < 60
        assert {row["features"] for row in listed} == set(archive.namelist()) - {"manifest.csv"}


def test_an_export_without_marks_is_a_manifest_without_rows(store: FeedbackStore) -> None:
    assert manifest(store.marks("acme")).decode() == ",".join(COLUMNS) + "\n"
    with zipfile.ZipFile(io.BytesIO(b"".join(zipped(store, "acme")))) as archive:
        assert archive.namelist() == ["manifest.csv"]
