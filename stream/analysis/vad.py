"""Where speech begins and ends: a frame detector and the state machine around it."""

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
    """Decides one frame at a time; holds the state of one channel."""

    def is_speech(self, frame: bytes) -> bool:
        """Whether 320 samples of little-endian int16 at 16 kHz carry a voice."""
        ...


class WebRtcDetector:
    """Google's GMM detector out of WebRTC; `mode` 0 (lets most pass) to 3 (strictest)."""

    def __init__(self, mode: int = 2) -> None:
        self._vad = webrtcvad.Vad(mode)

    def is_speech(self, frame: bytes) -> bool:
        return cast(bool, self._vad.is_speech(frame, SAMPLE_RATE))


DETECTORS: dict[str, Callable[[int], VoiceDetector]] = {
    "webrtcvad": WebRtcDetector,
    "silero": SileroDetector,
}
"""Detector name → its maker, given the configured mode. Add a detector here."""


@dataclass(frozen=True, slots=True)
class VadSettings:
    """All counts are in frames of 20 ms; `min_dbfs` gates frames too faint to be speech.

    With `only_speech`, what was taken for speech but is a tone or a steady noise is not scored, and
    what sounds like music, noise or a cry gets a hint.
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
    """Turns frame decisions into utterances: pre-roll before, hangover after, a longest length.

    After every `step`, `speech` is the open utterance's span (its end is the last voiced frame:
    the hangover is not speech), or None.
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
        """Take the next frame's decision; returns the utterance that this frame ended, if any."""
        start = self._position
        self._position = start + FRAME
        if self.speech is None:
            self._listen(voiced)
            return None
        if voiced:
            self.state, self._silent = State.SPEAKING, 0
            self.speech = Utterance(self.speech.index, self.speech.start, self._position)
            if self._position - self.speech.start >= self._settings.max_utterance * FRAME:
                ended = self.end("split")
                # The speaker talks on: the next voiced frame opens the next utterance.
                self._recent.extend([True] * (self._settings.start_voiced - 1))
                return ended
            return None
        self.state = State.STOPPING
        self._silent += 1
        return self.end("speech_end") if self._silent >= self._settings.hangover else None

    def end(self, trigger: Trigger) -> Utterance | None:
        """Close the open utterance now; None when there is none."""
        open_ = self.speech
        self.speech, self.state, self._silent = None, State.QUIET, 0
        self._recent.clear()
        if open_ is None:
            return None
        self._last_end = open_.end
        return Utterance(open_.index, open_.start, open_.end, trigger)

    def jump(self, position: int) -> None:
        """Continue at `position` (a frame boundary) after audio that never came."""
        self._position = self._last_end = position
        self._recent.clear()

    def _listen(self, voiced: bool) -> None:
        self._recent.append(voiced)
        heard = sum(self._recent)
        self.state = State.STARTING if heard else State.QUIET
        if heard >= self._settings.start_voiced:
            first = self._position - FRAME * (len(self._recent) - self._recent.index(True))
            begin = max(self._last_end, first - self._settings.pre_roll * FRAME)
            self.speech = Utterance(self._next_index, begin, self._position)
            self._next_index += 1
            self.state = State.SPEAKING
