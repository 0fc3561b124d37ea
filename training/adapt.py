"""Fit a head to an operator's own labelled clips, on the features of any backend.

Models know actors and studios. A few hundred labelled clips of the people who really call are often
worth more than a larger model. Only one linear layer is fitted, so minutes on a CPU are enough, and
the mean of the frame logits stays the logits of the utterance.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from stream.analysis.pipeline import AnalysisSettings, StreamPipeline, analyse
from stream.analysis.windows import WindowSettings
from stream.backends.base import Backend, Embedder
from stream.backends.registry import load
from stream.errors import ModelRefused
from stream.labels import LABELS
from stream.types import FRAME, SAMPLE_RATE, AudioFormat, FrameScores, Segment, Window
from training.adapt_card import write_card
from training.data import decode
from training.head import Evaluation, Head, cross_validate, fit
from training.manifest import Row, of_model, read_rows

MIN_SPEAKERS, MIN_CLIPS, MIN_SPEAKERS_PER_LABEL = 3, 12, 2
"""Least number of speakers, of clips per label, and of speakers per label."""

EXAMPLES = """\
examples:
  python -m training.adapt --manifest clips.csv --out my-model
  python -m training.adapt --manifest clips.csv --model emotion2vec_plus_base --out my-model
  emotide serve --model my-model

The manifest is a CSV with the columns path (relative to it), label and speaker. With start_s and
end_s, a row is a part of its file. A row of feedback (GET /v1/feedback?format=zip) has a column
features, a .npy file of float32[dim] that the server stored, and the columns model and revision:
rows of another model are left out, unless the server stored the audio too (path).
"""


class TooLittle(Exception):
    """Refusal of data from which no head can be fitted and checked."""


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled utterance: mean features float32[dim], and the base's own log shares if known."""

    label: str
    speaker: str
    features: NDArray[np.float32]
    base: NDArray[np.float32] | None


def check(labels: Sequence[str], speakers: Sequence[str]) -> None:
    """Raise `TooLittle`, with the numbers needed, unless a head can be fitted and checked."""
    faults = []
    if len(set(speakers)) < MIN_SPEAKERS:
        faults.append(f"{len(set(speakers))} speakers (needed: {MIN_SPEAKERS})")
    counts = Counter(labels)
    if len(counts) < 2:
        faults.append(f"{len(counts)} labels (needed: 2)")
    heard = defaultdict(set)
    for label, speaker in zip(labels, speakers, strict=True):
        heard[label].add(speaker)
    for label, count in sorted(counts.items()):
        if count < MIN_CLIPS:
            faults.append(f"{count} clips of {label} (needed: {MIN_CLIPS})")
        if len(heard[label]) < MIN_SPEAKERS_PER_LABEL:
            faults.append(
                f"{label} from {len(heard[label])} speaker (needed: {MIN_SPEAKERS_PER_LABEL})"
            )
    if faults:
        raise TooLittle(
            "too little data: " + "; ".join(faults) + ". Add clips, or leave labels out"
        )


def examine(backend: Embedder, rows: Sequence[Row], console: Console) -> list[Example]:
    """Return the examples of all rows in which speech was found; print the others."""
    examples = []
    for row in track(rows, "features", console=console):
        try:
            example = _example(backend, row)
        except (OSError, ValueError) as error:
            console.print(f"line {row.line} left out: {error}", markup=False)
            continue
        if example is None:
            console.print(f"line {row.line} left out: no speech found in {row.path}", markup=False)
        else:
            examples.append(example)
    return examples


def _example(backend: Embedder, row: Row) -> Example | None:
    if row.features is not None:
        features = np.load(row.features, allow_pickle=False).astype(np.float32)
        if features.shape != (backend.info.dim,):
            raise ValueError(
                f"{row.features} has {list(features.shape)} features and {backend.info.id} has "
                f"{backend.info.dim}: they are from another model"
            )
        return Example(row.label, row.speaker, features, None)
    assert row.path is not None
    audio = decode(row.path)
    end = None if row.end_s is None else int(row.end_s * SAMPLE_RATE)
    audio = audio[int(row.start_s * SAMPLE_RATE) : end]
    segments = segments_of(backend, audio)
    if not segments:
        return None
    weights = [segment.end - segment.start for segment in segments]
    features = np.average([s.embedding for s in segments if s.embedding is not None], 0, weights)
    shares = np.average([list(s.scores.values()) for s in segments], 0, weights)
    base = np.log(np.maximum(shares, 1e-4))
    return Example(row.label, row.speaker, features.astype(np.float32), base.astype(np.float32))


