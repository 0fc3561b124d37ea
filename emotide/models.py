"""List, download, verify and export models: `emotide models`."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from stream.backends import embedded, emotion2vec
from stream.backends.emotion2vec import exported, quantized
from stream.backends.emotion2vec.locate import EXPORT, INT8, Files, fetch, locate
from stream.backends.emotion2vec.signals import buzzes
from stream.errors import ModelRefused
from stream.types import SAMPLE_RATE, Samples

TOLERANCE = 1e-4
"""Largest accepted difference of a score from FunASR's, or of an export's from the model's."""

_DESCRIPTIONS = {
    "emotion2vec_plus_seed": "93 M parameters, trained on 201 h",
    "emotion2vec_plus_base": "93 M parameters, trained on 4788 h",
    "emotion2vec_plus_large": "162 M parameters, trained on 42526 h; needs a GPU",
}


EXAMPLES = """\
examples:
  emotide models list
  emotide models download emotion2vec_plus_base
  emotide models verify emotion2vec_plus_base
  emotide models export emotion2vec_plus_base --int8
"""


def main(arguments: Sequence[str] | None = None, prog: str = "emotide models") -> int:
    """Run one command; return 1, with one line on stderr, if a model was refused."""
    options = _parser(prog).parse_args(arguments)
    try:
        options.run(options)
    except (ModelRefused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="List, download, verify and export models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="list every model, its licence and its directory")
    command.set_defaults(run=lambda _: list_models())
    command = commands.add_parser("download", help="download a model that is not on this machine")
    command.add_argument("name", choices=emotion2vec.NAMES)
    command.set_defaults(run=lambda options: download(options.name))
    command = commands.add_parser(
        "verify", help="check every weight of a model and compare its scores"
    )
    command.add_argument("model", help="a name, or a model directory")
    command.set_defaults(run=lambda options: verify(options.model))
    command = commands.add_parser("export", help="write a model as ONNX, faster on a CPU")
    command.add_argument("model", help="a model directory, or the name of a model on this machine")
    command.add_argument(
        "out",
        nargs="?",
        type=Path,
        help=f"file to write (default: {EXPORT} beside the checkpoint, where the server looks)",
    )
    command.add_argument(
        "--int8",
        action="store_true",
        help=f'write {INT8} as well, for model.precision = "int8", and compare the speed of both',
    )
    command.set_defaults(run=lambda options: export(options.model, options.out, options.int8))
    return parser


def list_models() -> None:
    # Without the loader, which would run the model.
    about = json.loads((embedded.SHIPPED / "model.json").read_text(encoding="utf-8"))
    print(f"embedded: ships with Emotide ({about['licence']})")
    for name, description in _DESCRIPTIONS.items():
        directory = emotion2vec.find_checkpoint(name)
        print(f"{name}: {description} ({emotion2vec.LICENCE})")
        if directory is None:
            print(f"  not on this machine: emotide models download {name}")
            continue
        files = Files.of(directory)
        export = ", exported for onnxruntime" if files.export.is_file() else ""
        print(f"  {directory} ({_size(files.weights)}{export})")


def download(name: str) -> None:
    existing = emotion2vec.find_checkpoint(name)
    directory = existing or fetch(name)
    files = Files.of(directory)
    print(f"{name}: {'already in' if existing else 'now in'} {directory} ({_size(files.weights)})")
    print(f"licence: {emotion2vec.LICENCE}; check it: emotide models verify {name}")
    if not files.export.is_file():
        print(f"faster on a CPU: emotide models export {name} [--int8]")


def verify(model: str) -> None:
    """Print the result of each check; raise ModelRefused at the first failure."""
    files = locate(model, offline=True)
    print(f"{files.weights} ({_size(files.weights)})")
    with files.weights.open("rb") as file:
        print(f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}")
    directory = files.config.parent
    backend = emotion2vec.load(str(directory), device="cpu", runtime="torch")
    labels = ", ".join(backend.info.labels)
    print(f"every weight is present, finite and of the right shape; labels: {labels}")
    audio = _audio()
    scores = _scores(backend, audio)
    if files.export.is_file():
        export = emotion2vec.load(str(directory), device="cpu", runtime="onnx")
        _compare(f"{files.export.name}", _scores(export, audio), scores)
    if find_spec("funasr") is None:
        print("not compared with FunASR: it is not installed")
    else:
        _compare("FunASR", _funasr(directory, audio), scores)
    print(f"licence: {emotion2vec.LICENCE}")


def export(model: str, out: Path | None, int8: bool) -> None:
    """Write the ONNX graph of a model, and with `int8` the quantized one; print their sizes."""
    if int8 and out:
        raise ModelRefused("--int8 writes beside the checkpoint: omit OUT")
    files = locate(model, offline=True)
    path = exported.export(files.config.parent, out)
    if int8:
        _quantize(files)
    print(f"{path}: {_size(path)}")


def _quantize(files: Files) -> None:
    out = quantized.quantize(files)
    result = quantized.compare(files, buzzes(8, 3 * SAMPLE_RATE))
    print(
        f"{out}: {_size(out)}; {result.speed:.2f} times the speed of float32 here "
        f"({', '.join(quantized.int8_instructions()) or 'no int8 instructions'}), scores "
        f"differ by at most {result.worst:.3f}, {result.flips} of {result.windows} labels "
        "(synthetic buzzes, not speech)"
    )
    if result.speed < 1:
        print('int8 is slower on this machine: keep model.precision = "float32".')


def _audio() -> Samples:
    """Return three seconds of a buzz in bursts, above faint noise."""
    seconds = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    buzz = np.sum([np.sin(2 * np.pi * 140 * k * seconds) / k for k in range(1, 12)], axis=0)
    noise = np.random.default_rng(1).standard_normal(len(seconds))
    loudness = 0.05 * np.clip(np.sin(2 * np.pi * 3 * seconds), 0, 1)
    return np.asarray(loudness * buzz + 1e-3 * noise, np.float32)


def _scores(backend: emotion2vec.Emotion2vec, audio: Samples) -> dict[str, float]:
    logits = backend.infer(audio[None])[0].mean(axis=0, dtype=np.float64)
    powers = np.exp(logits - logits.max())
    return dict(zip(backend.info.labels, powers / powers.sum(), strict=True))


def _funasr(directory: Path, audio: Samples) -> dict[str, float]:
    from stream.backends.emotion2vec import oracle

    (result,) = oracle.auto_model(directory).generate(audio)
    labels = (label.rpartition("/")[2] for label in result["labels"])
    named = ("unknown" if label == "<unk>" else label for label in labels)
    return dict(zip(named, result["scores"], strict=True))


def _compare(name: str, reference: dict[str, float], scores: dict[str, float]) -> None:
    largest = max(abs(reference.get(label, 1.0) - score) for label, score in scores.items())
    print(f"{name} gives the same scores to within {largest:.1e}")
    if largest > TOLERANCE:
        raise ModelRefused(
            f"{name} differs by {largest:.1e}, more than {TOLERANCE:.0e}: download or export the "
            "model again; if that does not help, report it with the output above"
        )


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"
