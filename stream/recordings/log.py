"""Log entries of a recording: a code, values and a text for each step. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stream.admission import Admission
from stream.audio.decode_process import ProbeResult
from stream.protocol.messages import FileOptions
from stream.protocol.wire.codes import LogCode
from stream.protocol.wire.parts import DetailFields, Values
from stream.protocol.wire.recordings import Level

CHANNEL_NAMES = {1: "mono", 2: "stereo"}


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a recording's log.

    `code` and `values` contain all information of `message`, so that a page can translate it.
    """

    level: Level
    code: LogCode
    message: str
    values: Values = field(default_factory=DetailFields)


def queued(ahead: int) -> LogEntry:
    """Return the entry for a recording that waits for `ahead` others."""
    others = "recording is" if ahead == 1 else "recordings are"
    return LogEntry("info", "queued", f"{ahead} {others} before this one", {"ahead": ahead})


def truncated() -> LogEntry:
    """Return the entry for a file that could not be decoded completely."""
    return LogEntry("warning", "truncated", "part of the file is missing or damaged")


def opening(probe: ProbeResult, grant: Admission, options: FileOptions) -> Iterator[LogEntry]:
    """Yield the entries at the start of an analysis: format, tracks, channels, denoising."""
    yield _decoded(probe)
    info = probe.info
    if info.audio_streams > 1:
        text = f"the first of {info.audio_streams} audio tracks is analysed"
        yield LogEntry("info", "first_track", text, {"tracks": info.audio_streams})
    if probe.identical_channels:
        yield LogEntry("info", "channels_alike", "both channels are equal: analysed as one")
    elif info.channels > probe.channels:
        text = f"{info.channels} channels are mixed into one"
        yield LogEntry("info", "mixed", text, {"channels": info.channels})
    skipped = [
        (number, role) for number, role in enumerate(grant.roles) if number not in grant.analysed
    ]
    if skipped:
        # The text counts channels from 1, as the page does; `values` from 0, as all JSON does.
        total = len(grant.roles)
        named = ", ".join(f"{number + 1} of {total} ({role})" for number, role in skipped)
        text = f"channel {named} is not analysed: privacy.analyse_roles"
        values: Values = {
            "skipped": [{"channel": number, "role": role} for number, role in skipped]
        }
        yield LogEntry("warning", "channel_skipped", text, values)
    if options.denoise:
        yield LogEntry(
            "warning",
            "denoised",
            "noise suppression is on: it helps if noise is as loud as the voice, and does "
            "nothing for a clean recording; processed_audio.wav holds its output",
        )


def _decoded(probe: ProbeResult) -> LogEntry:
    info = probe.info
    codec, container = info.codec.upper(), info.container.upper()
    shape = CHANNEL_NAMES.get(info.channels, f"{info.channels} channels")
    length = "" if info.duration_s is None else f", {info.duration_s:.1f} s"
    values: Values = {
        "codec": codec,
        "container": container,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
    }
    if info.duration_s is not None:
        values["duration_s"] = round(info.duration_s, 1)
    return LogEntry(
        "info",
        "decoded",
        f"decoding {codec} in {container}, {info.sample_rate / 1000:g} kHz {shape}{length}",
        values,
    )