def segments_of(backend: Embedder, audio: NDArray[np.float32]) -> list[Segment]:
    """Return the scored utterances of float32[samples], as the server finds and scores them."""
    info = backend.info
    windows = WindowSettings(info.preferred_lengths, min(SAMPLE_RATE, info.preferred_lengths[-1]))
    settings = AnalysisSettings(windows=windows, embeddings=True)
    pipeline = StreamPipeline(AudioFormat("f32le"), [0], info, settings)

    def infer(window: Window) -> FrameScores:
        logits, features = backend.embed(window.audio[None])
        return FrameScores(window, logits[0], features[0])

    # A clip is cut close to its speech; the voice detector needs a pause before and after it.
    pause = np.zeros(SAMPLE_RATE // FRAME * FRAME, np.float32)
    data = np.concatenate([pause, audio, pause]).astype("<f4").tobytes()
    events = analyse(pipeline, [data], infer)
    return [e for e in events if isinstance(e, Segment) and e.scores and e.embedding is not None]


def write(
    out: Path,
    backend: Backend,
    name: str,
    id_: str,
    licence: str,
    head: Head,
    evaluation: Evaluation,
) -> None:
    """Write the model directory: head.npz, model.json, card.md."""
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "head.npz", weight=head.weight, bias=head.bias)
    digest = hashlib.sha256((out / "head.npz").read_bytes()).hexdigest()
    directory = Path(name).expanduser()
    about = {
        "base": str(directory.resolve()) if directory.is_dir() else backend_name(name, backend),
        "base_id": backend.info.id,
        "base_revision": backend.info.revision,
        "id": id_,
        "revision": digest[:12],
        "labels": list(head.labels),
        "temperature": round(evaluation.temperature, 4),
        "licence": licence,
        "sha256": digest,
    }
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    (out / "model.json").write_text(text, encoding="utf-8")
    write_card(out / "card.md", about, evaluation)


def backend_name(name: str, backend: Backend) -> str:
    """Return the name to load the base by; `auto` depends on the machine, so it is resolved."""
    if name != "auto":
        return name
    return "embedded" if backend.info.id.startswith("emotide-embedded") else backend.info.id


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, check and write a head; print how it compares with the one that it replaces."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        rows = read_rows(options.manifest)
        wanted = options.labels or LABELS
        rows = [row for row in rows if row.label in wanted]
        check([row.label for row in rows], [row.speaker for row in rows])
        backend = load(options.model, options.device, options.offline)
        try:
            if not isinstance(backend, Embedder) or not backend.info.dim:
                raise ModelRefused(f"{backend.info.id} has no embeddings: choose another --model")
            console.print(f"{len(rows)} rows, features of {backend.info.id}")
            rows, others = of_model(rows, backend.info.features)
            for (model, revision), count in others.items():
                console.print(
                    f"{count} rows left out: their features are of {model} {revision}, and --model "
                    f"{options.model} has those of {' '.join(backend.info.features)}",
                    markup=False,
                )
            examples = examine(backend, rows, console)
            labels = [example.label for example in examples]
            speakers = [example.speaker for example in examples]
            check(labels, speakers)
            features = np.stack([example.features for example in examples])
            base = [example.base for example in examples]
            evaluation = cross_validate(features, labels, speakers, base, backend.info.labels)
            head = fit(features, labels, speakers)
            write(
                options.out, backend, options.model, options.id, options.licence, head, evaluation
            )
        finally:
            backend.close()
    except (OSError, ValueError, ModelRefused, TooLittle) as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        return 2
    print(evaluation.table())
    better = evaluation.better
    if better is not None and better <= 0:
        console.print(
            "The new head is not better than the one that it replaces: do not use it.",
            style="yellow",
        )
    console.print(f"wrote {options.out}; run: emotide serve --model {options.out}", markup=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.adapt",
        description="Fit a head to your own labelled clips, check it on speakers that it was not "
        "fitted on, and write a model directory.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="CSV")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write")
    parser.add_argument(
        "--model", default="embedded", help="backend whose features are used (default: embedded)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--offline", action="store_true", help="never download a model")
    parser.add_argument(
        "--labels", nargs="+", choices=LABELS, metavar="LABEL", help="use these labels only"
    )
    parser.add_argument("--id", default="adapted", help="name of the model in results")
    parser.add_argument(
        "--licence", default="the operator's own", help="licence of the clips and the head"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
