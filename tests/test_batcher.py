"""The batcher with real threads: fair, bounded, and one bad window never hurts another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.batcher import Batcher, BatchReport
from stream.slot import Slot
from stream.types import FRAME, FrameScores, GapReason, ModelInfo, Quality, Window
from tests.signals import ToneBackend, frame_count, model, sine

QUALITY = Quality(-20.0, 0.0, None, None, 1.0)
SHORT, LONG = 3_200, 6_400
POISON, HOLE = 0.9, 0.8
"""First samples that make the backend raise, or answer with NaN."""


class Gate(ToneBackend):
    """A stand-in backend that a test can hold, break and look into."""

    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info)
        self.shapes: list[tuple[int, int]] = []
        self.order: list[list[float]] = []
        self.thread: threading.Thread | None = None
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.broken = False
        self.plain = 0
        self.answer: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.plain += 1
        return self.embed(batch)[0]

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.thread = threading.current_thread()
        self.shapes.append(batch.shape)
        self.order.append(batch[:, 0].tolist())
        self.entered.release()
        assert self.open.wait(10)
        if self.broken or (batch[:, 0] == np.float32(POISON)).any():
            raise RuntimeError("the model choked")
        logits, features = super().embed(batch)
        logits[batch[:, 0] == np.float32(HOLE)] = np.nan
        return (logits if self.answer is None else self.answer(logits)), features


@dataclass
class Ear:
    """Listens for one channel; remembers on which thread it was told."""

    name: str = ""
    taken_: list[Window] = field(default_factory=list)
    scored_: list[FrameScores] = field(default_factory=list)
    failed_: list[tuple[Window, GapReason]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    waited: list[float] = field(default_factory=list)

    def taken(self, window: Window) -> None:
        self.threads.add(threading.get_ident())
        self.taken_.append(window)

    def scored(self, scores: FrameScores, waited_s: float) -> None:
        self.threads.add(threading.get_ident())
        self.scored_.append(scores)
        self.waited.append(waited_s)

    def failed(self, window: Window, reason: GapReason) -> None:
        self.threads.add(threading.get_ident())
        self.failed_.append((window, reason))


class Bench:
    """A started batcher with its backend, and slots on demand."""

    def __init__(self, max_batch: int = 5, hang_s: float = 10.0, wait_s: float = 0.0) -> None:
        self.backend = Gate(model(lengths=(SHORT, LONG), batch_sizes=(1, 2, 5)))
        self.reports: list[BatchReport] = []
        self.batcher = Batcher(lambda: self.backend, max_batch, wait_s, hang_s, self.reports.append)
        self.ears: list[Ear] = []

    def slot(self, embed: bool = False) -> tuple[Ear, Slot]:
        ear = Ear()
        self.ears.append(ear)
        return ear, self.batcher.slot(ear, embed)

    async def hold(self) -> tuple[Ear, Slot]:
        """Keep the backend busy with a window of its own, so that others have to wait."""
        self.backend.open.clear()
        ear, slot = self.slot()
        slot.offer(window(0.001))
        await until(lambda: bool(ear.taken_))
        self.forget()
        return ear, slot

    def forget(self) -> None:
        self.backend.shapes.clear()
        self.backend.order.clear()
        self.reports.clear()
        while self.backend.entered.acquire(blocking=False):
            pass

    def enter(self) -> None:
        """Block the loop (!) until the backend has begun a batch."""
        assert self.backend.entered.acquire(timeout=20)


def window(mark: float = 0.5, length: int = SHORT, end: int = 0) -> Window:
    """A window that can be told apart by its first sample."""
    audio = sine(length / 16_000, 300)
    audio[0] = mark
    return Window(
        0, end - length, audio, end - length, ((end - length, end),), 0, 0, "interval", QUALITY
    )


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.002)


def play(story: Callable[[Bench], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a story with a started bench and stop the batcher after it."""

    async def run() -> None:
        bench = Bench(**settings)
        await bench.batcher.start([SHORT, LONG])
        bench.forget()
        try:
            await story(bench)
        finally:
            bench.backend.open.set()
            await bench.batcher.stop(5)
        assert not bench.batcher._thread.is_alive()
        assert bench.backend.closed

    asyncio.run(run())


async def all_idle(slots: list[Slot]) -> None:
    for slot in slots:
        assert await slot.idle(20)


def expected(bench: Bench, of: Window) -> NDArray[np.float32]:
    return ToneBackend(bench.backend.info).infer(of.audio[None])[0]


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


# -- start and stop ----------------------------------------------------------------------------


