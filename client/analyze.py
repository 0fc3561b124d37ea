"""Analyses recordings in a batch: results into folders, a table at the end."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from client.batch.analyst import Analyst, Done, Unusable
from client.batch.completed import CompletedInputs, key_of
from client.batch.local import LocalAnalyst, local_config
from client.batch.remote import RemoteAnalyst
from client.batch.report import Row, summary, tell
from client.remote.endpoint import DEFAULT_URL
from client.remote.errors import Refused, Unreachable
from client.terminal.options import (
    FAILED,
    INTERRUPTED,
    OK,
    USAGE,
    CommandError,
    add_connection,
    run,
    server_of,
    stop_on_signals,
)
from stream.errors import ConfigError, ModelRefused
from stream.protocol.messages import FileOptions

_KINDS = """
    wav mp3 m4a aac flac ogg oga opus webm wma amr aiff aif caf mka mkv mp4 mov 3gp au ac3 w64 avi
"""
SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split())
"""What is taken from a folder; a file that is named is tried whatever it is called."""

EXAMPLES = f"""\
examples:
  python -m client.analyze call.mp3 meeting.m4a
      two recordings; each result is a folder outputs/outputs_YYYYMMDD_HHMMSS
  python -m client.analyze recordings/ --out results --jobs 2
      every recording below a folder, two at a time; run it again to go on where it stopped
  python -m client.analyze call.wav --granularity frame --embedding
      shares of every 20 ms in result.json, and an embedding of every frame in embedding.npy
  python -m client.analyze call.wav --server wss://emotions.example.com --ca-file ca.pem
  python -m client.analyze call.wav --local --json
      without a server; a line of JSON for every recording

Where: the server that --server names; without it the one at {DEFAULT_URL}, if there is one, else
this process, as with --local. The results are the same.

Each folder holds result.json, frames.csv, processed_audio.wav (16 kHz, what the model heard) and,
if asked for, embedding.npy; docs/results.md explains them. A recording that has a finished result
for the same options and model in --out is skipped.

exit status: 0 every recording has its result, 1 some have none (the table says why), or the server
             failed, 2 wrong use, 130 stopped by Ctrl-C (finished results stay)
