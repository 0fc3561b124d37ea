"""Freed memory is returned to the system once connections have ended."""

from __future__ import annotations

import asyncio

import pytest

from stream.server.process import memory
from stream.server.process.memory import MIN_CLOSED, FreedMemory
from tests.support.scheduling import until


class Library:
    """The part of glibc that is called."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int]] = []
        self.trims = 0

    def mallopt(self, option: int, value: int) -> int:
        self.options.append((option, value))
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.trims += 1
        return 1


@pytest.mark.parametrize(("closed", "trims"), [(MIN_CLOSED, True), (MIN_CLOSED - 1, False)])
async def test_memory_is_returned_after_many_connections(
    closed: int, trims: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 s after clients with full buffers had vanished, the process was as large as before."""
    library, counts = Library(), [50, 50 - closed]
    monkeypatch.setattr(memory, "_libc", lambda: library)
    monkeypatch.setattr(memory, "SAMPLE_S", 0.01)
    monkeypatch.setattr(memory, "PERIOD_S", 0.05)
    freed = FreedMemory(lambda: counts.pop(0) if len(counts) > 1 else counts[0])
    assert library.options == [(-3, memory.MMAP_BYTES)]
    task = asyncio.create_task(freed.run())
    if trims:
        await until(lambda: library.trims > 0)
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (library.trims == 1) is trims


async def test_another_system_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_libc", lambda: None)
    async with asyncio.timeout(60):
        await FreedMemory(lambda: 0).run()
