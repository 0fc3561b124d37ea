"""The scheduler when its model fails, hangs, or returns results of a wrong shape."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from stream.inference import scheduler as scheduler_module
from stream.types import FrameScores
from tests.support.scheduling import (
    NAN,
    RAISES,
    RecordingListener,
    Transform,
    idle,
    running_harness,
    until,
    window,
)


@pytest.mark.parametrize("mark", [RAISES, NAN], ids=["raises", "NaN"])
async def test_a_failing_row_does_not_fail_the_batch(mark: float) -> None:
    async with running_harness() as harness:
        await harness.hold()
        pairs = [harness.slot() for _ in range(4)]
        offered = [window(mark if n == 2 else n / 10) for n in range(4)]
        for (_, slot), own in zip(pairs, offered, strict=True):
            slot.offer(own)
        harness.backend.release()
        await idle(*[slot for _, slot in pairs])
        assert [len(listener.scored) for listener, _ in pairs] == [1, 1, 0, 1]
        assert pairs[2][0].failed == [(offered[2], "inference_failed")]
        assert all(not listener.failed for n, (listener, _) in enumerate(pairs) if n != 2)
        assert np.isfinite(pairs[3][0].scored[0].logits).all()
        assert (harness.reports[-1].size, harness.reports[-1].failed) == (4, 1)
        assert harness.scheduler.trouble is None
        assert {size for size, _ in harness.backend.shapes} <= {1, 2, 5}


@pytest.mark.parametrize(
    "transform",
    [
        lambda logits: logits[:-1],
        lambda logits: logits[:0],
        lambda logits: logits.mean(axis=1),
        lambda logits: logits[0, 0, 0],
    ],
    ids=["a row short", "no rows", "utterance logits", "a number"],
)
async def test_a_result_of_the_wrong_shape_is_a_failure(transform: Transform) -> None:
    """Logits per utterance instead of per frame reached the channel and broke it."""

    async with running_harness() as harness:
        await harness.hold()
        pairs = [harness.slot() for _ in range(5)]
        for _, slot in pairs:
            slot.offer(window())
        harness.backend.transform = transform
        harness.backend.release()
        await idle(*[slot for _, slot in pairs])
        assert [[reason for _, reason in listener.failed] for listener, _ in pairs] == [
            ["inference_failed"]
        ] * 5


async def test_a_batch_without_memory_is_halved_and_later_batches_are_smaller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A shared GPU may have less memory than at the start. A batch of 32 that no longer fits must
    neither lose 32 windows nor be tried again every time."""

    async with running_harness() as harness:
        await harness.hold()
        pairs = [harness.slot() for _ in range(5)]
        for _, slot in pairs:
            slot.offer(window())
        harness.backend.max_rows = 2
        harness.backend.release()
        await idle(*[slot for _, slot in pairs])
        assert all(len(listener.scored) == 1 and not listener.failed for listener, _ in pairs)
        assert [size for size, _ in harness.backend.shapes] == [5, 2, 3, 1, 2]
        assert harness.scheduler.trouble is None
        await harness.hold()  # until all five wait; else the thread may take them one by one
        for _, slot in pairs:
            slot.offer(window())
        harness.backend.release()
        await idle(*[slot for _, slot in pairs])
        assert {size for size, _ in harness.backend.shapes} == {1, 2}
        assert all(len(listener.scored) == 2 for listener, _ in pairs)
        warnings = [record for record in caplog.records if "out of memory" in record.message]
        assert [record.__dict__["max_batch"] for record in warnings] == [2]


async def test_a_single_window_without_memory_is_lost_and_the_next_is_scored() -> None:
    async with running_harness() as harness:
        listener, slot = harness.slot()
        harness.backend.max_rows = 0
        slot.offer(window())
        await idle(slot)
        assert [reason for _, reason in listener.failed] == ["inference_failed"]
        harness.backend.max_rows = 5
        slot.offer(window())
        await idle(slot)
        assert len(listener.scored) == 1


async def test_a_batch_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with running_harness() as harness:
        await harness.hold()
        pairs = [harness.slot() for _ in range(5)]
        for _, slot in pairs:
            slot.offer(window())
        harness.backend.broken = True
        harness.backend.release()
        await idle(*[slot for _, slot in pairs])
        logged = [record for record in caplog.records if record.message == "batch failed"]
        # The health check logs single rows.
        assert [record.__dict__["size"] for record in logged if record.__dict__["size"] > 1] == [5]


async def test_three_failed_batches_are_trouble_until_one_succeeds() -> None:
    async with running_harness() as harness:
        listener, slot = harness.slot()

        async def once() -> str | None:
            calls = len(harness.backend.shapes)
            slot.offer(window())
            await idle(slot)
            # A failed batch is followed by a check of the model.
            checks = 1 if harness.backend.broken else 0
            await until(lambda: len(harness.backend.shapes) == calls + 1 + checks)
            await asyncio.sleep(0.02)
            return harness.scheduler.trouble

        harness.backend.broken = True
        assert await once() is None
        assert await once() is None
        assert await once() == "the last 3 batches failed"
        assert [reason for _, reason in listener.failed] == ["inference_failed"] * 3
        harness.backend.broken = False
        assert await once() is None
        assert len(listener.scored) == 1


async def test_a_model_that_recovers_while_no_window_comes_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that is not ready gets no calls, so it has to ask its model itself."""

    monkeypatch.setattr(scheduler_module, "PROBE_S", 0.01)
    async with running_harness() as harness:
        _, slot = harness.slot()
        harness.backend.broken = True
        for _ in range(3):
            slot.offer(window())
            await idle(slot)
        await until(lambda: harness.scheduler.trouble == "the last 3 batches failed")
        calls = len(harness.backend.shapes)
        await until(lambda: len(harness.backend.shapes) > calls + 2)
        assert harness.scheduler.trouble == "the last 3 batches failed"
        harness.backend.broken = False
        await until(lambda: harness.scheduler.trouble is None)


async def test_a_hanging_batch_is_failed_and_its_late_result_dropped() -> None:
    async with running_harness(hang_s=0.05) as harness:
        listener, slot = await harness.hold()
        harness.scheduler.watch()
        assert listener.failed == []
        assert harness.scheduler.trouble is None
        await until(lambda: harness.scheduler.busy_s() > 0.05)
        for _ in range(3):
            harness.scheduler.watch()
        assert [reason for _, reason in listener.failed] == ["inference_timeout"]
        await idle(slot, timeout=1)
        trouble = harness.scheduler.trouble
        assert trouble is not None
        assert "not answered" in trouble
        other_listener, other = harness.slot()
        other.offer(window())
        harness.backend.release()
        await idle(other, timeout=5)
        assert listener.scored == []
        assert len(listener.failed) == 1
        assert len(other_listener.scored) == 1
        assert harness.scheduler.trouble is None
        assert harness.scheduler.busy_s() == 0


async def test_a_listener_that_raises_does_not_affect_others_of_its_batch() -> None:
    """An error in one stream's callback left all streams after it in the batch without their
    scores, waiting forever."""

    class Broken(RecordingListener):
        def window_scored(self, scores: FrameScores, waited_s: float) -> None:
            raise RuntimeError("this call is broken")

    async with running_harness() as harness:
        unhandled: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unhandled.append(context["message"]))
        await harness.hold()
        slots = [harness.scheduler.slot(Broken())]
        listener, good = harness.slot()
        for slot in (*slots, good):
            slot.offer(window())
        harness.backend.release()
        await idle(good, timeout=0.5)
        assert len(listener.scored) == 1
        await idle(slots[0], timeout=0.5)
