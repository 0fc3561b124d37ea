"""Voice activity of a channel that is not analysed: the VAD, and nothing else. Pure."""

from __future__ import annotations

import numpy as np

from stream.analysis.highpass import HighPass
from stream.analysis.hysteresis import FrameDecider
from stream.analysis.levels import clipped_samples, frame_power
from stream.analysis.talk import TalkDetector
from stream.analysis.vad import VadSettings
from stream.types import FRAME, Samples

BLOCK = 16 * FRAME
"""Samples processed at a time at most, as in an analysed channel."""

_STEPS = np.float32(32_768)
"""Steps of int16 in full scale."""


class ActivityChannel:
    """Audio → high-pass → VAD → talk of a channel that is not analysed; keeps no audio."""

    def __init__(self, vad: VadSettings) -> None:
        self.talk = TalkDetector()
        self._high_pass = HighPass()
        self._decider = FrameDecider.of(vad)
        self._partial = np.zeros(0, np.float32)
        """Samples of an incomplete frame, in steps of int16."""

    @property
    def position(self) -> int:
        """Number of samples received, including an incomplete frame."""
        return self.talk.position + len(self._partial)

    def feed(self, samples: Samples) -> None:
        """Process float32[n]."""
        if not len(samples):
            return
        steps = np.rint(samples * _STEPS)
        if len(self._partial):
            steps = np.concatenate([self._partial, steps])
        end = len(steps) // FRAME * FRAME
        self._partial = steps[end:]
        for start in range(0, end, BLOCK):
            block = steps[start : min(start + BLOCK, end)]
            clipped_samples(block)  # limits them, as in an analysed channel
            block = self._high_pass.push(block)
            np.rint(block, out=block)
            power = frame_power(block)
            self.talk.push(self._decider.decide(block.astype(np.int16), power))

    def skip(self, samples: int) -> None:
        """Advance by `samples` without audio."""
        target = self.position + samples
        pad = -len(self._partial) % FRAME
        if samples < pad + FRAME:
            self.feed(np.zeros(samples, np.float32))
            return
        self.feed(np.zeros(pad, np.float32))
        aligned = target // FRAME * FRAME
        self.talk.jump(aligned)
        self._high_pass.reset()
        self._decider.reset()
        self._partial = np.zeros(target - aligned, np.float32)
