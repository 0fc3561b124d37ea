"""Writer of the files of one result. Blocking; for use in the disk thread only."""

from __future__ import annotations

import os
import shutil
import wave
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from stream.protocol.wire.result import Result
from stream.recordings.result import csv_head, seconds
from stream.result_files import AUDIO, EMBEDDING, FRAMES, NAMES, RESULT, UTTERANCES
from stream.types import SAMPLE_RATE, Features, FramePosteriors

UPLOAD = ".upload"
ROWS = 4096
"""Number of frames in memory at a time when they are copied into result.json."""


class ResultWriter:
    """Writes one result into `folder`; its memory does not grow with the recording.

    `dim` is the size of a frame's embedding if embeddings of frames are requested, else 0. Every
    method may raise `OSError`; the caller has to remove the folder then.
    """

    def __init__(self, folder: Path, channels: int, labels: Sequence[str], dim: int = 0) -> None:
        self._folder = folder
        self._labels = tuple(labels)
        self._dim = dim
        self._hop = 0
        self._rows = 0
        self._open = ExitStack()
        enter = self._open.enter_context
        self._wav: wave.Wave_write = enter(wave.Wave_write(enter((folder / AUDIO).open("wb"))))
        self._wav.setparams((channels, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        self._csv = enter((folder / FRAMES).open("w", encoding="ascii", newline=""))
        self._csv.write(csv_head(labels))
        self._raw: dict[int, BinaryIO] = {}
        self._features = enter((folder / ".features").open("wb")) if dim else None

    def write_audio(self, pcm: bytes) -> None:
        """Append audio as the model receives it: linear16 at 16 kHz."""
        self._wav.writeframesraw(pcm)

    def write_frames(self, channel: int, frames: FramePosteriors) -> None:
        """Append frames of one channel, in the order in which they were scored."""
        self._hop = frames.hop
        starts = [
            seconds(max(0, frames.start + n * frames.hop)) for n in range(len(frames.posteriors))
        ]
        shares = frames.posteriors.astype(np.float64).round(4).tolist()
        self._csv.writelines(
            f"{channel},{start:g},{','.join(f'{share:g}' for share in row)}\n"
            for start, row in zip(starts, shares, strict=True)
        )
        raw = self._raw.get(channel)
        if raw is None:
            file = (self._folder / f".frames{channel}").open("w+b")
            raw = self._raw[channel] = self._open.enter_context(file)
        table = np.column_stack([np.asarray(starts), frames.posteriors]).astype("<f8")
        raw.write(table.tobytes())
        self._rows += len(starts)
        if self._features is not None and frames.features is not None:
            self._features.write(frames.features.astype("<f4").tobytes())

    def finish(
        self,
        result: Result,
        frames: bool,
        embedding: Features | None = None,
        utterances: Sequence[Features] | None = None,
    ) -> list[str]:
        """Write the remaining files and close; return the names of all files.

        `frames` includes the frames in result.json. `embedding` is that of the whole recording;
        with a `dim`, embedding.npy holds those of the frames instead.
        """
        if self._features is not None:
            self._features.close()
            self._assemble(self._folder / EMBEDDING, (self._rows, self._dim))
        elif embedding is not None:
            np.save(self._folder / EMBEDDING, np.asarray(embedding, "<f4"))
        if utterances is not None:
            width = len(embedding) if embedding is not None else self._dim
            rows = np.stack(utterances) if utterances else np.zeros((0, width))
            np.save(self._folder / UTTERANCES, rows.astype("<f4"))
        with (self._folder / RESULT).open("wb") as file:
            if frames:
                # Insert the field into the encoded object, to avoid an hour of frames in memory.
                file.write(orjson.dumps(result, option=orjson.OPT_INDENT_2)[:-2])
                file.writelines(self._frames_field())
                file.write(b"\n}")
            else:
                file.write(orjson.dumps(result, option=orjson.OPT_INDENT_2))
            file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.close()
        for path in self._folder.glob(".f*"):
            path.unlink()
        return [name for name in NAMES if (self._folder / name).is_file()]

    def close(self) -> None:
        """Close all files. Raises `OSError` if buffered data cannot be written."""
        self._open.close()

    def _assemble(self, path: Path, shape: tuple[int, int]) -> None:
        """Write an .npy file from the float32 rows in the file .features."""
        with path.open("wb") as file, (self._folder / ".features").open("rb") as rows:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(rows, file, 1024 * 1024)

    def _frames_field(self) -> Iterator[bytes]:
        head = {"hop_s": seconds(self._hop), "labels": list(self._labels)}
        yield b',\n  "frames": ' + orjson.dumps(head)[:-1] + b',"channels":['
        for nth, channel in enumerate(sorted(self._raw)):
            yield b"," * bool(nth) + b'{"channel":%d,"start_s":' % channel
            yield from _array(table[:, 0].round(3).tolist() for table in self._tables(channel))
            yield b',"posteriors":'
            yield from _array(table[:, 1:].round(4).tolist() for table in self._tables(channel))
            yield b"}"
        yield b"]}"

    def _tables(self, channel: int) -> Iterator[NDArray[np.float64]]:
        raw, width = self._raw[channel], 1 + len(self._labels)
        raw.seek(0)
        while block := raw.read(ROWS * width * 8):
            yield np.frombuffer(block, "<f8").reshape(-1, width)


def _array(parts: Iterator[list[Any]]) -> Iterator[bytes]:
    """Yield one JSON array with the items of all parts."""
    yield b"["
    first = True
    for part in parts:
        yield b"" if first else b","
        yield orjson.dumps(part)[1:-1]
        first = False
    yield b"]"
