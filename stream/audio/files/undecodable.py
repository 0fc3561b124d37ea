"""Errors for files that yield no audio, with the remedy for the person who sent them."""

from __future__ import annotations

from stream.audio.files.containers import kind_of
from stream.audio.files.header_only import is_header_only
from stream.audio.files.tags import after_tags
from stream.audio.files.views import View
from stream.terms import AudioFault, FaultReason

IMAGE_FORMATS = ("tty", "gif", "apng", "ico", "image2", "svg")
"""Formats of images and text that FFmpeg reports as video."""


class Undecodable(Exception):
    """Error for a file that yields no audio.

    `code` is the error code for the client. `values` holds the details of the message: figures, and
    a `reason` for codes with several causes.
    """

    def __init__(
        self,
        code: AudioFault,
        message: str,
        *,
        reason: FaultReason | None = None,
        **values: str | float,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.values = values if reason is None else {"reason": reason, **values}


def empty() -> Undecodable:
    """Return the error for a file of 0 bytes."""
    return Undecodable("empty_file", "the file is empty: choose the recording again")


def protected() -> Undecodable:
    """Return the error for a file with copy protection."""
    return Undecodable(
        "protected",
        "the file is protected (DRM): export it without protection, or record it again",
    )


def no_sound_in(part: str) -> Undecodable:
    """Return the error for a file that has `part`, and nothing after it."""
    return Undecodable(
        "empty_file",
        f"the file has {part}, but there is no sound in it: record or export it again",
        reason="header_only",
    )


def header_of(kind: str | None) -> str:
    """Return the name of a header with its article."""
    if kind is None:
        return "a header"
    return f"{'an' if kind[0] in 'AEIMO' else 'a'} {kind} header"


def header_alone(kind: str | None) -> Undecodable:
    """Return the error for a file that ends with its header."""
    return no_sound_in(header_of(kind))


def not_opened(view: View, head: bytes, error: Exception) -> Undecodable:
    """Return the error for a file with this head, for which FFmpeg raised `error`."""
    if after_tags(view) == view.size:
        return no_sound_in("a tag")
    kind = kind_of(head)
    if is_header_only(head, view.size):
        return header_alone(kind)
    if kind is not None:
        return Undecodable(
            "broken_file",
            f"the file has {header_of(kind)}, but is damaged or truncated: export it again",
            reason="cut_off",
            kind=kind,
        )
    return Undecodable(
        "not_audio",
        f"the contents of the file are not audio ({reason_of(error)}): choose a file with audio",
        reason="unknown",
    )


def without_track(view: View, head: bytes, container: str, has_pictures: bool) -> Undecodable:
    """Return the error for a file without audio tracks; `container` is FFmpeg's name of it."""
    if not has_pictures and is_header_only(head, view.size):
        return header_alone(kind_of(head))
    if has_pictures and container not in IMAGE_FORMATS and not container.endswith("_pipe"):
        return Undecodable(
            "no_audio_stream", "the video has no audio track: choose a file with audio"
        )
    return Undecodable(
        "not_audio", "the file is not a recording: choose a file with audio", reason="no_sound"
    )


def unknown_track(wanted: int, tracks: int) -> Undecodable:
    """Return the error for a track that the file does not have."""
    return Undecodable(
        "unknown_track",
        f"track: the file has {tracks} audio tracks, not {wanted}",
        tracks=tracks,
    )


def without_decoder() -> Undecodable:
    """Return the error for a codec that FFmpeg does not know."""
    return Undecodable(
        "broken_file",
        "the audio codec of the file is not supported: save it as WAV",
        reason="no_decoder",
    )


def without_rate() -> Undecodable:
    """Return the error for a header that states no sample rate, or no channels."""
    return Undecodable(
        "broken_file",
        "the header of the file states no sample rate: save it as WAV",
        reason="no_rate",
    )


def nothing_decoded() -> Undecodable:
    """Return the error for a damaged file of which no part could be decoded."""
    return Undecodable(
        "broken_file",
        "the file is damaged: no audio in it could be decoded; export it again",
        reason="undecodable",
    )


def reason_of(error: Exception) -> str:
    """Return FFmpeg's message without the error number."""
    return str(getattr(error, "strerror", None) or error)
