"""Audio quality of utterances, and hints: reasons to doubt a score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from stream.analysis.nonspeech import NO_SOUND, NOT_SCORED, measure
from stream.terms import Band, Hint, Sound
from stream.types import FRAME, SAMPLE_RATE, Quality, Samples

NARROW_ABOVE_HZ = 4_100
NARROW_SHARE = 1e-4
"""Audio is narrowband if less than this share of its energy lies above `NARROW_ABOVE_HZ`."""

SPECTRUM = 4_000
"""Samples of one spectrum: 4 Hz apart."""

SHORT_SPEECH_S = 1.0
LOW_LEVEL_DBFS = -45.0
CLIPPED_SHARE = 0.005
NOISY_SNR_DB = 10.0
LOW_CONFIDENCE = 0.4


@cache
def _taper(length: int) -> Samples:
    return np.hanning(length).astype(np.float32)


def dbfs(power: float) -> float:
    """Convert the mean square of samples in [-1, 1] to dBFS of the RMS, at least -96."""
    return max(-96.0, 10 * math.log10(power)) if power > 0 else -96.0


class QualityMeter:
    """Meter of one channel's audio; `quality` is that of the open utterance so far."""

    def __init__(self, source_rate: int, only_speech: bool = True) -> None:
        self._only_speech = only_speech
        self._narrow_source = source_rate <= 8_000
        self._high = self._all = 0.0
        self._noise: float | None = None
        self.begin()

    def begin(self) -> None:
        """Begin an utterance: reset level, clipping, length and sound; keep the noise floor."""
        self._power = 0.0
        self._clipped = self._frames = 0
        self._sound = NO_SOUND
        self._newest: Sound | None = None
        self._is_clear_speech = False
        """True if the newest audio was measured and is clearly speech."""

    def speech(self, power: Sequence[float], clipped: Sequence[int]) -> None:
        """Add voiced frames of the utterance."""
        for level in power:
            self._power += level
        self._clipped += sum(clipped)
        self._frames += len(power)

    def pause(self, power: Iterable[float]) -> None:
        """Add unvoiced frames, which update the noise floor (3 s smoothing)."""
        noise = self._noise
        for level in power:
            noise = level if noise is None else noise + (level - noise) / 150
        self._noise = noise

    def spectrum(self, audio: Samples) -> None:
        """Measure the energy above the telephone band in the last second of a window."""
        if self._narrow_source:
            return
        newest = audio[-SAMPLE_RATE:]
        # Four transforms of 4000 samples take a third of the time of one of 16 000.
        count = max(1, len(newest) // SPECTRUM)
        size = len(newest) // count
        # Without the taper, spectral leakage from the cut edge would look like wideband audio.
        spectra = np.fft.rfft(newest[-count * size :].reshape(count, size) * _taper(size), axis=1)
        energy = spectra.real**2 + spectra.imag**2
        split = NARROW_ABOVE_HZ * size // SAMPLE_RATE
        self._high = 0.8 * self._high + float(energy[:, split:].sum())
        self._all = 0.8 * self._all + float(energy.sum())

    def sound(self, audio: Samples) -> None:
        """Classify the new audio of the utterance: speech or not.

        The piece after one that is clearly speech is taken for speech as well: to measure it would
        cost 4 % of the whole server with telephone calls.
        """
        if not self._only_speech:
            return
        if self._is_clear_speech:
            self._newest, self._is_clear_speech = None, False
            return
        piece = measure(audio)
        self._sound += piece
        self._newest = piece.within(self._sound)
        self._is_clear_speech = piece.is_clear_speech

    @property
    def not_speech(self) -> bool:
        """True if the newest audio is clearly not speech, so that it is not scored."""
        return self._newest in NOT_SCORED

    def quality(self) -> Quality:
        frames = max(1, self._frames)
        power = self._power / frames
        return Quality(
            rms_dbfs=round(dbfs(power), 1),
            clipped=round(self._clipped / (frames * FRAME), 4),
            snr_db=self._snr(power),
            band=self._band(),
            speech_s=round(self._frames * FRAME / SAMPLE_RATE, 2),
            sound=self._sound.sound,
        )

    def _snr(self, power: float) -> float | None:
        if self._noise is None or self._frames == 0:
            return None
        signal = max(power - self._noise, 1e-12)
        return round(min(60.0, 10 * math.log10(signal / max(self._noise, 1e-9))), 1)

    def _band(self) -> Band | None:
        if self._narrow_source:
            return "narrow"
        if self._all == 0:
            return None
        return "narrow" if self._high < NARROW_SHARE * self._all else "wide"


def hints(quality: Quality, top: float | None, one_voice: bool = False) -> tuple[Hint, ...]:
    """Return the reasons to doubt a score of this quality whose best label has share `top`.

    `one_voice` says that the other channel carries the same voice.
    """
    doubts: dict[Hint, bool] = {
        "short_speech": quality.speech_s < SHORT_SPEECH_S,
        "low_level": quality.rms_dbfs < LOW_LEVEL_DBFS,
        "clipped": quality.clipped > CLIPPED_SHARE,
        "noisy": quality.sound in ("noise", "hiss")
        or (quality.snr_db is not None and quality.snr_db < NOISY_SNR_DB),
        "narrowband": quality.band == "narrow",
        "music": quality.sound == "music",
        "tone": quality.sound == "tone",
        "high_pitch": quality.sound == "high_pitch",
        "one_voice": one_voice,
        "low_confidence": top is not None and top < LOW_CONFIDENCE,
    }
    return tuple(name for name, doubtful in doubts.items() if doubtful)


def gain_is_automatic(attrs: Mapping[str, Any]) -> bool:
    """Return whether a stream's attributes report automatic gain control in the producer.

    That is `autoGainControl`, at the top level or in `capture`, as browsers report it for a
    microphone (W3C Media Capture and Streams, MediaTrackSettings).
    """
    capture = attrs.get("capture")
    settings = capture if isinstance(capture, Mapping) else attrs
    return settings.get("autoGainControl") is True
