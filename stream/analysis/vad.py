"""Voice activity detection: frame detectors, and the segmenter that forms utterances."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, cast

import webrtcvad

from stream.analysis.silero import SileroDetector
from stream.types import FRAME, SAMPLE_RATE, Trigger, Utterance


class VoiceDetector(Protocol):
    """Frame-by-frame detector of speech, with the state of one channel."""

    def is_speech(self, frame: bytes) -> bool:
        """Return whether a frame contains speech: 320 samples, little-endian int16, 16 kHz."""
        ...


class WebRtcDetector:
    """Google's GMM detector from WebRTC; `mode` is 0 (most permissive) to 3 (strictest)."""

    def __init__(self, mode: int = 2) -> None:
        self._vad = webrtcvad.Vad(mode)

    def is_speech(self, frame: bytes) -> bool:
        return cast(bool, self._vad.is_speech(frame, SAMPLE_RATE))


DETECTORS: dict[str, Callable[[int], VoiceDetector]] = {
    "webrtcvad": WebRtcDetector,
    "silero": SileroDetector,
}
"""Detector name → factory that takes the configured mode. Add a detector here."""


@dataclass(frozen=True, slots=True)
class VadSettings:
    """Settings of detector and segmenter; all counts are in frames of 20 ms.

    Frames below `min_dbfs` are never voiced. With `only_speech`, tones and steady noise that the
    detector takes for speech are not scored; music, noise and cries are scored with a hint.
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


class State(Enum):
    QUIET = auto()
    STARTING = auto()
    SPEAKING = auto()
    STOPPING = auto()


class Segmenter:
    """State machine from frame decisions to utterances, with pre-roll, hangover and length limit.

    After every `step`, `speech` is the open utterance, or None. It ends with the last voiced frame:
    the hangover is not speech.
    """

    def __init__(self, settings: VadSettings) -> None:
        self._settings = settings
        self._recent: deque[bool] = deque(maxlen=settings.start_of)
        self._silent = 0
        self._next_index = 0
        self._position = 0
        self._last_end = 0
        self.state = State.QUIET
        self.speech: Utterance | None = None

    def step(self, voiced: bool) -> Utterance | None:
        """Process the decision on the next frame; return the utterance that it ended, if any."""
        start = self._position
        self._position = start + FRAME
        if self.speech is None:
            self._detect_start(voiced)
            return None
        if voiced:
            self.state, self._silent = State.SPEAKING, 0
            self.speech = Utterance(self.speech.index, self.speech.start, self._position)
            if self._position - self.speech.start >= self._settings.max_utterance * FRAME:
                ended = self.end("split")
                # The speech continues: the next voiced frame opens the next utterance.
                self._recent.extend([True] * (self._settings.start_voiced - 1))
                return ended
            return None
        self.state = State.STOPPING
        self._silent += 1
        return self.end("speech_end") if self._silent >= self._settings.hangover else None

    def end(self, trigger: Trigger) -> Utterance | None:
        """Close the open utterance and return it; None if there is none."""
        open_ = self.speech
        self.speech, self.state, self._silent = None, State.QUIET, 0
        self._recent.clear()
        if open_ is None:
            return None
        self._last_end = open_.end
        return Utterance(open_.index, open_.start, open_.end, trigger)

    def jump(self, position: int) -> None:
        """Continue at `position` (a frame boundary) after a hole in the audio."""
        self._position = self._last_end = position
        self._recent.clear()

    def _detect_start(self, voiced: bool) -> None:
        self._recent.append(voiced)
        voiced_count = sum(self._recent)
        self.state = State.STARTING if voiced_count else State.QUIET
        if voiced_count >= self._settings.start_voiced:
            first = self._position - FRAME * (len(self._recent) - self._recent.index(True))
            begin = max(self._last_end, first - self._settings.pre_roll * FRAME)
            self.speech = Utterance(self._next_index, begin, self._position)
            self._next_index += 1
            self.state = State.SPEAKING
