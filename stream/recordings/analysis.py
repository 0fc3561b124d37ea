"""One recording from its bytes on disk to its result: decode, analyse as if live, write."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stream.admission import Admission, admit_recording
from stream.analysis.pipeline import StreamPipeline
from stream.audio.decode import Undecodable
from stream.audio.decode_process import Decoder, Finished, Found, Looking
from stream.audio.decode_worker import Job
from stream.config import Config
from stream.inference.scheduler import Scheduler
from stream.inference.scoring import StreamScorer
from stream.protocol.errors import ProtocolError
from stream.protocol.events import EventEncoder
from stream.protocol.messages import FileOptions
from stream.recordings.disk import DiskExecutor
from stream.recordings.log import LogEntry, opening, truncated
from stream.recordings.result import ChannelResult, FileInfo, Findings, document
from stream.recordings.writer import ResultWriter
from stream.telemetry.metrics import Metrics
from stream.types import SAMPLE_RATE, AudioFormat, Body, Event, Features, ModelInfo, Samples, Score

ADAPTER = "file"

Stage = Literal["upload", "decode", "analysis", "write"]


@dataclass(slots=True)
class Progress:
    """How far a recording is. `share` of its stage, `audio_ms` analysed so far."""

    stage: Stage = "upload"
    share: float = 0.0
    audio_ms: int = 0
    since: float = 0.0

    def enter(self, stage: Stage) -> None:
        self.stage, self.share, self.since = stage, 0.0, time.monotonic()

    def body(self) -> Body:
        body: Body = {"stage": self.stage, "share": round(self.share, 3)}
        if self.stage in ("analysis", "write"):
            body["audio_ms"] = self.audio_ms
        passed = time.monotonic() - self.since
        if self.share > 0.02 and passed > 0.5:
            body["eta_s"] = round(passed * (1 - self.share) / self.share, 1)
        return body


@dataclass(frozen=True, slots=True)
class Observers:
    """Who hears of a recording while it is analysed: what was done, events, changes of stage.

    `breath` is awaited now and then, so that a slow listener slows the analysis and not more.
    """

    note: Callable[[LogEntry], None]
    event: Callable[[Body], None]
    stage: Callable[[], None]
    throttle: Callable[[], Any]


class RecordingAnalysis:
    """The analysis of one file; `run` once. `folder` takes the files of the result.

    The pipeline, its settings and its model are those of live streams, and so are its results.
    """

    def __init__(
        self,
        config: Config,
        options: FileOptions,
        model: ModelInfo,
        scheduler: Scheduler,
        metrics: Metrics,
        disk: DiskExecutor,
        observers: Observers,
        progress: Progress,
    ) -> None:
        self._config = config
        self._options = options
        self._model = model
        self._scheduler = scheduler
        self._metrics = metrics
        self._disk = disk
        self._tell = observers
        self._progress = progress
        self._findings = Findings()
        self._frames: list[Score] = []
        self._encoder: EventEncoder | None = None

    async def run(self, path: Path, name: str, folder: Path) -> tuple[Body, list[str]]:
        """The result without its frames, and the names of the files.

        Raises `ProtocolError` (never fatal) for what is wrong with the file or its options, and
        `OSError` for what is wrong with the disk.
        """
        began, created = time.monotonic(), time.time()
        digest, size = await self._disk.run(_sha256, path)
        self._enter("decode")
        files = self._config.files
        max_s = files.max_minutes * 60
        job = Job(max_s, self._options.denoise, int(60 + max_s / 10))
        decoder = Decoder(path, job, files.decode_timeout_s)
        output: ResultWriter | None = None
        scoring: StreamScorer | None = None
        try:
            await decoder.start()
            told = decoder.told()
            found = await self._found(told)
            decoded_s = time.monotonic() - began
            admitted = admit_recording(self._config, self._options, self._model, found.channels)
            for note in opening(found, admitted, self._options):
                self._tell.note(note)
            pipeline = self._pipeline(found, admitted)
            scoring = StreamScorer(pipeline, self._scheduler, self._metrics, ADAPTER, self._heard)
            dim = self._model.dim if self._options.embedding and self._by_frame else 0
            output = await self._disk.run(
                ResultWriter, folder, found.channels, self._model.labels, dim
            )
            self._enter("analysis")
            length = found.about.duration_s
            damaged = False
            async for piece in told:
                if isinstance(piece, Finished):
                    damaged = piece.damaged
                elif isinstance(piece, np.ndarray):
                    await self._feed(piece, pipeline, scoring, output)
                    position = pipeline.position / SAMPLE_RATE
                    self._progress.audio_ms = round(position * 1000)
                    if length is not None:
                        self._progress.share = min(1.0, position / length)
            await scoring.exhaust(pipeline.finish())
            await scoring.settle(time.monotonic() + self._config.model.exit_after_hang_s)
            scoring.give_up()
            await self._write_frames(output)
            if damaged:
                self._tell.note(truncated())
            self._enter("write")
            duration = pipeline.position / SAMPLE_RATE
            analysed = time.monotonic()
            channels = [
                ChannelResult(number, admitted.roles[number], channel.speech, channel.summary())
                for number, channel in pipeline.channels.items()
            ]
            took = analysed - began
            result = document(
                FileInfo(name, size, digest),
                found.about,
                duration,
                created,
                self._options,
                self._model,
                channels,
                self._findings,
                damaged,
                {
                    "decode_s": decoded_s,
                    "analysis_s": took - decoded_s,
                    "total_s": took,
                    "speed": duration / took,
                },
            )
            whole = _mean([channel.embedding() for channel in pipeline.channels.values()])
            wanted = self._options.embedding
            names = await self._disk.run(
                output.finish,
                result,
                self._by_frame,
                whole if wanted else None,
                self._findings.embeddings() if wanted else None,
            )
        except Undecodable as error:
            raise ProtocolError(error.code, str(error), fatal=False, values=error.values) from None
        finally:
            if scoring is not None:
                scoring.withdraw()
                scoring.forget()
            await decoder.stop()
            if output is not None:
                with suppress(OSError):
                    await self._disk.run(output.close)
        return result, names

    @property
    def _by_frame(self) -> bool:
        return self._options.granularity == "frame"

    def _enter(self, stage: Stage) -> None:
        self._progress.enter(stage)
        self._tell.stage()

    async def _found(self, told: Any) -> Found:
        async for item in told:
            if isinstance(item, Found):
                return item
            if isinstance(item, Looking):
                self._progress.share = item.share
        raise Undecodable("broken_file", "the decoder said nothing")

    def _pipeline(self, found: Found, admitted: Admission) -> StreamPipeline:
        audio = AudioFormat("linear16", SAMPLE_RATE, found.channels)
        self._encoder = EventEncoder(admitted.roles, self._model)
        return StreamPipeline(
            audio, admitted.analysed, self._model, admitted.settings, found.about.rate
        )

    async def _feed(
        self, pcm: Samples, pipeline: StreamPipeline, scoring: StreamScorer, output: ResultWriter
    ) -> None:
        data = pcm.tobytes()
        await self._disk.run(output.audio, data)
        await scoring.exhaust(pipeline.feed(data))
        await self._write_frames(output)
        await self._tell.throttle()

    async def _write_frames(self, output: ResultWriter) -> None:
        while self._frames:
            score = self._frames.pop(0)
            if score.frames is not None:
                await self._disk.run(output.frames, score.channel, score.frames)

    def _heard(self, event: Event, waited_s: float | None) -> None:
        self._findings.take(event)
        if isinstance(event, Score):
            self._frames.append(event)
            shown = event.frames if self._by_frame else None
            if shown is not None:
                shown = replace(shown, features=None)
            event = replace(event, frames=shown)
        if self._encoder is not None:
            body = self._encoder.body(event, None if waited_s is None else round(waited_s * 1000))
            body.pop("embedding", None)
            self._tell.event(body)


def _sha256(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def _mean(parts: list[tuple[Features, int]]) -> Features | None:
    """The mean over all channels' frames; None when there are none."""
    count = sum(n for _, n in parts)
    if not count:
        return None
    whole = np.sum([mean.astype(np.float64) * n for mean, n in parts], axis=0) / count
    return np.asarray(whole, np.float32)
