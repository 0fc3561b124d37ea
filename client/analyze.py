"""Batch analysis of recordings: a folder for each result, and a table at the end."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
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

from client.batch.analyser import Analyser, AnalysisFailed
from client.batch.completed import CompletedInputs, key_of
from client.batch.remote import RemoteAnalyser
from client.batch.report import Row, print_report, summary, text_of
from client.batch.scan import Skipped, scan
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
from stream.printable import utf8
from stream.protocol.file_options import FileOptions

PROG = "emotide analyze"

MOST_LISTED = 20
"""Skipped files that are listed by name."""

EXAMPLES = f"""\
examples:
  emotide analyze call.mp3 meeting.m4a
      two recordings; each result is a folder outputs/outputs_YYYYMMDD_HHMMSS
  emotide analyze recordings/ --out results --jobs 2
      every recording below a folder, two at a time; run it again to resume after a stop
  emotide analyze call.wav --granularity frame --embedding
      posteriors of every frame (20 ms) in result.json, and their embeddings in embedding.npy
  emotide analyze interview.mkv --track 2
      the second audio track of a file that has several
  emotide analyze call.wav --server wss://emotions.example.com --ca-file ca.pem
  emotide analyze call.wav --local --json
      without a server; a line of JSON for every recording

The analysis runs on the server that --server names. Without --server it runs on the one at
{DEFAULT_URL}, or in this process (as with --local) if no server responds there.
The results are the same.

Each folder holds result.json, frames.csv, processed_audio.wav (16 kHz, the input of the model) and,
with --embedding, embedding.npy; docs/results.md explains them. A recording that has a finished
result for the same options and model in --out is skipped.

exit status: 0 every recording has a result, 1 some recordings have none (the table gives the
             reason) or the server failed, 2 invalid usage, 130 stopped by Ctrl-C (finished results
             are kept)
