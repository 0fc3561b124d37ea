"""Names and limits that the wire, the configuration and the analysis share. Imports nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

SAMPLE_RATE = 16_000
"""Rate of every position and every buffer inside a stream, in samples per second."""

MIN_RATE, MAX_RATE, MAX_CHANNELS = 8_000, 192_000, 2
"""Limits of a stream's audio: sample rate in Hz, number of channels. Channels are scored apart."""

MAX_TRACKS = 100
"""Highest number of an audio track of a recording that can be chosen."""

Encoding = Literal["linear16", "f32le", "mulaw", "alaw"]
"""Encoding of audio samples, little-endian, without a header."""

BYTES_PER_SAMPLE: Mapping[Encoding, int] = {"linear16": 2, "f32le": 4, "mulaw": 1, "alaw": 1}

End = Literal["speech_end", "flush", "split"]
"""Reason that an utterance ended.

`speech_end`: a pause in the speech; `flush`: `input.flush`, `input.pause`, missing audio or the end
of the stream; `split`: the utterance became too long.
"""

Trigger = Literal["interval", End]
"""Reason that a window became due: a hop of new speech (`interval`), or the end of its utterance.

`speech_end`: a pause in the speech; `flush`: `input.flush`, `input.pause`, missing audio or the end
of the stream; `split`: the utterance became too long.
"""

InferenceFailure = Literal["inference_failed", "inference_timeout"]
GapReason = Literal["overload", InferenceFailure]
"""Reason that speech will never be scored."""

Sound = Literal["tone", "hiss", "music", "noise", "high_pitch"]
"""Class of a sound that is not ordinary speech.

tone: beeps, DTMF, dialling tones; hiss: steady noise; music: notes; noise: other sound without a
pitch; high_pitch: a pitch held above the range of adult speech.
"""

Band = Literal["narrow", "wide"]
"""Bandwidth of the audio; `narrow` is that of a telephone."""

AudioHint = Literal[
    "low_level",
    "clipped",
    "noisy",
    "narrowband",
    "music",
    "tone",
    "high_pitch",
    "one_voice",
]
"""Reason to doubt a score that lies in the audio.

one_voice: both channels carry the same voice, so they are not two people; it is analysed once.
"""

Hint = Literal["short_speech", AudioHint, "low_confidence"]
"""Reason to doubt a score."""

StreamState = Literal["active", "paused", "detached", "ended"]
"""State of a stream.

detached: the connection of its producer broke, and it waits for the producer to return.
"""

AudioFault = Literal[
    "empty_file",
    "not_audio",
    "no_audio_stream",
    "protected",
    "broken_file",
    "unknown_track",
    "audio_too_long",
    "decode_timeout",
]
"""Error code of a file that yields no audio."""

FaultReason = Literal[
    "unknown",
    "no_sound",
    "header_only",
    "cut_off",
    "undecodable",
    "no_decoder",
    "no_rate",
    "memory",
    "broke_off",
]
"""Exact reason of an error code with several causes."""

EmployeeBasis = Literal["", "medical_or_safety", "acted_recording"]
"""Exception of the EU AI Act, Art. 5(1)(f), on which employees are analysed; empty for none."""

RESULT_FILES = (
    "result.json",
    "frames.csv",
    "embedding.npy",
    "embeddings_utterances.npy",
    "processed_audio.wav",
)
"""Names of all files that a result may have, in the order in which they are offered."""

MAX_RULES = 32
"""Rules of alerts in the configuration, and those of one subscriber."""

Index = Literal["negative", "activation", "activation_change"]
"""Index that a rule compares.

negative: angry + disgusted + fearful + sad; activation_change: against the voice's own baseline.
"""

ConversationValue = Literal[
    "dead_air", "overlap", "talks_over", "talk_share", "response", "longest_turn"
]
"""Value of the conversation that a rule compares.

Seconds of dead_air now, of the mean response and of the longest_turn; shares of the last minute.
dead_air and overlap are those of the stream, all others those of a channel.
"""

Severity = Literal["info", "warning", "critical"]
"""Severity of an alert."""
