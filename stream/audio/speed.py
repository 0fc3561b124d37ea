"""Formats that would explain the speed at which audio arrives. Pure."""

from __future__ import annotations

from stream.types import AudioFormat

RATES = (
    *(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    *(88_200, 96_000, 176_400, 192_000),
)
NEAR = 0.03
"""Relative deviation of a measured rate from one of `RATES`."""


def causes(audio: AudioFormat, speed: float) -> list[str]:
    """Return what would make audio arrive at `speed` times real time, likely causes first."""
    found = []
    rate = next((r for r in RATES if abs(speed * audio.sample_rate / r - 1) < NEAR), None)
    if rate is not None and rate != audio.sample_rate:
        found.append(f"it is sent at {rate} Hz (sample_rate={rate})")
    if abs(speed / 2 - 1) < NEAR:
        if audio.channels == 1:
            found.append("it has two channels (channels=2)")
        if audio.encoding in ("mulaw", "alaw"):
            found.append("it has 16-bit samples (encoding=linear16)")
        if audio.encoding == "linear16":
            found.append("it has 32-bit samples (encoding=f32le)")
    if abs(speed / 1.5 - 1) < NEAR and audio.encoding == "linear16":
        found.append("it has 24-bit samples (convert them)")
    if abs(speed / 0.5 - 1) < NEAR:
        if audio.channels == 2:
            found.append("it has one channel (channels=1)")
        if audio.encoding == "linear16":
            found.append("it has 8-bit samples (encoding=mulaw or alaw)")
        if audio.encoding == "f32le":
            found.append("it has 16-bit samples (encoding=linear16)")
    return found
