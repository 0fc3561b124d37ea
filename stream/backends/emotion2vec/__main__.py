"""`python -m stream.backends.emotion2vec export DIR [OUT]`: an ONNX graph for the CPU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stream.backends.base import ModelRefused
from stream.backends.emotion2vec import exported
from stream.backends.emotion2vec.locate import EXPORT, locate


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
    options = parser.parse_args(arguments)
    try:
        files = locate(options.model, offline=True)
        out = exported.export(files.config.parent, options.out)
    except (ModelRefused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: {out.stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