"""


def recordings(names: Sequence[str], out: Path) -> Iterator[Path]:
    """The files named, and the recordings in the folders named, each once; none from `out`."""
    seen: set[Path] = set()
    results = out.resolve()
    for name in names:
        path = Path(name)
        inside = path.is_dir()
        for file in sorted(path.rglob("*")) if inside else [path]:
            whole = file.resolve()
            taken = not inside or (
                file.is_file()
                and file.suffix.lower() in SUFFIXES
                and not whole.is_relative_to(results)
            )
            if taken and whole not in seen:
                seen.add(whole)
                yield file


class Batch:
    """All recordings of one command."""

    def __init__(
        self, rows: list[Row], analyst: Analyst, options: FileOptions, out: Path, jobs: int
    ) -> None:
        self.rows = rows
        self._analyst = analyst
        self._options = options
        self._out = out
        self._jobs = jobs
        self._ledger = CompletedInputs(out)

    async def run(self, bars: Progress, stop: asyncio.Event, as_json: bool) -> None:
        """Analyse what has no result yet; what fails is noted and the rest goes on."""
        whole = bars.add_task("all", total=len(self.rows))
        left = iter(self.rows)

        async def work() -> None:
            for row in left:
                bar = bars.add_task(row.path.name[:40], total=100)
                try:
                    await self._one(row, bars, bar)
                finally:
                    bars.remove_task(bar)
                    bars.advance(whole)
                if as_json:
                    sys.stdout.buffer.write(orjson.dumps(row.body()) + b"\n")
                    sys.stdout.flush()

        workers = [asyncio.create_task(work()) for _ in range(min(self._jobs, len(self.rows)))]
        stopped = asyncio.create_task(stop.wait())
        try:
            pending: set[asyncio.Task[Any]] = {*workers}
            while pending and not stop.is_set():
                done, pending = await asyncio.wait(
                    {*pending, stopped}, return_when=asyncio.FIRST_COMPLETED
                )
                pending.discard(stopped)
                for task in done - {stopped}:
                    task.result()
        finally:
            for task in (*workers, stopped):
                task.cancel()
            await asyncio.gather(*workers, stopped, return_exceptions=True)

    async def _one(self, row: Row, bars: Progress, bar: TaskID) -> None:
        def tell(stage: str, share: float) -> None:
            bars.update(bar, description=f"{row.path.name[:40]} · {stage}", completed=100 * share)

        try:
            key = await asyncio.to_thread(
                key_of, row.path, self._options.model_dump(mode="json"), self._analyst.model
            )
            known = self._ledger.find(key)
            if known is not None:
                row.status, row.folder = "skipped", str(self._out / known["folder"])
                row.summary = known["summary"]
                return
            row.status = "stopped"
            done: Done = await self._analyst.analyse(row.path, self._options, self._out, tell)
            row.status, row.folder, row.notes = "done", str(done.folder), done.notes
            row.summary = summary(done.result)
            entry = {"file": str(row.path), "folder": done.folder.name, "summary": row.summary}
            await asyncio.to_thread(self._ledger.add, key, entry)
        except Unusable as error:
            row.status, row.code, row.message = "failed", error.code, str(error)
        except OSError as error:
            row.status, row.code = "failed", "unreadable"
            row.message = error.strerror or str(error)


async def choose(options: argparse.Namespace, console: Console) -> Analyst:
    """Who analyses, opened. Raises `CommandError`, `Refused` and `Unreachable`."""
    if not options.local:
        options.url = options.server or DEFAULT_URL
        remote = RemoteAnalyst(server_of(options))
        try:
            await remote.open()
        except Unreachable:
            if options.server:
                raise
            console.print(f"no server at {DEFAULT_URL}: analysing here")
        else:
            return remote
    local = LocalAnalyst(local_config(options.model, options.device))
    try:
        with console.status("loading the model"):
            await local.open()
    except (ModelRefused, ConfigError) as error:
        raise CommandError(str(error)) from None
    return local


async def analyze(options: argparse.Namespace) -> int:
    console = Console(stderr=True)
    rows = [Row(path) for path in recordings(options.files, options.out)]
    if not rows:
        raise CommandError("nothing to analyse: there is no recording in what you named", USAGE)
    try:
        wanted = FileOptions(
            granularity=options.granularity,
            embedding=options.embedding,
            denoise=options.denoise,
            language=options.language,
            roles=tuple(options.roles.split(",")) if options.roles else (),
            disclosed=options.disclosed,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"--{first['loc'][0]}: {first['msg']}", USAGE) from None
    stop = asyncio.Event()
    stop_on_signals(stop)
    analyst = await choose(options, console)
    count = "1 recording" if len(rows) == 1 else f"{len(rows)} recordings"
    console.print(f"{count}, analysed by {analyst.where} with {analyst.model}")
    batch = Batch(rows, analyst, wanted, options.out, options.jobs)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    trouble: Exception | None = None
    try:
        with bars:
            await batch.run(bars, stop, options.json)
    except (Refused, Unreachable) as error:
        trouble = error
    finally:
        await analyst.close()
    tell(console, rows, options.json)
    if trouble is not None:
        raise trouble
    if stop.is_set():
        return INTERRUPTED
    return OK if all(row.folder for row in rows) else FAILED


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m client.analyze",
        description="Analyse recordings in a batch: a folder of results for each, and a summary.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE|DIR", help="recordings, or folders of them"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs"
    )
    parser.add_argument(
        "--jobs", type=_jobs, default=1, metavar="N", help="recordings at a time (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for every recording")
    how = parser.add_argument_group("analysis")
    how.add_argument("--granularity", choices=("utterance", "frame"), default="utterance")
    how.add_argument("--embedding", action="store_true", help="write embedding.npy as well")
    how.add_argument("--denoise", action="store_true", help="suppress noise first; for loud noise")
    how.add_argument("--language", default="", metavar="TAG", help="what is spoken, like de")
    how.add_argument("--roles", default="", metavar="A,B", help="who speaks on each channel")
    how.add_argument("--disclosed", action="store_true", help="the speakers were told")
    where = parser.add_argument_group("where")
    chosen = where.add_mutually_exclusive_group()
    chosen.add_argument("--server", metavar="URL", help="let this server do it")
    chosen.add_argument("--local", action="store_true", help="do it here, without a server")
    where.add_argument("--model", default="auto", help="with --local, as the server's --model")
    where.add_argument("--device", default="auto", help="with --local: auto, cpu, cuda")
    add_connection(parser)
    return parser


def _jobs(text: str) -> int:
    jobs = int(text)
    if not 1 <= jobs <= 64:
        raise argparse.ArgumentTypeError("must lie between 1 and 64")
    return jobs


def main(arguments: list[str] | None = None) -> int:
    return run(analyze(parser().parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
