"""CPU of a microphone in Chromium: what emotide.js adds to an open microphone.

Three pages, each in a Chromium of its own, in turns: one that does nothing; one with an open
microphone that only runs through Web Audio, which any capture in a page needs; one that captures,
resamples and sends with emotide.js to a server without a model. The device is Chromium's fake one,
whose generator is a part of the cost of an open microphone. CPU is that of all processes of
Chromium, in percent of a core.
"""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.page import Chromium
from bench.process import Server
from bench.report import arguments, as_json, machine, print_text
from bench.tables import table

FLAGS = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",  # a script starts the audio, not a click
)
START_S, SETTLE_S = 30.0, 4.0
NOTHING, OPEN, CLIENT = "a page", "an open microphone", "emotide.js"
SCRIPTS = {
    NOTHING: "window.state = 'on'",
    OPEN: """(async () => {
      const audio = { channelCount: 1, autoGainControl: false, noiseSuppression: false,
                      echoCancellation: false };
      const media = await navigator.mediaDevices.getUserMedia({ audio });
      window.context = new AudioContext();
      window.source = context.createMediaStreamSource(media);
      source.connect(context.createAnalyser());
      await context.resume();
      window.state = 'on';
    })()""",
    CLIENT: """(async () => {
      const { Emotide } = await import('/client.js');
      window.microphone = await new Emotide().microphone();
      microphone.on('*', () => {});
      microphone.on('audio.ack', () => (window.state = 'on'));
    })()""",
}
EXAMPLES = """\
  python -m bench.capture                       two rounds of 15 s
  python -m bench.capture --quick               one round of 10 s"""


async def measure(address: str, script: str, seconds: float) -> float:
    """Return the CPU of a Chromium with a page that runs a script, in percent of a core."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        chromium = Chromium(Path(profile), address, *FLAGS)
        try:
            await _until_on(chromium, script)
            await asyncio.sleep(SETTLE_S)
            before, _ = chromium.cpu_s()
            await asyncio.sleep(seconds)
            after, _ = chromium.cpu_s()
            return 100 * (after - before) / seconds
        finally:
            chromium.close()


async def _until_on(chromium: Chromium, script: str) -> None:
    loaded = "location.protocol === 'http:' && document.readyState === 'complete'"
    await _until(chromium, loaded)
    await chromium.call(f"Runtime.evaluate {script}")
    await _until(chromium, "window.state === 'on'")


async def _until(chromium: Chromium, condition: str) -> None:
    for _ in range(int(START_S / 0.1)):
        await asyncio.sleep(0.1)
        try:
            [result] = await chromium.call(f"Runtime.evaluate {condition}")
        except (OSError, StopIteration, RuntimeError):
            continue  # It has not opened its port or its page yet.
        if result["result"].get("value"):
            return
    raise SystemExit(f"not true within {START_S:.0f} s: {condition}")


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", EXAMPLES).parse_args()
    rounds, seconds = (1, 10.0) if options.quick else (2, 15.0)
    found: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    with Server("bench.stand_ins:null_backend") as server:
        for _ in range(rounds):
            for name, script in SCRIPTS.items():
                # A document of the server without a script of its own.
                found[name].append(asyncio.run(measure(f"{server.http}/healthz", script, seconds)))
    means = {name: statistics.mean(values) for name, values in found.items()}
    rows = [
        [name, *values, means[name], means[name] - means[OPEN]] for name, values in found.items()
    ]
    heads = ["page", *(f"round {n + 1}" for n in range(rounds)), "mean %", "above an open one"]
    print_text(options, machine(), "CPU of Chromium in percent of a core:", table(heads, rows))
    if options.json:
        print(as_json(found))


if __name__ == "__main__":
    main()
