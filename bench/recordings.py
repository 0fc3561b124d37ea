"""Time and memory of an hour of speech through /v1/files.

One MP3 of acted sentences with pauses of 0.2 to 0.9 s is uploaded to a server, analysed, written
and downloaded. Client, decoder and model share the machine's cores. "Others' cores" is the use by
all other processes, including the decoder; above 0.1, the seconds are not reliable.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from bench.process import Cpu, Server
from bench.report import arguments, as_json, machine, print_text
from bench.speech import CLIPS
from bench.tables import table
from client.audio.files import blocks, probe
from client.batch.remote import RemoteAnalyser
from client.remote.endpoint import Endpoint
from stream.audio.samples import Pcm
from stream.protocol.file_options import FileOptions
from stream.types import SAMPLE_RATE

EXAMPLES = """\
  python -m bench.recordings                  an hour, with one thread for the model and with two
  python -m bench.recordings --data emodb     sentences of this folder instead of the fixtures"""

MEMORY_AT = (0.1, 0.5, 0.9)
"""Shares of the analysis at which the server's memory is read."""

HEAD = (
    *("threads", "audio s", "speech s", "seconds", "x real time"),
    *("MB at 10 %", "MB at 50 %", "MB at 90 %", "decoder MB", "others' cores"),
)


def conversation(clips: list[Pcm], seconds: float) -> Iterator[Pcm]:
    """Yield random sentences and pauses, int16[samples, 1] at 16 kHz, for `seconds` or more."""
    rng = np.random.default_rng(1)
    samples = 0
    while samples < seconds * SAMPLE_RATE:
        clip = clips[int(rng.integers(len(clips)))]
        pause = rng.integers(-8, 9, (int(rng.uniform(0.2, 0.9) * SAMPLE_RATE), 1)).astype(np.int16)
        yield clip
        yield pause
        samples += len(clip) + len(pause)


def encode(path: Path, pieces: Iterator[Pcm]) -> None:
    """Write the pieces to one MP3 file."""
    with av.open(str(path), "w") as file:
        sound = file.add_stream("libmp3lame", rate=SAMPLE_RATE)
        sound.layout = "mono"
        at = 0
        for piece in pieces:
            row = np.ascontiguousarray(piece[:, :1].T, np.int16)
            frame = av.AudioFrame.from_ndarray(row, format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, at
            at += len(piece)
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))


async def measure(path: Path, threads: int, out: Path) -> list[float]:
    """Return one row of the table."""
    settings = {"model.threads": threads, "files.folder": out / "server"}
    with Server("embedded", settings) as server:
        memory: dict[float, float] = {}
        decoder = 0.0

        def on_progress(stage: str, share: float) -> None:
            nonlocal decoder
            for point in MEMORY_AT:
                if stage == "analysis" and share >= point:
                    memory.setdefault(point, server.rss_mb())
            sizes = [child.memory_info().rss / 2**20 for child in server.process.children()]
            decoder = max(decoder, *sizes, 0.0)

        remote = RemoteAnalyser(Endpoint(server.ws))
        await remote.open()
        cpu, began = Cpu(server), time.monotonic()
        analysis = await remote.analyse(path, FileOptions(), out, on_progress)
        elapsed = time.monotonic() - began
        _, _, others = cpu.shares()
        result = analysis.result
        return [
            threads,
            result["file"]["duration_s"],
            sum(channel["speech_s"] for channel in result["channels"]),
            elapsed,
            result["file"]["duration_s"] / elapsed,
            *(memory.get(point, float("nan")) for point in MEMORY_AT),
            decoder,
            others,
        ]


def main() -> None:
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--data", type=Path, default=CLIPS, help="folder of sentences")
    parser.add_argument("--minutes", type=float, default=60.0, help="default: 60")
    options = parser.parse_args()
    minutes = 3.0 if options.quick else options.minutes
    paths = sorted(path for path in options.data.iterdir() if path.suffix in (".flac", ".wav"))
    clips = [np.concatenate([*blocks(probe(path), SAMPLE_RATE, 1)]) for path in paths]
    print_text(options, machine(), f"{minutes:g} minutes of {len(clips)} sentences", "")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "hour.mp3"
        encode(path, conversation(clips, minutes * 60))
        rows = [asyncio.run(measure(path, threads, Path(name))) for threads in (1, 2)]
    if options.json:
        print(as_json([dict(zip(HEAD, row, strict=True)) for row in rows]))
    print_text(options, table(HEAD, rows))


if __name__ == "__main__":
    main()
