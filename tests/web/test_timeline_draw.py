"""The drawing of a recording or a call (JavaScript, in Node on a canvas that records its text)."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise

import pytest

from stream.server.http.static_files import WEB

MODULE = (WEB / "parts" / "utterance-timeline-draw.js").as_uri()
SCRIPT = """
const written = [];
const ignore = () => {};
const context = {
  fillRect: ignore,
  measureText: (text) => ({ width: text.length * 7 }),
  fillText: (text, left) => written.push([left, left + text.length * 7]),
};
draw(context, WIDTH, { from: 0, to: SECONDS, channels: [], colours: {}, labels: [] });
console.log(JSON.stringify(written));
"""


@pytest.mark.parametrize("width", [280, 328, 900])
@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.0, 2.01, 4.5, 7.0, 61.0, 3600.0])
def test_axis_labels_do_not_overlap(width: int, seconds: float) -> None:
    """On a clip of 2 s the last label was moved in from the edge onto the one before it."""
    script = SCRIPT.replace("WIDTH", str(width)).replace("SECONDS", str(seconds))
    text = f"import {{ draw }} from {json.dumps(MODULE)};\n{script}"
    done = subprocess.run(
        ["node", "--input-type=module", "-e", text], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    places = json.loads(done.stdout)
    assert len(places) >= 2
    assert all(right <= width for _, right in places)
    for (_, right), (left, _) in pairwise(places):
        assert left >= right + 4
