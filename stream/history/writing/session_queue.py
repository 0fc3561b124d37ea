"""Queue of finished sessions in memory, bounded in bytes, between the event loop and the writer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable


class SessionQueue:
    """Sessions in the order of their end. Every method returns within moments, in any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._sessions: deque[bytes] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def put(self, session: bytes) -> bool:
        """Add a session; return False if there is no room for it."""
        with self._lock:
            if self._bytes + len(session) > self._max_bytes:
                return False
            self._sessions.append(session)
            self._bytes += len(session)
            return True

    def all(self) -> list[bytes]:
        """Return the sessions, oldest first; they stay in the queue."""
        with self._lock:
            return [*self._sessions]

    def remove(self, sessions: Iterable[bytes]) -> None:
        """Remove sessions that `all` returned, unless another thread did."""
        gone = set(map(id, sessions))
        with self._lock:
            self._sessions = deque(each for each in self._sessions if id(each) not in gone)
            self._bytes = sum(map(len, self._sessions))

    def erase(self, is_erased: Callable[[bytes], bool]) -> int:
        """Remove some sessions; return their number."""
        gone = [session for session in self.all() if is_erased(session)]
        self.remove(gone)
        return len(gone)
