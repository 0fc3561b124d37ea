"""`python -m stream.backends.emotion2vec export DIR [OUT] [--int8]`: ONNX graphs for the CPU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stream.backends.emotion2vec import exported, quantized
from stream.backends.emotion2vec.locate import EXPORT, INT8, Files, locate
from stream.backends.emotion2vec.signals import buzzes
from stream.errors import ModelRefused
from stream.types import SAMPLE_RATE


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 1 and a line on stderr if it was refused."""
    parser = argparse.ArgumentParser(prog="python -m stream.backends.emotion2vec")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("export", help="write the model as ONNX for onnxruntime")
    command.add_argument("model", help="a model directory, or the name of a model on this machine")
    command.add_argument(
        "out",
        nargs="?",
        type=Path,
        help=f"file to write; by default {EXPORT} beside the checkpoint, where it is found",
    )
    command.add_argument(
        "--int8",
        action="store_true",
        help=f'write {INT8} as well, for model.precision = "int8", and race both here',
    )
    options = parser.parse_args(arguments)
    if options.int8 and options.out:
        parser.error("--int8 writes beside the checkpoint: leave OUT out")
    try:
        files = locate(options.model, offline=True)
        out = exported.export(files.config.parent, options.out)
        if options.int8:
            _quantize(files)
    except (ModelRefused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: {_size(out)}")
    return 0


def _quantize(files: Files) -> None:
    out = quantized.quantize(files)
    seen = quantized.compare(files, buzzes(8, 3 * SAMPLE_RATE))
    print(
        f"{out}: {_size(out)}; {seen.speed:.2f} times the speed of float32 here "
        f"({', '.join(quantized.int8_instructions()) or 'no VNNI, AMX or the like'}), scores "
        f"differ by at most {seen.worst:.3f}, {seen.flips} of {seen.windows} labels (buzzes, no "
        "speech)"
    )
    if seen.speed < 1:
        print('It is slower on this machine: leave model.precision at "float32".')


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
