"""What a batcher does when its model fails, hangs or answers nonsense."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from stream.types import FrameScores
from tests.support.scheduling import (
    HOLE,
    POISON,
    Bench,
    Ear,
    all_idle,
    play,
    until,
    window,
)


@pytest.mark.parametrize("mark", [POISON, HOLE], ids=["raises", "NaN"])
def test_a_row_that_fails_fails_alone(mark: float) -> None:
    async def story(bench: Bench) -> None:
        await bench.hold()
        pairs = [bench.slot() for _ in range(4)]
        offered = [window(mark if n == 2 else n / 10) for n in range(4)]
        for (_, slot), own in zip(pairs, offered, strict=True):
            slot.offer(own)
        bench.backend.open.set()
        await all_idle([slot for _, slot in pairs])
        assert [len(ear.scored_) for ear, _ in pairs] == [1, 1, 0, 1]
        assert pairs[2][0].failed_ == [(offered[2], "inference_failed")]
        assert all(not ear.failed_ for n, (ear, _) in enumerate(pairs) if n != 2)
        assert np.isfinite(pairs[3][0].scored_[0].logits).all()
        assert (bench.reports[-1].size, bench.reports[-1].failed) == (4, 1)
        assert bench.scheduler.trouble is None
        assert {size for size, _ in bench.backend.shapes} <= {1, 2, 5}

    play(story)


@pytest.mark.parametrize(
    "answer",
    [
        lambda logits: logits[:-1],
        lambda logits: logits[:0],
        lambda logits: logits.mean(axis=1),
        lambda logits: logits[0, 0, 0],
    ],
    ids=["a row short", "no rows", "utterance logits", "a number"],
)
def test_an_answer_of_the_wrong_shape_is_a_failure(answer) -> None:
    """Logits of a whole utterance instead of its frames, handed on, broke the channel."""

    async def story(bench: Bench) -> None:
        await bench.hold()
        pairs = [bench.slot() for _ in range(5)]
        for _, slot in pairs:
            slot.offer(window())
        bench.backend.answer = answer
        bench.backend.open.set()
        await all_idle([slot for _, slot in pairs])
        assert [[reason for _, reason in ear.failed_] for ear, _ in pairs] == [
            ["inference_failed"]
        ] * 5

    play(story)


def test_a_batch_without_memory_is_halved_and_later_batches_are_smaller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A card that is shared has less memory than it had at the start. A batch of 32 that no longer
    fits must not cost 32 windows, nor be tried again every time."""

    async def story(bench: Bench) -> None:
        await bench.hold()
        pairs = [bench.slot() for _ in range(5)]
        for _, slot in pairs:
            slot.offer(window())
        bench.backend.memory = 2
        bench.backend.open.set()
        await all_idle([slot for _, slot in pairs])
        assert all(len(ear.scored_) == 1 and not ear.failed_ for ear, _ in pairs)
        assert [size for size, _ in bench.backend.shapes] == [5, 2, 3, 1, 2]
        assert bench.scheduler.trouble is None
        bench.forget()
        for _, slot in pairs:
            slot.offer(window())
        await all_idle([slot for _, slot in pairs])
        assert {size for size, _ in bench.backend.shapes} == {1, 2}
        assert all(len(ear.scored_) == 2 for ear, _ in pairs)
        warnings = [record for record in caplog.records if "out of memory" in record.message]
        assert [record.__dict__["max_batch"] for record in warnings] == [2]

    play(story)


def test_a_window_that_finds_no_memory_at_all_is_lost_alone() -> None:
    async def story(bench: Bench) -> None:
        ear, slot = bench.slot()
        bench.backend.memory = 0
        slot.offer(window())
        assert await slot.idle(20)
        assert [reason for _, reason in ear.failed_] == ["inference_failed"]
        bench.backend.memory = 5
        slot.offer(window())
        assert await slot.idle(20)
        assert len(ear.scored_) == 1

    play(story)


def test_a_batch_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story(bench: Bench) -> None:
        await bench.hold()
        pairs = [bench.slot() for _ in range(5)]
        for _, slot in pairs:
            slot.offer(window())
        bench.backend.broken = True
        bench.backend.open.set()
        await all_idle([slot for _, slot in pairs])
        logged = [record for record in caplog.records if record.message == "batch failed"]
        # Single rows are logged when the model is asked whether it is well.
        assert [record.__dict__["size"] for record in logged if record.__dict__["size"] > 1] == [5]

    play(story)


def test_three_batches_that_fail_are_trouble_until_one_succeeds() -> None:
    async def story(bench: Bench) -> None:
        ear, slot = bench.slot()

        async def once() -> str | None:
            slot.offer(window())
            assert await slot.idle(20)
            return bench.scheduler.trouble

        bench.backend.broken = True
        assert await once() is None
        assert await once() is None
        assert await once() == "the last 3 batches failed"
        assert [reason for _, reason in ear.failed_] == ["inference_failed"] * 3
        bench.backend.broken = False
        assert await once() is None
        assert len(ear.scored_) == 1

    play(story)


def test_a_batch_that_hangs_is_given_up_and_its_late_answer_thrown_away() -> None:
    async def story(bench: Bench) -> None:
        ear, slot = await bench.hold()
        bench.scheduler.watch()
        assert ear.failed_ == []
        assert bench.scheduler.trouble is None
        await until(lambda: bench.scheduler.busy_s() > 0.05)
        for _ in range(3):
            bench.scheduler.watch()
        assert [reason for _, reason in ear.failed_] == ["inference_timeout"]
        assert await slot.idle(1)
        trouble = bench.scheduler.trouble
        assert trouble is not None
        assert "not answered" in trouble
        next_, other = bench.slot()
        other.offer(window())
        bench.backend.open.set()
        assert await other.idle(5)
        assert ear.scored_ == []
        assert len(ear.failed_) == 1
        assert len(next_.scored_) == 1
        assert bench.scheduler.trouble is None
        assert bench.scheduler.busy_s() == 0

    play(story, hang_s=0.05)


def test_a_listener_that_breaks_does_not_hurt_the_others_of_its_batch() -> None:
    """One bad call never hurts another: an error while one stream takes its scores left all after
    it in the batch without theirs, waiting for ever."""

    class Broken(Ear):
        def scored(self, scores: FrameScores, waited_s: float) -> None:
            raise RuntimeError("this call is broken")

    async def story(bench: Bench) -> None:
        noticed: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: noticed.append(context["message"]))
        await bench.hold()
        slots = [bench.scheduler.slot(Broken())]
        ear, good = bench.slot()
        for slot in (*slots, good):
            slot.offer(window())
        bench.backend.open.set()
        assert await good.idle(0.5)
        assert len(ear.scored_) == 1
        assert await slots[0].idle(0.5)

    play(story)
