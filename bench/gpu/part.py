"""One part of the check, in a separate process: an error or a hang affects only this part.

`bench.gpu` calls `python -m bench.gpu.part NAME`, which appends each row to a file as soon as the
row is known, so no result is lost when the part is killed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import random_models


@dataclass(frozen=True, slots=True)
class Part:
    """`run(context)` of `bench.gpu.MODULE` for one model shape.

    The part gets the share `share` of the remaining time, relative to the shares of later parts.
    """

    name: str
    module: str
    role: str
    share: float


PARTS = (
    Part("device", "device", "", 2),
    Part("correctness", "correctness", "check", 4),
    Part("throughput", "throughput", "main", 4),
    Part("streams", "streams", "main", 4),
    Part("tests", "suite", "", 3),
    Part("throughput of the second model", "throughput", "second", 4),
    Part("torch.compile", "compiled", "main", 3),
)
"""Parts in the order of their importance, in case the time does not suffice for all."""


@dataclass(frozen=True, slots=True)
class Context:
    """Resources of a part: one device, one model, a folder, and time until `deadline`."""

    device: str
    model: str
    work: Path
    deadline: float
    rows: Path

    @property
    def kind(self) -> str:
        """ "cpu" or "cuda", without an index."""
        return self.device.partition(":")[0]

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    def left(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - time.monotonic()

    def directory(self) -> Path:
        """Return the model's directory; build the model at the first call."""
        return random_models.build(self.work / self.model, self.model)

    def emit(self, table: str, **row: object) -> None:
        """Save one row of a table and print it."""
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"table": table, "row": row}, ensure_ascii=False) + "\n")
        print(f"  {table}: " + ", ".join(f"{key} {_short(row[key])}" for key in row), flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one part; return 0, or 1 if it failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.part", description=__doc__)
    parser.add_argument("name", choices=[part.name for part in PARTS])
    parser.add_argument("--device", required=True)
    parser.add_argument("--model", required=True, choices=random_models.CONFIGS)
    parser.add_argument("--work", type=Path, required=True, help="folder for the models")
    parser.add_argument("--rows", type=Path, required=True, help="file to append the rows to")
    parser.add_argument("--seconds", type=float, required=True, help="time for this part")
    options = parser.parse_args(arguments)
    context = Context(
        options.device,
        options.model,
        options.work,
        time.monotonic() + options.seconds,
        options.rows,
    )
    part = next(part for part in PARTS if part.name == options.name)
    run: Callable[[Context], Any] = import_module(f"bench.gpu.{part.module}").run
    try:
        run(context)
    except Exception as error:
        traceback.print_exc()
        line = (str(error).splitlines() or [""])[0]
        context.emit("Failures", part=part.name, error=f"{type(error).__name__}: {line}"[:300])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
