"""Log entries of a recording: a code, values and a text for each step. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stream.admission import Admission
from stream.audio.files.decode_process import ProbeResult
from stream.audio.files.findings import Findings
from stream.audio.files.survey import sides
from stream.protocol.file_options import FileOptions
from stream.protocol.wire.codes import LogCode
from stream.protocol.wire.parts import DetailFields, Values
from stream.protocol.wire.recordings import Level

LOUD_DB = 3.0
"""Decibels above full scale that are a fault of the recording; codecs exceed it by less."""

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
        text = f"audio track {info.track} of {info.audio_streams} is analysed"
        yield LogEntry("info", "track", text, {"track": info.track, "tracks": info.audio_streams})
    yield from _corrections(probe.findings)
    if probe.identical_channels:
        text = "both channels carry the same voice: analysed as one"
        yield LogEntry("info", "channels_alike", text)
    elif info.channels > probe.channels:
        text = f"{info.channels} channels are mixed into one"
        yield LogEntry("info", "mixed", text, {"channels": info.channels})
    else:
        yield from _silent_channels(probe, grant)
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


def _corrections(findings: Findings) -> Iterator[LogEntry]:
    """Yield the entries on what differs between the file and the audio that is analysed."""
    timing, gain_db = findings.timing, findings.gain_db
    if timing.holes:
        silence_s = round(timing.silence_s, 1)
        many = "1 hole" if timing.holes == 1 else f"{timing.holes} holes"
        text = f"{many} in the time stamps became {silence_s:g} s of silence"
        yield LogEntry("info", "holes", text, {"holes": timing.holes, "silence_s": silence_s})
    if timing.jumps:
        yield LogEntry(
            "warning",
            "time_jump",
            "the time stamps jump by more than the recording can be long; the jump is left out, so "
            "later times differ from those of the file",
            {"jumps": timing.jumps},
        )
    if findings.left_out:
        yield LogEntry(
            "warning",
            "left_out",
            f"{findings.left_out} bytes behind the recording are another file; they are not "
            "analysed: split the file",
            {"bytes": findings.left_out},
        )
    if gain_db > 0:
        text = f"the recording is faint: its level was raised by {gain_db:g} dB"
        yield LogEntry("info", "raised", text, {"gain_db": gain_db})
    elif gain_db:
        text = f"the audio exceeds full scale: its level was changed by {gain_db:+g} dB"
        level: Level = "warning" if gain_db < -LOUD_DB else "info"
        yield LogEntry(level, "levelled", text, {"gain_db": gain_db})


def _silent_channels(probe: ProbeResult, grant: Admission) -> Iterator[LogEntry]:
    """Yield an entry if the sound is on one of two channels only."""
    silent, audible = sides(probe.findings.levels_dbfs)
    if not silent or not audible:
        return
    level: Level = "warning" if set(silent) & set(grant.analysed) else "info"

    def name(number: int) -> str:
        return f"channel {number + 1} ({grant.roles[number]})"

    text = f"{name(silent[0])} is silent: all sound is on {name(audible[0])}"
    values: Values = {
        "silent": [{"channel": number, "role": grant.roles[number]} for number in silent],
        "audible": [{"channel": number, "role": grant.roles[number]} for number in audible],
    }
    yield LogEntry(level, "silent_channel", text, values)


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
