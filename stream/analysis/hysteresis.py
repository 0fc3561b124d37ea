"""Decision on every 20 ms frame, voiced or not, from the probabilities of a detector. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.analysis.steady import SteadyLevel
from stream.analysis.vad import DETECTORS, VadSettings, VoiceDetector
from stream.types import FRAME

THRESHOLDS = (0.3, 0.4, 0.5, 0.7)
"""Probability from which a frame is voiced, by `mode`; 0.5 is the default of Silero's authors."""
RELEASE = 0.15
"""A frame stays voiced until the probability is lower than the threshold by more than this.

The margin is that of Silero's authors. docs/performance.md compares it with none.
"""


class FrameDecider:
    """Decisions of one channel: level, detector and hysteresis.

    A frame is voiced from the probability `start` on, and stays voiced down to `stay`. Its mean
    square must be `min_power` or more, with full scale = 1, and exceed that of a `steady` sound.
    """

    def __init__(
        self,
        detector: VoiceDetector,
        start: float,
        stay: float,
        min_power: float,
        steady: SteadyLevel | None = None,
    ) -> None:
        self._detector = detector
        self._start = start
        self._stay = stay
        self._min_power = min_power
        self._steady = steady
        self.reset()

    @classmethod
    def of(cls, settings: VadSettings) -> FrameDecider:
        """Return the decider that `settings` describe. Raises `DetectorRefused`."""
        detector = DETECTORS[settings.detector](settings.mode)
        # webrtcvad has modes of its own and yields 0 or 1, on which no threshold has an effect.
        start = THRESHOLDS[settings.mode]
        steady = SteadyLevel() if settings.only_speech else None
        return cls(detector, start, start - RELEASE, 10 ** (settings.min_dbfs / 10), steady)

    def reset(self) -> None:
        """Forget the newest audio, because a hole follows it. The detector keeps its state."""
        self._voiced = False
        if self._steady is not None:
            self._steady.reset()
        detector = self._detector
        framed = detector if detector.frame == FRAME else Rechunked(detector)
        self._probability = framed.probability

    def decide(self, pcm: NDArray[np.int16], power: Sequence[float]) -> list[bool]:
        """Return for each frame of int16[n * FRAME] whether it is voiced.

        `power` has the mean square of each frame with full scale = 1. A frame below the minimum
        level is not voiced, and the detector does not receive it. It does receive a frame of steady
        sound, because it learns the background from it.
        """
        decisions = []
        voiced, at = self._voiced, 0
        steady = self._steady
        ceilings = [0.0] * len(power) if steady is None else steady.ceilings(power)
        for level, ceiling in zip(power, ceilings, strict=True):
            if level < self._min_power:
                voiced = False
            else:
                probability = self._probability(pcm[at : at + FRAME])
                least = self._stay if voiced else self._start
                voiced = probability >= least and level > ceiling
            decisions.append(voiced)
            at += FRAME
        self._voiced = voiced
        return decisions


class Rechunked:
    """Detector with its own chunk length, called once per 20 ms frame.

    A frame has the probability of the newest complete chunk, and 0 before the first one. A chunk of
    Silero ended at most 30 ms before the end of the frame; the pre-roll covers this delay.
    """

    frame = FRAME

    def __init__(self, detector: VoiceDetector) -> None:
        self._detector = detector
        self._pending = np.zeros(0, np.int16)
        self._newest = 0.0

    def probability(self, samples: NDArray[np.int16]) -> float:
        length = self._detector.frame
        pending = np.concatenate([self._pending, samples])
        while len(pending) >= length:
            self._newest = self._detector.probability(pending[:length])
            pending = pending[length:]
        self._pending = pending
        return self._newest
