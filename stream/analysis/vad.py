"""Voice activity detection: the detectors, and the segmenter that forms utterances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from stream.analysis.silero import SileroDetector
from stream.terms import End
from stream.types import FRAME, SAMPLE_RATE, Utterance


class VoiceDetector(Protocol):
    """Detector of speech in consecutive chunks, with the state of one channel.

    `frame` is the length of a chunk in samples at 16 kHz. Samples are int16: webrtcvad takes them
    as they are, and their conversion to float costs a network less than one hundredth of its own
    time.
    """

    frame: int

    def probability(self, samples: NDArray[np.int16]) -> float:
        """Return the probability (0 to 1) of speech in the next chunk, int16[frame]."""
        ...


class WebRtcDetector:
    """Google's GMM detector from WebRTC; `mode` is 0 (most permissive) to 3 (strictest).

    Its probability is 0 or 1.
    """

    frame = FRAME

    def __init__(self, mode: int = 2) -> None:
        self._is_speech = webrtcvad.Vad(mode).is_speech

    def probability(self, samples: NDArray[np.int16]) -> float:
        return 1.0 if self._is_speech(samples.tobytes(), SAMPLE_RATE, FRAME) else 0.0


DETECTORS: dict[str, Callable[[int], VoiceDetector]] = {
    "webrtcvad": WebRtcDetector,
    "silero": lambda mode: SileroDetector(),
}
"""Detector name → factory that takes the configured mode. Add a detector here.

For detectors with more probabilities than 0 and 1, `mode` also selects `hysteresis.THRESHOLDS`.
"""


@dataclass(frozen=True, slots=True)
class VadSettings:
    """Settings of detector and segmenter; all counts are in frames of 20 ms.

    Frames below `min_dbfs` are never voiced. With `only_speech`, hum, tones and steady noise
    that the detector takes for speech are not scored; music, noise and cries are scored with a
    hint.
    """

    detector: str = "webrtcvad"
    mode: int = 2
    start_voiced: int = 5
    start_of: int = 8
    pre_roll: int = 15
    hangover: int = 30
    max_utterance: int = 1500
    min_dbfs: float = -60.0
    only_speech: bool = True


class Segmenter:
    """Former of utterances from frame decisions, with pre-roll, hangover and length limit.

    While `speaking`, the open utterance is number `index`, `[start, end)`. It ends with the last
    voiced frame: the hangover is not speech.
    """

    def __init__(self, settings: VadSettings) -> None:
        self._start_voiced = settings.start_voiced
        self._pre_roll = settings.pre_roll * FRAME
        self._hangover = settings.hangover
        self._longest = settings.max_utterance * FRAME
        self._recent_mask = (1 << settings.start_of) - 1
        self._recent = 0
        """Newest decisions outside an utterance as bits, the newest in the lowest bit."""
        self._silent = 0
        self.position = 0
        self._last_end = 0
        self.speaking = False
        self.index = -1
        self.start = self.end = 0

    @property
    def speech(self) -> Utterance | None:
        """Open utterance, or None."""
        return Utterance(self.index, self.start, self.end) if self.speaking else None

    @property
    def next_end(self) -> int:
        """Position at which the open utterance ends unless another voiced frame comes."""
        return self.position + (self._hangover - self._silent) * FRAME

    def step(self, voiced: bool) -> Utterance | None:
        """Process the decision on the next frame; return the utterance that it ended, if any."""
        self.position += FRAME
        if not self.speaking:
            if voiced or self._recent:
                self._detect_start(voiced)
            return None
        if voiced:
            self._silent, self.end = 0, self.position
            if self.end - self.start < self._longest:
                return None
            ended = self.close("split")
            # The speech continues: the next voiced frame opens the next utterance.
            self._recent = (1 << self._start_voiced - 1) - 1 & self._recent_mask
            return ended
        self._silent += 1
        return self.close("speech_end") if self._silent >= self._hangover else None

    def advance(self, voiced: bool, frames: int) -> bool:
        """Process equal decisions at once if no utterance begins or ends; return False otherwise.

        Returns False as well, without processing, for voiced frames outside an utterance.
        """
        end = self.position + frames * FRAME
        if not self.speaking:
            if voiced:
                return False
            self._recent = self._recent << frames & self._recent_mask
        elif voiced:
            if end - self.start >= self._longest:
                return False
            self._silent, self.end = 0, end
        else:
            if self._silent + frames >= self._hangover:
                return False
            self._silent += frames
        self.position = end
        return True

    def close(self, trigger: End) -> Utterance | None:
        """Close the open utterance and return it; None if there is none."""
        self._silent = self._recent = 0
        if not self.speaking:
            return None
        self.speaking, self._last_end = False, self.end
        return Utterance(self.index, self.start, self.end, trigger)

    def jump(self, position: int) -> None:
        """Continue at `position` (a frame boundary) after a hole in the audio."""
        self.position = self._last_end = position
        self._recent = 0

    def _detect_start(self, voiced: bool) -> None:
        self._recent = (self._recent << 1 | voiced) & self._recent_mask
        if self._recent.bit_count() >= self._start_voiced:
            first = self.position - FRAME * self._recent.bit_length()
            self.start, self.end = max(self._last_end, first - self._pre_roll), self.position
            self.speaking = True
            self.index += 1