"""


class Batch:
    """All recordings of one command."""

    def __init__(
        self, rows: list[Row], analyser: Analyser, options: FileOptions, out: Path, jobs: int
    ) -> None:
        self.rows = rows
        self._analyser = analyser
        self._options = options
        self._out = out
        self._jobs = jobs
        self._completed = CompletedInputs(out)

    async def run(self, bars: Progress, stop: asyncio.Event, as_json: bool) -> None:
        """Analyse the recordings without a result until `stop` is set.

        A recording that fails does not stop the others.
        """
        total = bars.add_task("all", total=len(self.rows))
        remaining = iter(self.rows)

        async def work() -> None:
            for row in remaining:
                bar = bars.add_task(row.name[:40], total=100)
                try:
                    await self._analyse(row, bars, bar)
                finally:
                    bars.remove_task(bar)
                    bars.advance(total)
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

    async def _analyse(self, row: Row, bars: Progress, bar: TaskID) -> None:
        def on_progress(stage: str, share: float) -> None:
            bars.update(bar, description=f"{row.name[:40]} · {stage}", completed=100 * share)

        try:
            key = await asyncio.to_thread(
                key_of, row.path, self._options.given(), self._analyser.model
            )
            entry = self._completed.find(key)
            if entry is not None:
                row.status, row.folder = "skipped", str(self._out / entry["folder"])
                row.summary = entry["summary"]
                return
            row.status = "stopped"
            analysis = await self._analyser.analyse(row.path, self._options, self._out, on_progress)
            row.status, row.folder, row.warnings = "done", str(analysis.folder), analysis.warnings
            row.summary = summary(analysis.result)
            entry = {
                "file": utf8(str(row.path)),
                "folder": analysis.folder.name,
                "summary": row.summary,
            }
            await asyncio.to_thread(self._completed.add, key, entry)
        except AnalysisFailed as error:
            row.status, row.code, row.message = "failed", error.code, str(error)
        except OSError as error:
            row.status, row.code = "failed", "unreadable"
            row.message = error.strerror or str(error)
        except (Refused, Unreachable):
            raise
        except Exception as error:
            # A fault of this program with one file must not cost the results of the others.
            row.status, row.code = "failed", "internal_error"
            row.message = f"{type(error).__name__}: {error}"


async def open_analyser(options: argparse.Namespace, console: Console) -> Analyser:
    """Return the analyser that the options select, opened.

    Raises `CommandError`, `Refused` and `Unreachable`.
    """
    if not options.local:
        options.url = options.server or DEFAULT_URL
        remote = RemoteAnalyser(server_of(options))
        try:
            await remote.open()
        except Unreachable:
            if options.server:
                raise
            console.print(f"no server at {DEFAULT_URL}: analysing in this process")
        else:
            return remote
    # With a server, the server's packages (ONNX Runtime, FFmpeg) are not needed.
    from client.batch.local import LocalAnalyser, local_config

    local = LocalAnalyser(local_config(options.model, options.device))
    try:
        with console.status("loading the model"):
            await local.open()
    except (ModelRefused, ConfigError) as error:
        raise CommandError(str(error)) from None
    return local


def print_skipped(console: Console, skipped: Sequence[Skipped]) -> None:
    """List the files in the named folders that are not analysed."""
    for file in skipped[:MOST_LISTED]:
        console.print(text_of(f"{file.path}: left out, {file.reason}", "dim"))
    if len(skipped) > MOST_LISTED:
        console.print(f"{len(skipped) - MOST_LISTED} more files left out", style="dim")


async def analyze(options: argparse.Namespace) -> int:
    console = Console(stderr=True)
    found = list(scan(options.files, options.out))
    rows = [Row(path) for path in found if isinstance(path, Path)]
    print_skipped(console, [file for file in found if isinstance(file, Skipped)])
    if not rows:
        raise CommandError("nothing to analyse: name at least one recording", USAGE)
    try:
        file_options = FileOptions(
            granularity=options.granularity,
            embedding=options.embedding,
            denoise=options.denoise,
            baseline=options.baseline,
            language=options.language,
            roles=tuple(options.roles.split(",")) if options.roles else (),
            disclosed=options.disclosed,
            track=options.track,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"--{first['loc'][0]}: {first['msg']}", USAGE) from None
    stop = asyncio.Event()
    stop_on_signals(stop)
    analyser = await open_analyser(options, console)
    count = "1 recording" if len(rows) == 1 else f"{len(rows)} recordings"
    console.print(f"{count}, analysed by {analyser.where} with {analyser.model}")
    batch = Batch(rows, analyser, file_options, options.out, options.jobs)
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    failure: Exception | None = None
    try:
        with bars:
            await batch.run(bars, stop, options.json)
    except (Refused, Unreachable) as error:
        failure = error
    finally:
        await analyser.close()
    print_report(console, rows, options.json)
    if failure is not None:
        raise failure
    if stop.is_set():
        return INTERRUPTED
    return OK if all(row.folder for row in rows) else FAILED


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Analyse recordings in a batch: a result folder for each, a table at the end.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE|DIR", help="recordings, or folders with recordings"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs"
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=1,
        metavar="N",
        help="recordings analysed at a time (default: 1)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a line of JSON for every recording"
    )
    analysis = parser.add_argument_group("analysis")
    analysis.add_argument("--granularity", choices=("utterance", "frame"), default="utterance")
    analysis.add_argument("--embedding", action="store_true", help="write embedding.npy as well")
    analysis.add_argument(
        "--denoise", action="store_true", help="suppress noise before the analysis; for loud noise"
    )
    analysis.add_argument(
        "--baseline",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="move scores towards what is unusual for each voice (default: as the server does)",
    )
    analysis.add_argument(
        "--language", default="", metavar="TAG", help="language that is spoken, for example de"
    )
    analysis.add_argument("--roles", default="", metavar="A,B", help="roles of the channels")
    analysis.add_argument(
        "--track",
        type=int,
        default=0,
        metavar="N",
        help="audio track, counted from 1 (default: the one that the file marks)",
    )
    analysis.add_argument(
        "--disclosed", action="store_true", help="the speakers were informed of the analysis"
    )
    place = parser.add_argument_group("place of the analysis")
    either = place.add_mutually_exclusive_group()
    either.add_argument("--server", metavar="URL", help="analyse on this server")
    either.add_argument("--local", action="store_true", help="analyse in this process")
    place.add_argument("--model", default="auto", help="with --local: as the server's --model")
    place.add_argument("--device", default="auto", help="with --local: auto, cpu, cuda")
    add_connection(parser)
    return parser


def _jobs(text: str) -> int:
    jobs = int(text)
    if not 1 <= jobs <= 64:
        raise argparse.ArgumentTypeError("must be between 1 and 64")
    return jobs


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    return run(analyze(parser(prog).parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
