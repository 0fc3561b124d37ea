"""How fast an hour of speech goes through /v1/files, and what memory that takes.

One MP3 of acted sentences with 0.2 to 0.9 s of pause between them, sent to a real server, analysed,
written, fetched. Client, decoder and model share the machine's cores. "Others' cores" is what all
other processes used meanwhile, the decoder among them; beyond a tenth, the seconds say little.
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
from bench.report import arguments, as_json, machine, say
from bench.speech import CLIPS
from bench.tables import table
from client.audio.files import blocks, probe
from client.batch.remote import RemoteAnalyst
from client.remote.endpoint import Endpoint
from stream.audio.decode import Pcm
from stream.protocol.messages import FileOptions
from stream.types import SAMPLE_RATE

EXAMPLES = """\
  python -m bench.recordings                  an hour, with one thread for the model and with two
  python -m bench.recordings --data emodb     sentences of another folder than the fixtures"""

LOOKS = (0.1, 0.5, 0.9)
"""Shares of the analysis at which the server's memory is read."""

HEAD = (
    *("threads", "audio s", "speech s", "seconds", "x real time"),
    *("MB at 10 %", "MB at 50 %", "MB at 90 %", "decoder MB", "others' cores"),
)


def conversation(clips: list[Pcm], seconds: float) -> Iterator[Pcm]:
    """Sentences in turn with pauses, int16[samples, 1] at 16 kHz, for as long as wanted."""
    rng = np.random.default_rng(1)
    samples = 0
    while samples < seconds * SAMPLE_RATE:
        clip = clips[int(rng.integers(len(clips)))]
        pause = rng.integers(-8, 9, (int(rng.uniform(0.2, 0.9) * SAMPLE_RATE), 1)).astype(np.int16)
        yield clip
        yield pause
        samples += len(clip) + len(pause)


def encode(path: Path, pieces: Iterator[Pcm]) -> None:
    """The pieces as one MP3."""
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


async def measured(path: Path, threads: int, out: Path) -> list[float]:
    """One row of the table."""
    settings = {"model.threads": threads, "files.folder": out / "server"}
    with Server("embedded", settings) as server:
        memory: dict[float, float] = {}
        decoder = 0.0

        def tell(stage: str, share: float) -> None:
            nonlocal decoder
            for look in LOOKS:
                if stage == "analysis" and share >= look:
                    memory.setdefault(look, server.rss_mb())
            sizes = [child.memory_info().rss / 2**20 for child in server.process.children()]
            decoder = max(decoder, *sizes, 0.0)

        remote = RemoteAnalyst(Endpoint(server.ws))
        await remote.open()
        cpu, began = Cpu(server), time.monotonic()
        done = await remote.analyse(path, FileOptions(), out, tell)
        took = time.monotonic() - began
        _, _, others = cpu.shares()
        result = done.result
        return [
            threads,
            result["file"]["duration_s"],
            sum(channel["speech_s"] for channel in result["channels"]),
            took,
            result["file"]["duration_s"] / took,
            *(memory.get(look, float("nan")) for look in LOOKS),
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
    say(options, machine(), f"{minutes:g} minutes of {len(clips)} sentences", "")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "hour.mp3"
        encode(path, conversation(clips, minutes * 60))
        rows = [asyncio.run(measured(path, threads, Path(name))) for threads in (1, 2)]
    if options.json:
        print(as_json([dict(zip(HEAD, row, strict=True)) for row in rows]))
    say(options, table(HEAD, rows))


if __name__ == "__main__":
    main()