def test_every_shape_is_warmed_up_the_largest_first() -> None:
    async def story() -> None:
        bench = Bench()
        assert bench.batcher.warm_up.share == 0
        info = await bench.batcher.start([SHORT, LONG])
        assert info is bench.backend.info
        shapes = [(size, length) for length in (LONG, SHORT) for size in (5, 2, 1)]
        assert bench.backend.shapes == shapes
        assert bench.batcher.warm_up.share == 1.0
        assert bench.batcher.trouble is None
        await bench.batcher.stop(5)

    asyncio.run(story())


def test_sizes_beyond_the_configured_batch_are_neither_warmed_nor_used() -> None:
    async def story(bench: Bench) -> None:
        await bench.hold()
        pairs = [bench.slot() for _ in range(5)]
        for _, slot in pairs:
            slot.offer(window())
        bench.backend.open.set()
        await all_idle([slot for _, slot in pairs])
        assert {size for size, _ in bench.backend.shapes} <= {1, 2}

    play(story, max_batch=3)


@pytest.mark.parametrize("error", [FileNotFoundError("no model"), SystemExit(3), MemoryError()])
def test_what_goes_wrong_while_loading_is_raised_by_start(error: BaseException) -> None:
    def load() -> Any:
        raise error

    async def story() -> None:
        batcher = Batcher(load, 4, 0.0, 10.0)
        with pytest.raises(type(error)):
            await batcher.start([SHORT])
        await batcher.stop(1)

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        lambda logits: logits[0],
        lambda logits: logits[:1, :, 0],
        lambda logits: np.concatenate([logits, logits]),
        lambda logits: logits * np.nan,
    ],
    ids=["one row", "no labels", "too many rows", "NaN"],
)
def test_a_model_that_answers_nonsense_is_refused_at_the_start(answer) -> None:
    async def story() -> None:
        bench = Bench()
        bench.backend.answer = answer
        with pytest.raises(RuntimeError, match="expected finite"):
            await bench.batcher.start([SHORT])
        await bench.batcher.stop(1)

    asyncio.run(story())


def test_stopping_ends_the_thread_and_what_waits_is_not_scored() -> None:
    async def story() -> None:
        bench = Bench()
        await bench.batcher.start([SHORT])
        busy, _ = await bench.hold()
        ear, slot = bench.slot()
        slot.offer(window())
        stopping = asyncio.create_task(bench.batcher.stop(5))
        await asyncio.sleep(0.02)
        bench.backend.open.set()
        await stopping
        assert not bench.batcher._thread.is_alive()
        await until(lambda: bool(busy.scored_))
        assert (ear.taken_, ear.scored_, ear.failed_) == ([], [], [])

    asyncio.run(story())


def test_it_can_be_stopped_before_it_was_started() -> None:
    asyncio.run(Batcher(lambda: Gate(model()), 4, 0.0, 10.0).stop(1))


# -- batches -----------------------------------------------------------------------------------


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
        assert bench.batcher.waiting == 6
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
        assert bench.batcher.waiting == 2
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
        chatty.slot = bench.batcher.slot(chatty)
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
        assert bench.batcher.waiting == 0
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


# -- failures ----------------------------------------------------------------------------------


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
        assert bench.batcher.trouble is None
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


def test_three_batches_that_fail_are_trouble_until_one_succeeds() -> None:
    async def story(bench: Bench) -> None:
        ear, slot = bench.slot()

        async def once() -> str | None:
            slot.offer(window())
            assert await slot.idle(20)
            return bench.batcher.trouble

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
        bench.batcher.watch()
        assert ear.failed_ == []
        assert bench.batcher.trouble is None
        await until(lambda: bench.batcher.busy_s() > 0.05)
        for _ in range(3):
            bench.batcher.watch()
        assert [reason for _, reason in ear.failed_] == ["inference_timeout"]
        assert await slot.idle(1)
        trouble = bench.batcher.trouble
        assert trouble is not None
        assert "not answered" in trouble
        next_, other = bench.slot()
        other.offer(window())
        bench.backend.open.set()
        assert await other.idle(5)
        assert ear.scored_ == []
        assert len(ear.failed_) == 1
        assert len(next_.scored_) == 1
        assert bench.batcher.trouble is None
        assert bench.batcher.busy_s() == 0

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
        slots = [bench.batcher.slot(Broken())]
        ear, good = bench.slot()
        for slot in (*slots, good):
            slot.offer(window())
        bench.backend.open.set()
        assert await good.idle(0.5)
        assert len(ear.scored_) == 1
        assert await slots[0].idle(0.5)

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
        await until(lambda: bench.batcher.waiting == 20)
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


def test_waiting_for_a_slot_ends_at_its_limit() -> None:
    async def story(bench: Bench) -> None:
        _, slot = await bench.hold()
        checks: list[Awaitable[bool]] = [slot.idle(0.02), slot.idle(0)]
        assert not any([await check for check in checks])
        assert await slot.free(0)

    play(story)


def test_frames_are_on_the_model_s_grid() -> None:
    assert model().frame_hop == FRAME
