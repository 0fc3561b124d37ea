"""The batcher with real threads: fair, bounded, and one bad window never hurts another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from stream.inference.slot import Slot
from stream.types import FRAME, Window
from tests.support.scheduling import (
    LONG,
    SHORT,
    Bench,
    Ear,
    all_idle,
    expected,
    play,
    until,
    window,
)
from tests.support.signals import frame_count, model, sine


def test_features_go_to_those_who_asked_and_nobody_else() -> None:
    """One batch for both; without anybody who asks, the backend is not even asked to embed."""

    async def story(bench: Bench) -> None:
        _, gate = await bench.hold()
        (asks, one), (other, two) = bench.slot(embed=True), bench.slot()
        bench.backend.plain = 0
        one.offer(window(0.3))
        two.offer(window(0.4))
        bench.backend.open.set()
        await all_idle([gate, one, two])
        assert bench.backend.plain == 0
        (scores,) = asks.scored_
        assert scores.features is not None
        assert scores.features.shape == (*scores.logits.shape[:1], 3)
        np.testing.assert_array_equal(scores.logits, expected(bench, scores.window))
        assert other.scored_[0].features is None
        two.offer(window(0.4))
        await all_idle([two])
        assert bench.backend.plain == 1

    play(story)


def test_a_window_is_taken_scored_and_told_on_the_loop_s_thread() -> None:
    async def story(bench: Bench) -> None:
        ear, slot = bench.slot()
        offered = window()
        assert slot._idle.is_set()
        assert slot.offer(offered) is None
        assert not slot._idle.is_set()
        assert await slot.idle(20)
        assert await slot.free(0)
        assert ear.taken_ == [offered]
        assert ear.scored_[0].window is offered
        assert np.array_equal(ear.scored_[0].logits, expected(bench, offered))
        assert ear.scored_[0].logits.shape == (frame_count(SHORT), 9)
        assert ear.threads == {threading.get_ident()}
        assert bench.backend.thread is not threading.current_thread()
        assert 0 <= ear.waited[0] < 5
        assert [(r.size, r.failed) for r in bench.reports] == [(1, 0)]

    play(story)


def test_a_batch_holds_one_length_oldest_first_and_the_rest_wait() -> None:
    async def story(bench: Bench) -> None:
        await bench.hold()
        lengths = [LONG, SHORT, LONG, SHORT, SHORT, SHORT]
        pairs = [bench.slot() for _ in lengths]
        for n, ((_, slot), length) in enumerate(zip(pairs, lengths, strict=True)):
            slot.offer(window(n / 10, length))
        assert bench.scheduler.waiting == 6
        bench.backend.open.set()
        await all_idle([slot for _, slot in pairs])
        assert bench.backend.shapes == [(2, LONG), (5, SHORT)]
        marks = np.round(np.array(bench.backend.order[1]), 3).tolist()
        assert np.round(bench.backend.order[0], 3).tolist() == [0.0, 0.2]
        assert marks[:4] == [0.1, 0.3, 0.4, 0.5]

    play(story)


def test_a_batch_that_is_nearly_full_is_filled_up_with_a_row_that_nobody_gets() -> None:
    async def story(bench: Bench) -> None:
        await bench.hold()
        pairs = [bench.slot() for _ in range(4)]
        for n, (_, slot) in enumerate(pairs):
            slot.offer(window(n / 10))
        bench.backend.open.set()
        await all_idle([slot for _, slot in pairs])
        assert bench.backend.shapes == [(5, SHORT)]
        assert [len(ear.scored_) for ear, _ in pairs] == [1, 1, 1, 1]
        assert [(r.size, len(r.queued_s)) for r in bench.reports[1:]] == [(4, 4)]

    play(story)


def test_only_sizes_that_the_model_knows_are_asked_for_and_little_is_wasted() -> None:
    async def story(bench: Bench) -> None:
        for count in (1, 2, 3, 4, 5, 7, 9, 11):
            await bench.hold()
            pairs = [bench.slot() for _ in range(count)]
            for n, (_, slot) in enumerate(pairs):
                slot.offer(window(n / 20))
            bench.backend.open.set()
            await all_idle([slot for _, slot in pairs])
            sizes = [size for size, _ in bench.backend.shapes]
            assert set(sizes) <= {1, 2, 5}
            assert count <= sum(sizes) <= count / 0.8
            marks = [round(mark * 20) for order in bench.backend.order for mark in order]
            assert list(dict.fromkeys(marks)) == list(range(count))  # still oldest first

    play(story)


def test_every_row_gets_its_own_scores() -> None:
    async def story(bench: Bench) -> None:
        await bench.hold()
        pairs = [bench.slot() for _ in range(4)]
        offered = []
        for n, (_, slot) in enumerate(pairs):
            own = window(n / 10)
            own.audio[:] = sine(SHORT / 16_000, 200 * (n + 1), -10 * (n + 1))
            offered.append(own)
            slot.offer(own)
        bench.backend.open.set()
        await all_idle([slot for _, slot in pairs])
        for (ear, _), own in zip(pairs, offered, strict=True):
            assert np.allclose(ear.scored_[0].logits, expected(bench, own), atol=1e-6)
        tops = {ear.scored_[0].logits.tobytes() for ear, _ in pairs}
        assert len(tops) == 4

    play(story)


def test_a_newer_window_replaces_the_one_that_waits_and_keeps_its_place() -> None:
    async def story(bench: Bench) -> None:
        await bench.hold()
        (first, slot), (second, other) = bench.slot(), bench.slot()
        old, new = window(0.1), window(0.2)
        assert slot.offer(old) is None
        assert other.offer(window(0.3, LONG)) is None
        assert slot.offer(new) is old
        assert bench.scheduler.waiting == 2
        bench.backend.open.set()
        await all_idle([slot, other])
        assert first.taken_ == [new]
        assert [scores.window for scores in first.scored_] == [new]
        assert len(second.scored_) == 1
        assert bench.backend.shapes == [(1, SHORT), (1, LONG)]

    play(story)


def test_a_window_in_flight_is_not_replaced() -> None:
    async def story(bench: Bench) -> None:
        ear, slot = await bench.hold()
        assert slot.offer(window(0.2)) is None
        assert not await slot.free(0.02)
        bench.backend.open.set()
        assert await slot.idle(20)
        assert len(ear.scored_) == 2

    play(story)


def test_a_chatty_stream_cannot_starve_a_quiet_one() -> None:
    """The chatty one always has a newer window ready, of the length everybody else has too."""

    async def story(bench: Bench) -> None:
        served: Counter[str] = Counter()

        class Chatty(Ear):
            slot: Slot

            def taken(self, window: Window) -> None:
                served["chatty"] += 1
                if served["chatty"] < 200:
                    for _ in range(3):
                        self.slot.offer(globals()["window"]())

        chatty = Chatty()
        chatty.slot = bench.scheduler.slot(chatty)
        chatty.slot.offer(window())
        await until(lambda: served["chatty"] > 3)
        for n in range(4):
            quiet, slot = bench.slot()
            before = len(bench.backend.order)
            mark = (n + 1) / 100
            slot.offer(window(mark, LONG if n % 2 else SHORT))
            assert await slot.idle(20)
            assert len(quiet.scored_) == 1
            batches = [np.round(order, 3).tolist() for order in bench.backend.order]
            served_in = next(i for i, order in enumerate(batches) if mark in order)
            # The batch that has begun, and the one window that waited before.
            assert served_in - before <= 2
        served["chatty"] = 200
        assert await chatty.slot.idle(5)

    play(story)


def test_a_batch_that_is_not_full_waits_a_moment_for_more() -> None:
    async def story(bench: Bench) -> None:
        pairs = [bench.slot() for _ in range(4)]
        for _, slot in pairs:
            slot.offer(window())
            await asyncio.sleep(0.005)
        await all_idle([slot for _, slot in pairs])
        assert bench.backend.shapes == [(5, SHORT)]

    play(story, wait_s=0.15)


def test_a_full_batch_does_not_wait() -> None:
    async def story(bench: Bench) -> None:
        pairs = [bench.slot() for _ in range(5)]
        began = time.monotonic()
        for _, slot in pairs:
            slot.offer(window())
        await all_idle([slot for _, slot in pairs])
        assert time.monotonic() - began < 4

    play(story, wait_s=5.0)


def test_what_was_withdrawn_is_not_scored() -> None:
    async def story(bench: Bench) -> None:
        await bench.hold()
        ear, slot = bench.slot()
        slot.offer(window())
        slot.withdraw()
        assert slot._idle.is_set()
        assert await slot.free(0)
        assert bench.scheduler.waiting == 0
        bench.backend.open.set()
        _, second = bench.slot()
        second.offer(window())
        assert await second.idle(5)
        assert (ear.taken_, ear.scored_, ear.failed_) == ([], [], [])

    play(story)


def test_nobody_is_told_of_a_window_that_was_withdrawn_while_it_was_being_taken() -> None:
    """The thread takes a window at once, the loop hears of it a moment later. A speaker who
    objected in between got a score after `session.closed`: withdrawing found nothing waiting and
    nothing in flight."""

    async def story(bench: Bench) -> None:
        ear, slot = bench.slot()
        bench.backend.open.clear()
        slot.offer(window())
        bench.enter()
        slot.withdraw()
        bench.backend.open.set()
        _, second = bench.slot()
        second.offer(window())
        assert await second.idle(5)
        assert (ear.taken_, ear.scored_, ear.failed_) == ([], [], [])

    play(story)


def test_a_slot_is_not_idle_before_its_last_window_is_told() -> None:
    """A loop that is late hears that the first window was taken, when the second one is no longer
    waiting either: the slot believed that all was done, and the stream was closed before the
    result of its last window."""

    async def story(bench: Bench) -> None:
        ear, slot = bench.slot()

        def only_this_one(logits: NDArray[np.float32]) -> NDArray[np.float32]:
            bench.backend.open.clear()
            return logits

        bench.backend.open.clear()
        bench.backend.answer = only_this_one
        slot.offer(window(0.1))
        bench.enter()  # the first is in flight, the loop has not heard of it
        slot.offer(window(0.2))
        bench.backend.open.set()
        bench.enter()  # the second one too, and it stays there
        assert not await slot.idle(0.05)
        bench.backend.open.set()
        assert await slot.idle(20)
        assert len(ear.scored_) == 2

    play(story)


def test_many_streams_at_once_all_get_exactly_what_they_asked_for() -> None:
    """The model is held until all twenty wait: else a busy machine may bring them one by one, and
    then there is nothing to batch."""

    async def story(bench: Bench) -> None:
        await bench.hold()

        async def talk(n: int) -> Ear:
            ear, slot = bench.slot()
            for turn in range(6):
                slot.offer(window(n / 100, LONG if (n + turn) % 3 == 0 else SHORT))
                assert await slot.idle(10)
            return ear

        talking = asyncio.gather(*(talk(n) for n in range(20)))
        await until(lambda: bench.scheduler.waiting == 20)
        bench.backend.open.set()
        ears = await talking
        for n, ear in enumerate(ears):
            assert len(ear.taken_) == len(ear.scored_) == 6
            assert not ear.failed_
            assert {float(s.window.audio[0]) for s in ear.scored_} == {float(np.float32(n / 100))}
        assert {size for size, _ in bench.backend.shapes} <= {1, 2, 5}
        held = 1
        assert sum(report.size for report in bench.reports) == held + 120
        assert len(bench.reports) < held + 120

    play(story)


def test_frames_are_on_the_model_s_grid() -> None:
    assert model().frame_hop == FRAME
