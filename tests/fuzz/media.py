"""Mutated recordings through the confined decoder: every one is decoded, or refused with a reason.

  python -m tests.fuzz.media                     for FUZZ_SECONDS (default: 60)
  python -m tests.fuzz.media --seed 7 --seconds 3600

FFmpeg's code is not instrumented, so the mutations are random, but the same for the same seed. A
finding is written to the folder FUZZ_CORPUS (default: outputs/fuzz), below `media`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.tables import table
from stream.audio.files.decode_process import Decoder, Finished
from stream.audio.files.decode_worker import Job
from stream.audio.files.undecodable import Undecodable
from tests.support.audio_files import FORMATS, record
from tests.support.utterances import speech

FOUND = Path(os.environ.get("FUZZ_CORPUS", Path(__file__).parents[2] / "outputs" / "fuzz"))

JOB = Job(max_s=60, cpu_s=20)
TIMEOUT_S = 60.0
MAX_ROWS = 61 * 16_000
"""Samples that a decoder may return for `JOB`."""

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class Finding(Exception):
    """A file that broke a promise of the decoder."""


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return `content` with one to eight changes, most of them near the headers."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        near = len(data) if rng.random() < 0.4 else min(len(data), 512)
        at = rng.randrange(max(1, near))
        length = rng.choice((1, 2, 4, 16, 256))
        change = rng.randrange(7)
        if change == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif change == 1:
            order = rng.choice(("big", "little"))
            number = rng.choice(INTERESTING).to_bytes(4, order)  # type: ignore[arg-type]
            data[at : at + 4] = number
        elif change == 2:
            del data[at : at + length]
        elif change == 3:
            data[at:at] = rng.randbytes(length)
        elif change == 4:
            data[at:at] = data[at : at + length] * rng.randint(1, 64)
        elif change == 5:
            del data[at + length :]
        else:
            source = rng.randrange(max(1, len(data)))
            data[at : at + length] = data[source : source + length]
    return bytes(data) or b"\0"


def samples(folder: Path) -> dict[str, bytes]:
    """Return a second of speech in every format, and a video, by name."""
    pcm = speech()[:16_000]
    two = np.stack([pcm, np.roll(pcm, 4000)], axis=1)
    files = {name: record(folder / name, pcm) for name in FORMATS}
    files["two.wav"] = record(folder / "two.wav", two)
    files["video.mp4"] = record(folder / "video.mp4", pcm, video=True)
    files["fragments.mp4"] = record(
        folder / "fragments.mp4", pcm, options={"movflags": "frag_keyframe+empty_moov"}
    )
    return {name: path.read_bytes() for name, path in files.items()}


def cases(folder: Path, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and mutated contents without end, the formats in turn."""
    originals = samples(folder)
    number = 0
    while True:
        for name, content in originals.items():
            yield f"{seed}-{number}-{name}", mutate(content, random.Random(f"{seed} {number}"))
            number += 1


async def outcome(path: Path) -> str:
    """Decode a file; return `decoded`, `damaged` or the code of its refusal. Raises `Finding`."""
    decoder = Decoder(path, JOB, TIMEOUT_S)
    rows = 0
    try:
        await decoder.start()
        async for message in decoder.messages():
            if isinstance(message, np.ndarray):
                rows += len(message)
            elif isinstance(message, Finished):
                return "damaged" if message.damaged else "decoded"
        raise Finding("no end")
    except Undecodable as refused:
        if refused.values.get("reason") == "broke_off":
            raise Finding("the process crashed") from None
        if refused.code == "decode_timeout":
            raise Finding("the process hung or took too much CPU time") from None
        return refused.code
    finally:
        await decoder.stop()
        if rows > MAX_ROWS:
            raise Finding(f"{rows} samples, more than the limit")


async def fuzz(seed: int, seconds: float, count: int, folder: Path) -> Counter[str]:
    """Decode at most `count` mutated files, for at most `seconds`; return numbers by outcome.

    Raises `Finding`, after the file was written below `FOUND`.
    """
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    path = folder / "mutated"
    for name, content in cases(folder, seed):
        if outcomes.total() >= count or time.monotonic() > end:
            return outcomes
        path.write_bytes(content)
        try:
            outcomes[await outcome(path)] += 1
        except Finding as finding:
            kept = FOUND / "media" / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
            raise Finding(f"{finding}: {kept}") from None
    return outcomes


def main() -> int:
    """Fuzz and print the outcomes; return the exit status, 1 for a finding."""
    parser = argparse.ArgumentParser(description="Decode mutated recordings.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=os.environ.get("FUZZ_SECONDS", "60"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcomes = asyncio.run(fuzz(options.seed, options.seconds, 1 << 30, Path(folder)))
        except Finding as finding:
            print(f"FOUND  {finding}")
            return 1
    print(table(("outcome", "files"), [(k, str(n)) for k, n in outcomes.most_common()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
