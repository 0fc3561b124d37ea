"""Audio that a producer keeps until the server acknowledges it. No clocks, no sockets."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from client.remote.audio_format import AudioFormat


@dataclass(frozen=True, slots=True)
class Skipped:
    """Audio that was dropped before it was sent, to be declared with `input.resume`."""

    ms: int


class SendBuffer:
    """Bounded buffer of audio, from the oldest byte that is not acknowledged to the newest one.

    Positions are bytes since the session began. Only whole samples of all channels are sent, so a
    broken connection never splits one. `capacity_s` bounds the audio in the buffer, `ahead_s` the
    audio that is sent but not acknowledged, both in seconds: while the server throttles, the rest
    stays here and not in the socket's buffers, where it would delay pings.
    """

    def __init__(self, audio: AudioFormat, capacity_s: float = 60.0, ahead_s: float = 10.0) -> None:
        self._frame = audio.bytes_per_frame
        # `input.resume` declares whole milliseconds, and at 44.1 kHz a millisecond is not a whole
        # number of samples. Only multiples of a step that is both can be skipped exactly.
        common = gcd(audio.sample_rate, 1000)
        self._step = audio.sample_rate // common * self._frame
        self._step_ms = 1000 // common
        self._capacity = max(1, int(capacity_s * audio.sample_rate)) * self._frame
        self._ahead = max(1, int(ahead_s * audio.sample_rate)) * self._frame
        self._data = bytearray()
        self._start = 0
        self._sent = 0

    @property
    def free(self) -> int:
        """Bytes that can be appended before the oldest audio is dropped."""
        return max(0, self._capacity - len(self._data))

    @property
    def samples(self) -> int:
        """Whole samples per channel that are not acknowledged."""
        return (self._end - self._start) // self._frame

    @property
    def drained(self) -> bool:
        """True if all whole samples in the buffer were sent."""
        return max(self._sent, self._start) + self._frame > self._end

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`; drop the oldest audio beyond the capacity, to be declared later."""
        self._data += data
        excess = len(self._data) - self._capacity
        if excess > 0:
            self._release(self._start + excess)

    def next_message(self, limit: int) -> bytes | Skipped | None:
        """Return the next audio to send, at most `limit` bytes, and count it as sent.

        Return `Skipped` if audio before it was dropped, None if there is nothing to send yet.
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
        available = (self._end - self._sent) // self._frame * self._frame
        size = min(limit, available, self._start + self._ahead - self._sent)
        size -= size % self._frame
        if size <= 0:
            return None
        offset = self._sent - self._start
        self._sent += size
        return bytes(self._data[offset : offset + size])

    def ack(self, samples: int) -> None:
        """Discard audio that the server acknowledged: `samples` per channel since the start."""
        self._release(min(samples * self._frame, self._sent))

    def rewind(self, samples: int) -> None:
        """Send again from `samples` per channel, the number that the server has received.

        Raises ValueError if that is more than was sent.
        """
        position = samples * self._frame
        if position > self._sent:
            sent = self._sent // self._frame
            raise ValueError(f"the server reports {samples} samples, but {sent} were sent")
        self._sent = position
        self._release(position)

    def restart(self) -> None:
        """Begin a new session with the oldest whole sample in the buffer."""
        partial = -self._start % self._frame
        del self._data[:partial]
        self._start = self._sent = 0

    @property
    def _end(self) -> int:
        return self._start + len(self._data)

    def _release(self, position: int) -> None:
        if position > self._start:
            del self._data[: position - self._start]
            self._start = position
