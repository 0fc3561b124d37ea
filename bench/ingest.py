"""CPU milliseconds per second of one channel's audio, without a model.

Three measurements, each with more of the server than the one before:
  pipeline  codec, resampling, VAD, windows and quality, called in this process
  session   a session with limits, scheduler, rolling scores and encoded events, in this process
  socket    a server process with streams in real time; CPU of the whole process

A substitute model returns zeros at once. Figures are CPU time, not wall time. With --dialect the
server process gets calls in a dialect and in the native protocol by turns instead.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.dialects import CALLERS, compare
from bench.report import arguments, as_json, machine, print_text
from bench.speech import Wire, frames, recordings
from bench.stand_ins import NullBackend, null_backend
from bench.streams import measure
from bench.tables import table
from stream.admission import admit, analysis_settings
from stream.analysis.pipeline import SLICE_S, StreamPipeline
from stream.analysis.vad import DETECTORS, VoiceDetector
from stream.audio.codecs import PcmDecoder
from stream.audio.resample import Resampler
from stream.config import Config
from stream.delivery.hub import Hub
from stream.inference.engine import ThreadEngine
from stream.inference.scheduler import Scheduler
from stream.protocol.events import EventEncoder
from stream.protocol.messages import Audio, SessionConfig
from stream.services import Services
from stream.sessions.ahead import Ahead
from stream.sessions.pump import Pump
from stream.sessions.session import DETACHED, Session
from stream.telemetry.audit import AuditLog
from stream.telemetry.metrics import Metrics
from stream.types import FRAME, AudioFormat, Samples, Window

WIRES = (
    Wire("linear16", 16_000, 100),
    Wire("linear16", 16_000, 20),
    Wire("mulaw", 8_000, 100),
    Wire("mulaw", 8_000, 20),
)
TARGETS = {WIRES[0]: 1.5, WIRES[3]: 3.5}
"""Target of the pipeline, in CPU milliseconds per second of audio."""

Frame = NDArray[np.int16]

STAGES = ("codec", "resample", "VAD", "windows+quality", "rest")

EXAMPLES = """\
  python -m bench.ingest                 all three measurements, about two minutes
  python -m bench.ingest --quick         half a minute
  python -m bench.ingest --streams 100   more streams at the socket
  python -m bench.ingest --dialect all   telephony dialects against the native protocol, 6 minutes
  python -m bench.ingest --dialect twilio
  python -m bench.ingest --json          figures as JSON"""


class PipelineStages:
    """Stages of one channel, each called alone with the input that it has in the pipeline."""

    def __init__(self, wire: Wire, chunks: Sequence[bytes]) -> None:
        self._format = AudioFormat(wire.encoding, wire.sample_rate)
        self._chunks = chunks
        self._settings = analysis_settings(Config(), NullBackend.info)
        step = max(1, int(wire.sample_rate * SLICE_S))
        self._slices = [
            samples[i : i + step] for samples in self.codec() for i in range(0, len(samples), step)
        ]
        self._audio = self.resample()
        self._frames: list[Frame] = []
        self._probabilities: list[float] = []
        self._detector = DETECTORS[self._settings.vad.detector]
        DETECTORS["recording"] = lambda mode: RecordingDetector(
            self._detector(mode), self._frames, self._probabilities
        )
        DETECTORS["replaying"] = lambda mode: ReplayingDetector(self._probabilities)
        self.run("recording")

    def codec(self) -> list[Samples]:
        decoder = PcmDecoder(self._format)
        return [decoder.decode(chunk)[0] for chunk in self._chunks]

    def resample(self) -> list[Samples]:
        resampler = Resampler(self._format.sample_rate)
        return [resampler.push(piece) for piece in self._slices]

    def vad(self) -> None:
        detector = self._detector(self._settings.vad.mode)
        for frame in self._frames:
            detector.probability(frame)

    def windows(self) -> None:
        """Run speech, quality and windows with recorded results of the detector."""
        channel = self._pipeline("replaying").channels[0]
        for samples in self._audio:
            for item in channel.feed(samples):
                if isinstance(item, Window):
                    channel.taken(item)

    def run(self, detector: str | None = None) -> int:
        """Run the complete pipeline; return the number of windows."""
        pipeline = self._pipeline(detector or self._settings.vad.detector)
        windows = 0
        for chunk in self._chunks:
            for item in pipeline.feed(chunk):
                if isinstance(item, Window):
                    pipeline.taken(item)
                    windows += 1
        return windows

    def _pipeline(self, detector: str) -> StreamPipeline:
        vad = replace(self._settings.vad, detector=detector)
        settings = replace(self._settings, vad=vad)
        return StreamPipeline(self._format, (0,), NullBackend.info, settings)


class RecordingDetector:
    """Detector that records its frames and its probabilities."""

    def __init__(
        self, real: VoiceDetector, frames: list[Frame], probabilities: list[float]
    ) -> None:
        self.frame = real.frame
        self._real = real
        self._frames = frames
        self._probabilities = probabilities

    def probability(self, samples: Frame) -> float:
        self._frames.append(samples.copy())
        self._probabilities.append(self._real.probability(samples))
        return self._probabilities[-1]


class ReplayingDetector:
    """Detector without cost, which returns recorded probabilities."""

    frame = FRAME

    def __init__(self, probabilities: list[float]) -> None:
        self._next = iter(probabilities).__next__

    def probability(self, samples: Frame) -> float:
        return self._next()


def pipeline(wire: Wire, chunks: Sequence[bytes], rounds: int) -> dict[str, float]:
    """Return CPU ms per second of audio by stage, and the number of windows per second.

    The fastest round of each stage counts, because other load on the machine only adds time. The
    stages are interleaved, so that such load affects all of them.
    """
    stages = PipelineStages(wire, chunks)
    seconds = len(chunks) * wire.chunk_s
    work: dict[str, Callable[[], object]] = {
        "codec": stages.codec,
        "resample": stages.resample,
        "VAD": stages.vad,
        "windows+quality": stages.windows,
        "total": stages.run,
    }
    costs = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for stage, step in work.items():
            before = time.process_time()
            step()
            cpu_ms = (time.process_time() - before) * 1000 / seconds
            costs[stage] = min(costs[stage], cpu_ms)
    costs["rest"] = 2 * costs["total"] - sum(costs.values())
    costs["windows_per_s"] = stages.run() / seconds
    return costs


async def session(wire: Wire, chunks: Sequence[bytes], rounds: int) -> float:
    """Return CPU ms per second of audio of a `Session`, with the calls to the inference thread."""
    # Sent faster than real time, to count only work; the throttle is off.
    config = Config.model_validate({"limits": {"ahead_s": 1e9}, "model": {"max_wait_ms": 0}})
    metrics = Metrics("bench")
    scheduler = Scheduler(
        ThreadEngine(null_backend, 32),
        0.0,
        10.0,
        lambda report: metrics.batch(report.size, report.queued_s, report.inference_s),
    )
    model = await scheduler.start(NullBackend.info.lengths)
    services = Services(config, model, scheduler, Hub(), metrics, AuditLog(None))
    cpu_s = []
    pump, ahead = Pump(), Ahead(0, 0.0)
    for number in range(rounds):
        audio = Audio(encoding=wire.encoding, sample_rate=wire.sample_rate)
        request = SessionConfig(audio=audio)
        grant, name = admit(config, request, model), f"ses_{number}"
        live = Session(
            services, request, grant, EventEncoder(name, name), "bench", DETACHED, pump, ahead
        )
        live.announce("session.created")
        before = time.process_time()
        for chunk in chunks:
            live.audio(chunk)
            # As between two messages of a socket.
            await asyncio.sleep(0)
        await live.finish("completed", 5.0)
        cpu_s.append(time.process_time() - before)
    await scheduler.stop(1.0)
    return min(cpu_s) * 1000 / (len(chunks) * wire.chunk_s)


async def dialects(options: argparse.Namespace) -> None:
    """Print the cost of dialects as ratios to the native protocol."""
    names = list(CALLERS) if options.dialect == "all" else [options.dialect]
    seconds, rounds = (4.0, 1) if options.quick else (8.0, 3)
    print_text(options, machine(), f"{options.streams} calls in real time, {seconds:g} s", "")
    rows = await compare(names, options.streams, seconds, rounds)
    if options.json:
        print(as_json(rows))
        return
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


async def main(options: argparse.Namespace) -> None:
    rounds = 3 if options.quick else 7
    seconds = 8 if options.quick else 20
    figures: dict[str, dict[str, Any]] = {}
    print_text(options, machine(), "")
    for wire in WIRES:
        speech = recordings(wire.sample_rate)
        chunks = wire.chunks(speech[0])
        figures[str(wire)] = {
            "pipeline": pipeline(wire, chunks, rounds),
            "target": TARGETS.get(wire),
            "session": await session(wire, chunks, rounds),
            "socket": asdict(
                await measure(
                    wire, [frames(wire.chunks(pcm)) for pcm in speech], options.streams, seconds
                )
            ),
        }
    if options.json:
        print(as_json(figures))
        return
    print("CPU milliseconds per second of audio and channel, in the pipeline:\n")
    rows: list[list[object]] = []
    for name, figure in figures.items():
        costs = figure["pipeline"]
        row = [name, *(costs[stage] for stage in STAGES), costs["total"]]
        rows.append([*row, figure["target"] or "", round(1000 / costs["total"])])
    print(table(["audio", *STAGES, "total", "target", "channels/core"], rows))
    print("\nThe same, compared with a session and with a server process:\n")
    rows = []
    for name, figure in figures.items():
        server = figure["socket"]
        rows.append(
            [
                name,
                figure["pipeline"]["total"],
                figure["session"],
                server["ms_per_s"],
                round(1000 / server["ms_per_s"]),
                server["server_cores"],
                server["generator_cores"],
                server["others_cores"],
                server["dropped_ms"],
            ]
        )
    head = ["audio", "pipeline", "session", "socket", "streams/core"]
    head += ["server cores", "generator cores", "others' cores", "dropped ms"]
    print(table(head, rows))
    print(f"\nsocket: {options.streams} streams in real time for {seconds} s")


if __name__ == "__main__":
    parser = arguments(__doc__ or "", EXAMPLES)
    parser.add_argument("--streams", type=int, default=50, help="at the socket (default: 50)")
    parser.add_argument("--dialect", choices=("all", *CALLERS), help="measure a dialect instead")
    options = parser.parse_args()
    asyncio.run(dialects(options) if options.dialect else main(options))
