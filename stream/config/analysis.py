"""Sections `model`, `vad`, `windows`, `rolling` and `baseline`: the analysis of speech."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stream.config.section import FRAME_MS, Grid, Positive, Section


class ModelConfig(Section):
    name: str = "auto"
    """auto, embedded, emotion2vec_plus_seed|base|large, a model directory, or "module:attr"."""
    recordings: str = "auto"
    """Model of recordings: "live" is that of live streams; "auto" is emotion2vec_plus_base if it is
    on this machine and live streams use the embedded model, otherwise "live"; or as `name`."""
    min_streams: Annotated[int, Field(ge=1)] = 25
    """Live streams that emotion2vec_plus_base in int8 must carry on a CPU for auto to select it."""
    device: str = "auto"
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    runtime: Literal["auto", "torch", "onnx"] = "auto"
    """Runtime of emotion2vec; auto uses an exported ONNX graph on a CPU, if there is one."""
    precision: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    """bfloat16 and float16 are for a GPU, int8 for a CPU and `export --int8`; they change the
    scores slightly: docs/engine.md."""
    offline: bool = False
    """Never use the network to find a model."""
    max_batch: Annotated[int, Field(ge=1, le=256)] = 32
    max_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 5.0
    """Time that a batch that is not full waits for more windows."""
    hang_timeout_s: Positive = 10.0
    """A batch that runs longer counts as failed; the server is not ready until it returns."""
    exit_after_hang_s: Positive = 60.0
    """A batch that runs longer ends the process, so that a supervisor restarts it."""


class VadConfig(Section):
    detector: str = "webrtcvad"
    mode: Annotated[int, Field(ge=0, le=3)] = 2
    start_voiced: Annotated[int, Field(ge=1, le=50)] = 5
    """Number of voiced frames among the last `start_of` that start an utterance."""
    start_of: Annotated[int, Field(ge=1, le=50)] = 8
    """Number of last frames, 20 ms each, among which voiced ones are counted."""
    pre_roll_ms: Annotated[int, Field(ge=0, le=1000, multiple_of=FRAME_MS)] = 300
    hangover_ms: Annotated[int, Field(ge=FRAME_MS, le=5000, multiple_of=FRAME_MS)] = 600
    max_utterance_ms: Annotated[int, Field(ge=3000, le=120_000, multiple_of=FRAME_MS)] = 30_000
    min_dbfs: Annotated[float, Field(ge=-96, le=0)] = -60.0
    """Frames below this level are never voiced."""
    only_speech: bool = True
    """Do not score tones and steady noise; add hints for music, noise and cries."""

    @model_validator(mode="after")
    def _start_is_reachable(self) -> VadConfig:
        if self.start_voiced > self.start_of:
            raise ValueError("start_voiced must not be larger than start_of")
        return self


class WindowConfig(Section):
    lengths_ms: tuple[Grid, ...] | None = None
    """Window lengths; unset: those that the model prefers, which last 3 s at most."""
    hop_ms: Annotated[int, Field(ge=240, le=10_000, multiple_of=FRAME_MS)] = 1000

    @model_validator(mode="after")
    def _lengths_ascend(self) -> WindowConfig:
        lengths = (3000,) if self.lengths_ms is None else self.lengths_ms
        ascending = sorted(set(lengths))
        if not ascending or list(lengths) != ascending or ascending[-1] > 10_000:
            raise ValueError("lengths_ms must ascend and end at 10000 or less, like [1000, 3000]")
        if self.hop_ms > ascending[-1]:
            raise ValueError("hop_ms must not be longer than the longest window")
        return self


class RollingConfig(Section):
    horizons_s: tuple[Annotated[int, Field(ge=1, le=600)], ...] = (10, 30)


class BaselineConfig(Section):
    enabled: bool | Literal["auto"] = "auto"
    """Move scores towards what is unusual for the voice, unless a session asks otherwise; auto: if
    the model states the logits of an average voice."""
    prior_s: Positive = 20.0
    """Seconds of speech after which the weight of the baseline is one half."""
    max_weight: Annotated[float, Field(gt=0, le=1)] = 0.7
    memory_s: Annotated[float, Field(ge=30)] = 300.0
    """Seconds of speech after which the baseline has followed a lasting change by two thirds."""
