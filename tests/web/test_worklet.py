"""The microphone's AudioWorklet, whole, run in Node: a sine sweep in, 16-bit PCM out."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.server.http.static_files import WEB

WORKLET = (WEB / "emotide-worklet.js").as_uri()
TO = 16_000
SECONDS = 8
QUANTUM = 128

DRIVE = """
const posted = [];
globalThis.sampleRate = rate;
globalThis.AudioWorkletProcessor = class {
  port = { postMessage: (message) => posted.push(message) };
};
let Capture;
globalThis.registerProcessor = (name, made) => (Capture = made);
await import(module);
const worklet = new Capture();
// A sweep from 0 Hz to half the rate, as a browser feeds it: 128 samples at a time.
const length = rate * seconds;
for (let at = 0; at < length; at += quantum) {
  const input = Float32Array.from({ length: Math.min(quantum, length - at) }, (_, i) => {
    const t = (at + i) / rate;
    return 0.5 * Math.sin((Math.PI * (rate / 2) * t * t) / seconds);
  });
  if (!worklet.process([[input]])) throw new Error("the worklet stopped");
}
worklet.port.onmessage();
const chunks = posted.filter(({ pcm }) => pcm);
console.log(JSON.stringify({
  pcm: chunks.flatMap(({ pcm }) => [...pcm]),
  lengths: chunks.map(({ pcm }) => pcm.length),
  peak: Math.max(...chunks.map(({ peak }) => peak)),
  done: posted.at(-1).done === true,
  continues: worklet.process([[new Float32Array(quantum)]]),
}));
"""


def swept(rate: int) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return the output for a sweep at `rate`: samples at 16 kHz, -1 to 1, and its chunks."""
    given = {"rate": rate, "module": WORKLET, "seconds": SECONDS, "quantum": QUANTUM}
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in given.items())
    command = ["node", "--input-type=module", "-e", constants + DRIVE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)
    return np.array(output.pop("pcm")) / 32768, output


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000, 192_000])
def test_a_sweep_passes_below_seven_kilohertz_and_is_silent_above_eight(rate: int) -> None:
    pcm, output = swept(rate)
    assert len(pcm) == TO * SECONDS, "a second stays a second"
    assert (output["done"], output["continues"]) == (True, False)
    assert set(output["lengths"]) == {TO // 10}, "chunks of 100 ms"
    assert output["peak"] == pytest.approx(0.5, abs=0.01)

    def loudness(first_hz: float, last_hz: float) -> NDArray[np.float64]:
        """Return the RMS of every 20 ms between two frequencies of the sweep."""
        start, end = (int(TO * SECONDS * hz / (rate / 2)) for hz in (first_hz, last_hz))
        pieces = pcm[start : end - (end - start) % 320].reshape(-1, 320)
        rms: NDArray[np.float64] = np.sqrt(np.mean(pieces**2, axis=1))
        return rms

    passband = loudness(200, 7_000)
    assert np.allclose(passband, 0.5 / np.sqrt(2), rtol=0.03), "the band of speech is unchanged"
    assert loudness(8_300, rate / 2 - 200).max() < 2 / 32768, "there is no aliasing"
