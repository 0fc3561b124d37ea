"""A folder of recordings into a data frame and a plot.

  .venv/bin/pip install '.[examples]'
  .venv/bin/python examples/batch.py recordings/ results/

The results are utterances.csv, with a row for every utterance, and emotions.png, with the shares
of each recording. Further words are options of `emotide analyze`, such as `--jobs 2`. Recordings
that have a result in the folder are not analysed again.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # needs no screen

import pandas as pd

from emotide.cli import main as emotide

COLOURS = {
    "angry": "#d62728",
    "disgusted": "#8c564b",
    "fearful": "#9467bd",
    "happy": "#ffbf00",
    "neutral": "#9e9e9e",
    "sad": "#1f77b4",
    "surprised": "#ff7f0e",
    "other": "#d9d9d9",
    "unknown": "#ededed",
}


def utterances(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for every utterance of a result that has scores."""
    return [
        {
            "recording": result["file"]["name"],
            "role": channel["role"],
            "start_s": utterance["start_s"],
            "end_s": utterance["end_s"],
            "speech_s": utterance["quality"]["speech_s"],
            "top": utterance["top"]["label"],
            "activation": utterance["activation"],
            "hints": " ".join(utterance["hints"]),
            **utterance["scores"],
        }
        for channel in result["channels"]
        for utterance in channel["utterances"]
        if utterance["top"]
    ]


def frame(results: Path) -> pd.DataFrame:
    """Return the utterances of all results below a folder."""
    found = [json.loads(path.read_bytes()) for path in sorted(results.glob("*/result.json"))]
    return pd.DataFrame([row for result in found for row in utterances(result)])


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean shares of each recording, weighted by seconds of speech."""
    labels = [label for label in COLOURS if label in table]
    weighted = table[labels].mul(table["speech_s"], axis=0).groupby(table["recording"]).sum()
    return weighted.div(table.groupby("recording")["speech_s"].sum(), axis=0)


def main(recordings: str, out: str, *options: str) -> int:
    """Analyse, write the table and the plot; return the exit status of `emotide analyze`."""
    status = emotide(["analyze", recordings, "--out", out, *options])
    table = frame(Path(out))
    if table.empty:
        print("no utterance has scores", file=sys.stderr)
        return status or 1
    table.to_csv(Path(out) / "utterances.csv", index=False)
    mean = shares(table)
    axes = mean.plot.barh(
        stacked=True, color=COLOURS, xlim=(0, 1), figsize=(10, 2 + 0.3 * len(mean))
    )
    axes.invert_yaxis()
    axes.set(xlabel="share", ylabel="", title="Emotions by recording")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.figure.savefig(Path(out) / "emotions.png", dpi=120, bbox_inches="tight")
    print(table.groupby("recording")["top"].agg(lambda tops: tops.mode()[0]).to_string())
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 2 else __doc__)
