"""List, download and verify models: `python -m stream.backends`."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from stream.backends import embedded, emotion2vec
from stream.backends.emotion2vec.locate import Files, fetch, locate
from stream.errors import ModelRefused
from stream.types import SAMPLE_RATE, Samples

TOLERANCE = 1e-4
"""Largest difference of a score from FunASR's, or of an export's from the checkpoint's."""

_ABOUT = {
    "emotion2vec_plus_seed": "93 M parameters, learned from 201 h",
    "emotion2vec_plus_base": "93 M parameters, learned from 4788 h",
    "emotion2vec_plus_large": "162 M parameters, learned from 42526 h; wants a GPU",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 1 and a line on stderr if a model was refused."""
    parser = argparse.ArgumentParser(prog="python -m stream.backends", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("list", help="show every model, its licence and where it lies")
    command.set_defaults(run=lambda _: list_models())
    command = commands.add_parser("download", help="fetch a model that is not on this machine")
    command.add_argument("name", choices=emotion2vec.NAMES)
    command.set_defaults(run=lambda options: download(options.name))
    command = commands.add_parser("verify", help="read a model whole and compare its scores")
    command.add_argument("model", help="a name, or a model directory")
    command.set_defaults(run=lambda options: verify(options.model))
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ModelRefused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def list_models() -> None:
    # Not through the loader: a list need not run a model.
    about = json.loads((embedded.SHIPPED / "model.json").read_text(encoding="utf-8"))
    print(f"embedded: comes with Emotide ({about['licence']})")
    for name, origin in _ABOUT.items():
        directory = emotion2vec.find_checkpoint(name)
        print(f"{name}: {origin} ({emotion2vec.LICENCE})")
        if directory is None:
            print(f"  not on this machine: python -m stream.backends download {name}")
            continue
        files = Files.of(directory)
        export = ", exported for onnxruntime" if files.export.is_file() else ""
        print(f"  {directory} ({_size(files.weights)}{export})")


def download(name: str) -> None:
    found = emotion2vec.find_checkpoint(name)
    directory = found or fetch(name)
    files = Files.of(directory)
    print(f"{name}: {'already in' if found else 'now in'} {directory} ({_size(files.weights)})")
    print(f"licence: {emotion2vec.LICENCE}; check it: python -m stream.backends verify {name}")
    if not files.export.is_file():
        print(f"faster on a CPU: python -m stream.backends.emotion2vec export {name} [--int8]")


def verify(model: str) -> None:
    """Print what is found; raises ModelRefused at the first thing that is wrong."""
    files = locate(model, offline=True)
    print(f"{files.weights} ({_size(files.weights)})")
    with files.weights.open("rb") as file:
        print(f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}")
    directory = files.config.parent
    backend = emotion2vec.load(str(directory), device="cpu", runtime="torch")
    print(f"every weight is there, in its shape and finite: {', '.join(backend.info.labels)}")
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


def _audio() -> Samples:
    """Three seconds of a buzz that comes and goes, above faint noise."""
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


def _compare(name: str, theirs: dict[str, float], ours: dict[str, float]) -> None:
    worst = max(abs(theirs.get(label, 1.0) - score) for label, score in ours.items())
    print(f"{name} gives the same scores to {worst:.1e}")
    if worst > TOLERANCE:
        raise ModelRefused(
            f"{name} differs by {worst:.1e}, more than {TOLERANCE:.0e}: fetch the model, or export "
            "it, again; if that does not help, report it with the output above"
        )


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
