"""The microphone's resampler (JavaScript, run in Node) with sines whose output is known."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import numpy as np
import pytest

from stream.server.http.static_files import WEB

MODULE = (WEB / "emotide-worklet.js").as_uri()
RATES = [8_000, 22_050, 44_100, 48_000, 88_200, 96_000, 192_000]
TO = 16_000
WORKLET = """
globalThis.AudioWorkletProcessor = class {};
globalThis.registerProcessor = () => {};
"""


def node(script: str, **values: Any) -> Any:
    """Return what the script prints as JSON; `values` are its constants."""
    given = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    text = f"{WORKLET}const {{ Resampler }} = await import({json.dumps(MODULE)});\n{given}{script}"
    command = ["node", "--input-type=module", "-e", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SWEEP = """
const skip = to / 8, n = to / 2;
const gains = frequencies.map((hz) => {
  const sine = (_, i) => Math.sin(2 * Math.PI * hz * i / from);
  const input = Float32Array.from({ length: from }, sine);
  const output = new Resampler(from, to).process(input).subarray(skip, skip + n);
  // The amplitude of the sine, and of everything.
  let re = 0, im = 0, power = 0;
  output.forEach((y, i) => {
    const angle = 2 * Math.PI * hz * (i + skip) / to;
    re += y * Math.cos(angle);
    im += y * Math.sin(angle);
    power += y * y;
  });
  const tone = 2 * Math.hypot(re, im) / n;
  return { tone, phase: Math.atan2(re, im), all: Math.sqrt(2 * power / n) };
});
console.log(JSON.stringify(gains));
"""


def sweep(rate: int, first: float, last: float, steps: int) -> tuple[list[int], Any]:
    """Return frequencies with whole periods in the evaluated half second, and the gains there."""
    frequencies = [2 * round(hz / 2) for hz in np.linspace(first, last, steps)]
    return frequencies, node(SWEEP, **{"from": rate, "to": TO, "frequencies": frequencies})


@pytest.mark.parametrize("rate", RATES)
def test_the_band_of_speech_passes_unchanged(rate: int) -> None:
    top = 0.44 * min(rate, TO)
    for hz, found in zip(*sweep(rate, 60, top, 25), strict=True):
        assert found["tone"] == pytest.approx(1, abs=0.002), hz
        assert found["all"] == pytest.approx(1, abs=0.002), hz
        assert found["phase"] == pytest.approx(0, abs=0.002), f"{hz} Hz is delayed"


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate > TO])
def test_higher_frequencies_cause_no_aliasing(rate: int) -> None:
    """Without a low-pass filter, dropping samples turns 9 kHz into 7 kHz."""
    for hz, found in zip(*sweep(rate, TO / 2, 0.49 * rate, 40), strict=True):
        assert 20 * np.log10(found["all"]) < -78, hz


CUT = """
const input = Float32Array.from({ length: from }, (_, i) => Math.sin(i * i / from));
const whole = new Resampler(from, to);
const expected = [...whole.process(input), ...whole.flush()];
const cut = new Resampler(from, to);
const found = [];
for (let i = 0, step = 1; i < input.length; i += step, step = (step * 7) % 331 + 1) {
  found.push(...cut.process(input.subarray(i, Math.min(input.length, i + step))));
}
found.push(...cut.flush());
const differs = expected.findIndex((value, i) => value !== found[i]);
console.log(JSON.stringify({ lengths: [expected.length, found.length], differs }));
"""


@pytest.mark.parametrize("rate", [*RATES, TO])
def test_the_sizes_of_the_chunks_do_not_matter(rate: int) -> None:
    found = node(CUT, **{"from": rate, "to": TO})
    assert found["lengths"] == [TO, TO], "a second stays a second"
    assert found["differs"] == -1


def test_an_invalid_rate_is_refused() -> None:
    script = """
      const refused = (from, to) => {
        try {
          new Resampler(from, to);
          return false;
        } catch (error) {
          return error instanceof RangeError;
        }
      };
      console.log(JSON.stringify([refused(0, 16000), refused(44100.5, 16000), refused(48000, -1)]));
    """
    assert node(script) == [True, True, True]
