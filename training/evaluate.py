"""Evaluation of a model on recordings it was not trained on; writes the model card."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from stream.backends.embedded import SHIPPED, load
from training.data import read_manifest
from training.scored import held_out, score_corpus, table


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measure a model directory on a manifest (columns as for training.train), in "
        "the server's own pipeline. Only speakers it was not trained on are informative. For those "
        "it was trained on, give --trained: then models that were trained without them are "
        "measured.",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="default: the shipped model")
    parser.add_argument("--corpora", nargs="+", required=True, help="corpora it was not trained on")
    parser.add_argument("--calm", nargs="+", default=[], help="corpora of calm speech")
    parser.add_argument("--trained", type=Path, help="--out of training.train")
    parser.add_argument(
        "--sounds", type=Path, help="CSV with path and kind: sounds without speech, acted calls"
    )
    parser.add_argument("--before", type=Path, help="a model directory to compare with")
    parser.add_argument(
        "--card", type=Path, help="model card to write, .md; needs --trained, --calm and --sounds"
    )
    options = parser.parse_args()
    if options.card and not (options.trained and options.sounds and options.calm):
        raise SystemExit("--card needs --trained, --calm and --sounds")

    backend = load(options.model)
    about = json.loads((options.model / "model.json").read_text(encoding="utf-8"))
    folder = options.manifest.parent
    clips = read_manifest(options.manifest, counts=about.get("counts"))
    scored = held_out(options.trained, backend, clips) if options.trained else []
    for corpus in options.corpora:
        own = [clip for clip in clips if clip.corpus == corpus]
        scored.append(score_corpus(backend, corpus, own, folder))
    print(table(scored))
    if options.calm or options.sounds:
        from training.behaviour import calm_table, sound_tables

        before = load(options.before) if options.before else None
        if options.calm:
            print(calm_table(backend, before, clips, set(options.calm), folder))
        if options.sounds and not options.card:
            print(*sound_tables(backend, before, options.sounds), sep="\n\n")
    if options.card:
        from training.card import write_card  # only a card needs matplotlib

        write_card(options, about, backend, scored, clips)
        print(f"wrote {options.card}")


if __name__ == "__main__":
    main()
