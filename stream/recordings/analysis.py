"""Analysis of one recording: decode the file, score it like a live stream, write the result."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from stream.admission import Admission, admit_recording
from stream.analysis.pipeline import StreamPipeline
from stream.audio.files.decode_process import (
    Decoder,
    DecoderMessage,
    Finished,
    ProbeProgress,
    ProbeResult,
)
from stream.audio.files.decode_worker import Job
from stream.audio.files.undecodable import Undecodable
from stream.feedback.recording import write_utterances
from stream.inference.scoring import StreamScorer
from stream.protocol.errors import ProtocolError
from stream.protocol.events import AnalysisEvents
from stream.protocol.file_options import FileOptions
from stream.protocol.wire import recordings as wire
from stream.protocol.wire.analysis import AnalysisBody
from stream.protocol.wire.parts import Values
from stream.protocol.wire.recordings import Stage
from stream.protocol.wire.result import Result
from stream.recordings.disk import DiskExecutor
from stream.recordings.faults import faults
from stream.recordings.log import LogEntry, opening, truncated
from stream.recordings.result import ChannelResult, FileInfo, ResultBuilder
from stream.recordings.trial import RecordingTrial, rules_to_try
from stream.recordings.writer import ResultWriter
from stream.services import Services
from stream.tenants import DEFAULT
from stream.types import SAMPLE_RATE, AudioFormat, Event, Features, Samples, Score

ADAPTER = "file"


@dataclass(slots=True)
class Progress:
    """Progress of a recording: its stage, the share of it that is done, the audio analysed.

    `since` is the start of the stage (monotonic seconds).
    """

    stage: Stage = "upload"
    share: float = 0.0
    audio_ms: int = 0
    since: float = 0.0

    def enter(self, stage: Stage) -> None:
        """Start a stage."""
        self.stage, self.share, self.since = stage, 0.0, time.monotonic()

    def body(self) -> wire.Progress:
        """Return the fields of `file.progress`."""
        body: wire.Progress = {"stage": self.stage, "share": round(self.share, 3)}
        if self.stage in ("analysis", "write"):
            body["audio_ms"] = self.audio_ms
        passed = time.monotonic() - self.since
        if self.share > 0.02 and passed > 0.5:
            body["eta_s"] = round(passed * (1 - self.share) / self.share, 1)
        return body


class Observer(Protocol):
    """Receives what happens while a recording is analysed."""

    def log(self, entry: LogEntry) -> None:
        """Handle an entry of the log that users see."""
        ...

    def event(self, body: AnalysisBody) -> None:
        """Handle an event, as a live stream would emit it."""
        ...

    def stage(self) -> None:
        """Handle the start of a stage."""
        ...

    async def throttle(self) -> None:
        """Wait, after each piece of audio, as long as the analysis must not go on."""
        ...


class RecordingAnalysis:
    """Analysis of one file; `run` once.

    The pipeline, its settings and the model are those of live streams, so the scores are the same.
    """

    def __init__(
        self,
        services: Services,
        disk: DiskExecutor,
        options: FileOptions,
        observer: Observer,
        progress: Progress,
        tenant: str = DEFAULT,
    ) -> None:
        self._tenant = tenant
        self._config = services.config
        self._options = options
        self._model = model = services.model
        self._scheduler = services.scheduler
        self._metrics = services.metrics
        self._disk = disk
        self._observer = observer
        self._progress = progress
        self._result = ResultBuilder(options, model)
        self._frames: list[Score] = []
        self._bodies: AnalysisEvents | None = None
        self._rules = rules_to_try(services.config, options, tenant)
        self._trial: RecordingTrial | None = None

    async def run(self, path: Path, name: str, folder: Path) -> tuple[Result, list[str]]:
        """Write the result into `folder`; return it without its frames, and the names of its files.

        Raises `ProtocolError` (never fatal) for faults of the file or its options, and `OSError`
        for faults of the disk.
        """
        started, created = time.monotonic(), time.time()
        digest, size = await self._disk.run(_sha256, path)
        self._enter("decode")
        files = self._config.files
        max_s = files.max_minutes * 60
        options = self._options
        job = Job(max_s, options.denoise, int(60 + max_s / 10), options.track)
        decoder = Decoder(path, job, files.decode_timeout_s)
        output: ResultWriter | None = None
        scoring: StreamScorer | None = None
        try:
            await decoder.start()
            messages = decoder.messages()
            probe = await self._receive_probe(messages)
            decoded_s = time.monotonic() - started
            grant = admit_recording(self._config, self._options, self._model, probe.channels)
            for entry in opening(probe, grant, self._options):
                self._observer.log(entry)
            pipeline = self._pipeline(probe, grant)
            if self._rules:
                self._trial = RecordingTrial(self._rules, grant, pipeline, self._model)
            scoring = StreamScorer(
                pipeline,
                self._scheduler,
                self._metrics,
                ADAPTER,
                self._on_event,
                self._tenant,
            )
            dim = self._model.dim if self._options.embedding and self._by_frame else 0
            output = await self._disk.acquire(
                partial(ResultWriter, folder, probe.channels, self._model.labels, dim),
                ResultWriter.close,
            )
            self._enter("analysis")
            length = probe.info.duration_s or 0.0
            damaged = False
            async for message in messages:
                if isinstance(message, Finished):
                    damaged = message.damaged
                elif isinstance(message, np.ndarray):
                    await self._feed(message, pipeline, scoring, output)
                    position = pipeline.position / SAMPLE_RATE
                    self._progress.audio_ms = round(position * 1000)
                    self._progress.share = min(1.0, position / length) if length else 0.0
            await scoring.exhaust(pipeline.finish())
            await self._settle(scoring)
            scoring.fail_pending()
            await self._write_frames(output)
            if damaged:
                self._observer.log(truncated())
            self._enter("write")
            duration = pipeline.position / SAMPLE_RATE
            total_s = time.monotonic() - started
            channels = [
                ChannelResult(
                    number,
                    grant.roles[number],
                    channel.speech,
                    channel.scores.summary(),
                    channel.scores.reconsidered if grant.settings.baseline is not None else None,
                )
                for number, channel in pipeline.channels.items()
            ]
            result = self._result.build(
                FileInfo(name, size, digest),
                probe.info,
                channels,
                duration_s=duration,
                created=created,
                faults=faults(probe, grant, channels, damaged=damaged),
                gain_db=probe.findings.gain_db,
                trials=None if self._trial is None else self._trial.finish(),
                timings={
                    "decode_s": decoded_s,
                    "analysis_s": total_s - decoded_s,
                    "total_s": total_s,
                    "speed": duration / total_s,
                },
            )
            embedding = _mean(
                [channel.scores.embedding() for channel in pipeline.channels.values()]
            )
            with_embeddings = self._options.embedding
            names = await self._disk.run(
                output.finish,
                result,
                self._by_frame,
                embedding if with_embeddings else None,
                self._result.embeddings() if with_embeddings else None,
            )
            if self._config.feedback.enabled:
                utterances = self._result.segments()
                await self._disk.run(write_utterances, folder, self._model.features, utterances)
        except Undecodable as error:
            # `Undecodable` lies below the protocol, so its values have no type.
            values = cast(Values, error.values)
            param = "options.track" if error.code == "unknown_track" else None
            raise ProtocolError(
                error.code, str(error), param=param, fatal=False, values=values
            ) from None
        finally:
            if scoring is not None:
                scoring.withdraw()
                scoring.forget()
            await decoder.stop()
            if output is not None:
                with suppress(OSError):
                    await self._disk.release(output.close)
        return result, names

    @property
    def _by_frame(self) -> bool:
        return self._options.granularity == "frame"

    def _enter(self, stage: Stage) -> None:
        self._progress.enter(stage)
        self._observer.stage()

    async def _receive_probe(self, messages: AsyncIterator[DecoderMessage]) -> ProbeResult:
        async for message in messages:
            if isinstance(message, ProbeResult):
                return message
            if isinstance(message, ProbeProgress):
                self._progress.share = message.share
        raise Undecodable("broken_file", "the decoder ended without a message")

    def _pipeline(self, probe: ProbeResult, grant: Admission) -> StreamPipeline:
        audio = AudioFormat("linear16", SAMPLE_RATE, probe.channels)
        self._bodies = AnalysisEvents(grant.roles, self._model)
        return StreamPipeline(
            audio,
            grant.analysed,
            self._model,
            grant.settings,
            probe.info.sample_rate,
            probe.identical_channels,
            grant.observed if self._rules and not probe.identical_channels else (),
        )

    async def _feed(
        self, pcm: Samples, pipeline: StreamPipeline, scoring: StreamScorer, output: ResultWriter
    ) -> None:
        data = pcm.tobytes()
        await self._disk.run(output.write_audio, data)
        if self._trial is None:
            await scoring.exhaust(pipeline.feed(data))
        else:
            for piece in self._trial.pieces(data):
                await scoring.exhaust(pipeline.feed(piece))
                await self._settle(scoring)
                self._trial.advanced()
        await self._write_frames(output)
        await self._observer.throttle()

    async def _settle(self, scoring: StreamScorer) -> None:
        await scoring.settle(time.monotonic() + self._config.model.exit_after_hang_s)

    async def _write_frames(self, output: ResultWriter) -> None:
        while self._frames:
            score = self._frames.pop(0)
            if score.frames is not None:
                await self._disk.run(output.write_frames, score.channel, score.frames)

    def _on_event(self, event: Event, waited_s: float | None) -> None:
        self._result.add(event)
        if self._trial is not None:
            self._trial.handle(event)
        if isinstance(event, Score):
            self._frames.append(event)
            frames = event.frames if self._by_frame else None
            if frames is not None:
                frames = replace(frames, features=None)
            event = replace(event, frames=frames)
        if self._bodies is not None:
            body = self._bodies.body(event, round((waited_s or 0.0) * 1000))
            if body["type"] == "emotion.segment":
                body.pop("embedding", None)
            self._observer.event(body)


def _sha256(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def _mean(parts: list[tuple[Features, int]]) -> Features | None:
    """Return the mean over the frames of all channels, float32[dim]; None without frames.

    `parts` has the mean and the number of frames of each channel.
    """
    count = sum(n for _, n in parts)
    if not count:
        return None
    mean_of_all = np.sum([mean.astype(np.float64) * n for mean, n in parts], axis=0) / count
    return np.asarray(mean_of_all, np.float32)
