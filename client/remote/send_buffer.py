"""Audio that a producer holds until the server has it. Pure: no clocks, no sockets."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from stream.types import AudioFormat


@dataclass(frozen=True, slots=True)
class Skipped:
    """Audio that was dropped before it could be sent, to be declared as `input.resume`."""

    ms: int


class SendBuffer:
    """A bounded run of audio from the oldest byte the server may lack to the newest one.

    Positions are bytes since the session began. Only whole samples of every channel leave, so a
    break never splits one. `capacity_s` bounds what is held, `ahead_s` what is sent without being
    acknowledged, in seconds: a server that throttles leaves the rest here and not in the sockets,
    where it would hold up pings.
    """

    def __init__(self, audio: AudioFormat, capacity_s: float = 60.0, ahead_s: float = 10.0) -> None:
        self._frame = audio.bytes_per_frame
        # Time is declared in whole milliseconds, which at 44.1 kHz are no whole samples: only
        # steps that are both can be skipped exactly.
        common = gcd(audio.sample_rate, 1000)
        self._step = audio.sample_rate // common * self._frame
        self._step_ms = 1000 // common
        self._capacity = max(1, int(capacity_s * audio.sample_rate)) * self._frame
        self._ahead = max(1, int(ahead_s * audio.sample_rate)) * self._frame
        self._held = bytearray()
        self._start = 0
        self._sent = 0

    @property
    def room(self) -> int:
        """Bytes that can be appended before anything has to go."""
        return max(0, self._capacity - len(self._held))

    @property
    def samples(self) -> int:
        """Whole samples per channel that the server is not known to have."""
        return (self._end - self._start) // self._frame

    @property
    def drained(self) -> bool:
        """Whether everything that can be sent was sent."""
        return max(self._sent, self._start) + self._frame > self._end

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Hold `data`; what no longer fits is dropped at the old end, and declared later."""
        self._held += data
        excess = len(self._held) - self._capacity
        if excess > 0:
            self._release(self._start + excess)

    def take(self, limit: int) -> bytes | Skipped | None:
        """What is to be sent next: audio of at most `limit` bytes, or what is missing before it.

        None when there is nothing to send yet.
        """
        limit = max(limit // self._frame, 1) * self._frame
        if self._start > self._sent:
            steps = -(-(self._start - self._sent) // self._step)
            target = self._sent + steps * self._step
            if target > self._end:
                return None
            self._sent = target
            self._release(target)
            return Skipped(steps * self._step_ms)
        whole = (self._end - self._sent) // self._frame * self._frame
        size = min(limit, whole, self._start + self._ahead - self._sent)
        size -= size % self._frame
        if size <= 0:
            return None
        offset = self._sent - self._start
        self._sent += size
        return bytes(self._held[offset : offset + size])

    def ack(self, samples: int) -> None:
        """The server has taken `samples` per channel: they need not be held any longer."""
        self._release(min(samples * self._frame, self._sent))

    def rewind(self, samples: int) -> None:
        """The connection broke and the server has `samples` per channel: send on from there.

        Raises ValueError when it claims more than was ever sent.
        """
        position = samples * self._frame
        if position > self._sent:
            sent = self._sent // self._frame
            raise ValueError(f"the server says it has {samples} samples, but {sent} were sent")
        self._sent = position
        self._release(position)

    def restart(self) -> None:
        """A new session begins: the oldest audio still held becomes its first."""
        partial = -self._start % self._frame
        del self._held[:partial]
        self._start = self._sent = 0

    @property
    def _end(self) -> int:
        return self._start + len(self._held)

    def _release(self, position: int) -> None:
        if position > self._start:
            del self._held[: position - self._start]
            self._start = position
