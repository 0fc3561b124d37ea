"""Faults of a recording's file that its result reports as hints. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from stream.admission import Admission
from stream.audio.files.decode_process import ProbeResult
from stream.audio.files.survey import SILENT_DBFS, sides
from stream.protocol.wire.result import ResultHint
from stream.recordings.result import ChannelResult

LOUDER_DB = 10.0
"""Decibels by which a channel that is not analysed is louder than one on which nothing was said."""


def faults(
    probe: ProbeResult, grant: Admission, channels: Sequence[ChannelResult], *, damaged: bool
) -> list[ResultHint]:
    """Return the hints that lie in the file; `channels` are those that were analysed."""
    findings = probe.findings
    found: dict[ResultHint, bool] = {
        "low_level": findings.gain_db > 0,
        "truncated": damaged,
        "left_out": findings.left_out > 0,
        "time_jump": findings.timing.jumps > 0,
        "silent_channel": probe.channels == len(findings.levels_dbfs) == 2
        and _voice_is_elsewhere(findings.levels_dbfs, grant, channels),
    }
    return [hint for hint, holds in found.items() if holds]


def _voice_is_elsewhere(
    levels_dbfs: Sequence[float], grant: Admission, channels: Sequence[ChannelResult]
) -> bool:
    """Return whether an analysed channel has nothing to analyse, and another channel has sound."""
    silent, heard = sides(levels_dbfs)
    if heard and set(silent) & set(grant.analysed):
        return True
    if any(channel.speech for channel in channels):
        return False
    loudest = max(levels_dbfs[number] for number in grant.analysed)
    return any(
        level > max(SILENT_DBFS + 10, loudest + LOUDER_DB)
        for number, level in enumerate(levels_dbfs)
        if number not in grant.analysed
    )
