"""The scheduler with real threads: fairness, bounds, and isolation of one window from another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import numpy as np

from stream.inference.slot import Slot
from stream.types import FRAME, Window
from tests.support.scheduling import (
    LONG,
    SHORT,
    RecordingListener,
    expected,
    idle,
    running_harness,
    until,
    window,
)
from tests.support.signals import frame_count, model, sine


async def test_only_slots_with_embed_get_features() -> None:
    """Both slots share one batch; if no slot asks for features, the backend does not embed."""

    async with running_harness() as harness:
        _, busy = await harness.hold()
        (with_features, one), (without, two) = harness.slot(embed=True), harness.slot()
        harness.backend.infer_calls = 0
        one.offer(window(0.3))
        two.offer(window(0.4))
        harness.backend.release()
        await idle(busy, one, two)
        assert harness.backend.infer_calls == 0
        (scores,) = with_features.scored
        assert scores.features is not None
        assert scores.features.shape == (*scores.logits.shape[:1], 3)
        np.testing.assert_array_equal(scores.logits, expected(harness, scores.window))
        assert without.scored[0].features is None
        two.offer(window(0.4))
        await idle(two)
        assert harness.backend.infer_calls == 1


async def test_callbacks_run_on_the_event_loop_s_thread() -> None:
    async with running_harness() as harness:
        listener, slot = harness.slot()
        offered = window()
        assert slot.offer(offered) is None
        assert slot.waiting
        await idle(slot)
        assert listener.taken == [offered]
        assert listener.scored[0].window is offered
        assert np.array_equal(listener.scored[0].logits, expected(harness, offered))
        assert listener.scored[0].logits.shape == (frame_count(SHORT), 9)
        assert listener.threads == {threading.get_ident()}
        assert harness.backend.thread is not threading.current_thread()
        assert 0 <= listener.waited[0] < 5
        assert [(r.size, r.failed) for r in harness.reports] == [(1, 0)]


async def test_a_batch_has_windows_of_one_length_oldest_first() -> None:
    async with running_harness() as harness:
        await harness.hold()
        lengths = [LONG, SHORT, LONG, SHORT, SHORT, SHORT]
        pairs = [harness.slot() for _ in lengths]
        for n, ((_, slot), length) in enumerate(zip(pairs, lengths, strict=True)):
            slot.offer(window(n / 10, length))
        assert harness.scheduler.waiting == 6
        harness.backend.release()
        await idle(*[slot for _, slot in pairs])
        assert harness.backend.shapes == [(2, LONG), (5, SHORT)]
        marks = np.round(np.array(harness.backend.marks[1]), 3).tolist()
        assert np.round(harness.backend.marks[0], 3).tolist() == [0.0, 0.2]
        assert marks[:4] == [0.1, 0.3, 0.4, 0.5]


async def test_a_nearly_full_batch_is_filled_with_a_repeated_row_that_is_not_reported() -> None:
    async with running_harness() as harness:
        await harness.hold()
        pairs = [harness.slot() for _ in range(4)]
        for n, (_, slot) in enumerate(pairs):
            slot.offer(window(n / 10))
        harness.backend.release()
        await idle(*[slot for _, slot in pairs])
        assert harness.backend.shapes == [(5, SHORT)]
        assert [len(listener.scored) for listener, _ in pairs] == [1, 1, 1, 1]
        assert [(r.size, len(r.queued_s)) for r in harness.reports[1:]] == [(4, 4)]


async def test_batches_have_only_sizes_of_the_model_and_few_repeated_rows() -> None:
    async with running_harness() as harness:
        for count in (1, 2, 3, 4, 5, 7, 9, 11):
            await harness.hold()
            pairs = [harness.slot() for _ in range(count)]
            for n, (_, slot) in enumerate(pairs):
                slot.offer(window(n / 20))
            harness.backend.release()
            await idle(*[slot for _, slot in pairs])
            sizes = [size for size, _ in harness.backend.shapes]
            assert set(sizes) <= {1, 2, 5}
            assert count <= sum(sizes) <= count / 0.8
            marks = [round(mark * 20) for order in harness.backend.marks for mark in order]
            assert list(dict.fromkeys(marks)) == list(range(count))  # still oldest first


async def test_every_row_gets_its_own_scores() -> None:
    async with running_harness() as harness:
        await harness.hold()
        pairs = [harness.slot() for _ in range(4)]
        offered = []
        for n, (_, slot) in enumerate(pairs):
            own = window(n / 10)
            own.audio[:] = sine(SHORT / 16_000, 200 * (n + 1), -10 * (n + 1))
            offered.append(own)
            slot.offer(own)
        harness.backend.release()
        await idle(*[slot for _, slot in pairs])
        for (listener, _), own in zip(pairs, offered, strict=True):
            assert np.allclose(listener.scored[0].logits, expected(harness, own), atol=1e-6)
        tops = {listener.scored[0].logits.tobytes() for listener, _ in pairs}
        assert len(tops) == 4


async def test_a_newer_window_replaces_the_waiting_one_and_keeps_its_place() -> None:
    async with running_harness() as harness:
        await harness.hold()
        (first, slot), (second, other) = harness.slot(), harness.slot()
        old, new = window(0.1), window(0.2)
        assert slot.offer(old) is None
        assert other.offer(window(0.3, LONG)) is None
        assert slot.offer(new) is old
        assert harness.scheduler.waiting == 2
        harness.backend.release()
        await idle(slot, other)
        assert first.taken == [new]
        assert [scores.window for scores in first.scored] == [new]
        assert len(second.scored) == 1
        assert harness.backend.shapes == [(1, SHORT), (1, LONG)]


async def test_a_window_in_flight_is_not_replaced() -> None:
    async with running_harness() as harness:
        listener, slot = await harness.hold()
        assert slot.offer(window(0.2)) is None
        await asyncio.sleep(0.02)
        assert slot.waiting
        harness.backend.release()
        await idle(slot)
        assert len(listener.scored) == 2


async def test_a_chatty_stream_cannot_starve_a_quiet_one() -> None:
    """The chatty stream always has a newer window ready, of the same length as the others."""

    async with running_harness() as harness:
        served: Counter[str] = Counter()

        class Chatty(RecordingListener):
            slot: Slot

            def window_taken(self, window: Window) -> None:
                served["chatty"] += 1
                if served["chatty"] < 200:
                    for _ in range(3):
                        self.slot.offer(globals()["window"]())

        chatty = Chatty()
        chatty.slot = harness.scheduler.slot(chatty)
        chatty.slot.offer(window())
        await until(lambda: served["chatty"] > 3)
        for n in range(4):
            quiet, slot = harness.slot()
            before = len(harness.backend.marks)
            mark = (n + 1) / 100
            slot.offer(window(mark, LONG if n % 2 else SHORT))
            await idle(slot)
            assert len(quiet.scored) == 1
            batches = [np.round(order, 3).tolist() for order in harness.backend.marks]
            served_in = next(i for i, order in enumerate(batches) if mark in order)
            # The batch that had begun, and the one window that was already waiting.
            assert served_in - before <= 2
        served["chatty"] = 200
        await idle(chatty.slot, timeout=5)


async def test_a_batch_that_is_not_full_waits_up_to_max_wait_s() -> None:
    async with running_harness(wait_s=0.15) as harness:
        pairs = [harness.slot() for _ in range(4)]
        for _, slot in pairs:
            slot.offer(window())
            await asyncio.sleep(0.005)
        await idle(*[slot for _, slot in pairs])
        assert harness.backend.shapes == [(5, SHORT)]


async def test_a_full_batch_does_not_wait() -> None:
    async with running_harness(wait_s=5.0) as harness:
        pairs = [harness.slot() for _ in range(5)]
        began = time.monotonic()
        for _, slot in pairs:
            slot.offer(window())
        await idle(*[slot for _, slot in pairs])
        assert time.monotonic() - began < 4


async def test_a_withdrawn_window_is_not_scored() -> None:
    async with running_harness() as harness:
        await harness.hold()
        listener, slot = harness.slot()
        slot.offer(window())
        slot.withdraw()
        assert not slot.waiting
        assert harness.scheduler.waiting == 0
        harness.backend.release()
        _, second = harness.slot()
        second.offer(window())
        await idle(second, timeout=5)
        assert (listener.taken, listener.scored, listener.failed) == ([], [], [])


async def test_a_window_withdrawn_while_it_is_being_taken_is_not_reported() -> None:
    """If a speaker objected just when the model took a window, a score followed
    `session.closed`."""

    async with running_harness() as harness:
        listener, slot = harness.slot()
        harness.backend.hold()
        slot.offer(window())
        await harness.batch_begun()
        slot.withdraw()
        harness.backend.release()
        _, second = harness.slot()
        second.offer(window())
        await idle(second, timeout=5)
        assert (len(listener.taken), listener.scored, listener.failed) == (1, [], [])


async def test_many_streams_at_once_all_get_their_own_scores() -> None:
    """The model is held until all twenty windows wait. Otherwise they may arrive one by one on a
    busy machine, and there is nothing to batch."""

    async with running_harness() as harness:
        await harness.hold()

        async def stream(n: int) -> RecordingListener:
            listener, slot = harness.slot()
            for number in range(6):
                slot.offer(window(n / 100, LONG if (n + number) % 3 == 0 else SHORT))
                await idle(slot, timeout=10)
            return listener

        streams = asyncio.gather(*(stream(n) for n in range(20)))
        # A full batch of five is queued behind the one that is held.
        await until(lambda: harness.scheduler.waiting == 15)
        harness.backend.release()
        listeners = await streams
        for n, listener in enumerate(listeners):
            assert len(listener.taken) == len(listener.scored) == 6
            assert not listener.failed
            assert {float(s.window.audio[0]) for s in listener.scored} == {
                float(np.float32(n / 100))
            }
        assert {size for size, _ in harness.backend.shapes} <= {1, 2, 5}
        held = 1
        assert sum(report.size for report in harness.reports) == held + 120
        assert len(harness.reports) < held + 120


def test_frames_are_on_the_model_s_grid() -> None:
    assert model().frame_hop == FRAME
