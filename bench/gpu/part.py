"""One part of the check, in a process of its own: an error or a hang ends this part only.

`python -m bench.gpu.part NAME` is called by `bench.gpu`; it appends each row to a file as soon as
the row is known, so nothing that was measured is lost when the part is ended.
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
    """`module.run(context)` of the package `bench.gpu` for one model shape.

    `share` of the time that is left goes to it, relative to the shares of the parts after it.
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
"""In the order in which they matter, should the time not suffice for all."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a part may use: one device, one model, a folder, and time until `deadline`."""

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
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def directory(self) -> Path:
        """The model's directory; the model is built at the first call."""
        return random_models.build(self.work / self.model, self.model)

    def emit(self, table: str, **row: object) -> None:
        """Save one row of a table and print it."""
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"table": table, "row": row}, ensure_ascii=False) + "\n")
        print(f"  {table}: " + ", ".join(f"{key} {_short(row[key])}" for key in row), flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one part; 1 if it failed."""
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
