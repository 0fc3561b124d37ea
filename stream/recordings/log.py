"""The log of a recording: what was done, as codes with figures, and in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stream.admission import Admission
from stream.audio.decode_process import Found
from stream.protocol.messages import FileOptions

Level = Literal["info", "warning"]

KINDS = {1: "mono", 2: "stereo"}


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a recording's log.

    `code` and `values` say all that `message` does, so that a page can say it in its own language.
    """

    level: Level
    code: str
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


def queued(ahead: int) -> LogEntry:
    """It waits for as many others."""
    others = "recording is" if ahead == 1 else "recordings are"
    return LogEntry("info", "queued", f"{ahead} {others} before this one", {"ahead": ahead})


def truncated() -> LogEntry:
    """Not all of it could be decoded."""
    return LogEntry("warning", "truncated", "a part of the file is missing or damaged")


def opening(found: Found, admitted: Admission, options: FileOptions) -> Iterator[LogEntry]:
    """What a recording turned out to be, and what is done with it."""
    yield _decoded(found)
    about = found.about
    if about.audio_streams > 1:
        text = f"the first of {about.audio_streams} sound tracks is taken"
        yield LogEntry("info", "first_track", text, {"tracks": about.audio_streams})
    if found.alike:
        yield LogEntry("info", "channels_alike", "both channels are equal: analysed as one")
    elif about.channels > found.channels:
        text = f"{about.channels} channels are mixed into one"
        yield LogEntry("info", "mixed", text, {"channels": about.channels})
    left_out = [
        (number, role)
        for number, role in enumerate(admitted.roles)
        if number not in admitted.analysed
    ]
    if left_out:
        skipped = [{"channel": number, "role": role} for number, role in left_out]
        # In words from 1, as on the page; in `values` from 0, as everywhere in JSON.
        total = len(admitted.roles)
        named = ", ".join(f"{number + 1} of {total} ({role})" for number, role in left_out)
        text = f"channel {named} is not analysed: privacy.analyse_roles"
        yield LogEntry("warning", "channel_skipped", text, {"skipped": skipped})
    if options.denoise:
        yield LogEntry(
            "warning",
            "denoised",
            "noise suppression is on: it helps where noise is as loud as the voice, and does "
            "nothing for a clean recording; what it left is in processed_audio.wav",
        )


def _decoded(found: Found) -> LogEntry:
    about = found.about
    codec, container = about.codec.upper(), about.container.upper()
    shape = KINDS.get(about.channels, f"{about.channels} channels")
    length = "" if about.duration_s is None else f", {about.duration_s:.1f} s"
    return LogEntry(
        "info",
        "decoded",
        f"decoding {codec} in {container}, {about.sample_rate / 1000:g} kHz {shape}{length}",
        {
            "codec": codec,
            "container": container,
            "sample_rate": about.sample_rate,
            "channels": about.channels,
            **({} if about.duration_s is None else {"duration_s": round(about.duration_s, 1)}),
        },
    )
