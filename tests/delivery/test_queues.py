"""Bounded waiting rooms: the newest score per stream, everything else in its order."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.delivery.queues import ConflatingQueue, Throttle


def drained(queue: ConflatingQueue[int]) -> list[int]:
    return [queue.pop() for _ in range(len(queue))]


def test_a_newer_item_takes_the_place_of_the_one_with_its_key() -> None:
    queue: ConflatingQueue[str] = ConflatingQueue(10)
    queue.put("a1", "a")
    queue.put("plain")
    queue.put("b1", "b")
    queue.put("a2", "a")
    assert [queue.pop() for _ in range(3)] == ["a2", "plain", "b1"]
    queue.put("a3", "a")
    assert queue.pop() == "a3"


def test_the_oldest_plain_item_is_dropped_and_counted() -> None:
    queue: ConflatingQueue[int] = ConflatingQueue(3)
    queue.put(100, "score")
    for n in range(5):
        queue.put(n)
    assert queue.dropped == 2
    assert drained(queue) == [100, 2, 3, 4]


def test_popping_nothing_is_an_error() -> None:
    with pytest.raises(KeyError, match="empty"):
        ConflatingQueue[int](3).pop()


puts = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([None, None, "a", "b", "c"])),
        st.tuples(st.just("pop"), st.none()),
    ),
    max_size=60,
)


@given(puts, st.integers(1, 6))
@settings(deadline=None, max_examples=200)
def test_it_does_what_a_plain_list_would(actions, bound) -> None:
    queue: ConflatingQueue[int] = ConflatingQueue(bound)
    expected: list[tuple[Hashable, int]] = []
    dropped = 0
    for n, (what, key) in enumerate(actions):
        if what == "pop":
            if expected:
                assert queue.pop() == expected.pop(0)[1]
            continue
        queue.put(n, key)
        places = [i for i, (k, _) in enumerate(expected) if k == key and key is not None]
        if places:
            expected[places[0]] = (key, n)
            continue
        expected.append((key, n))
        plain = [i for i, (k, _) in enumerate(expected) if k is None]
        if len(plain) > bound:
            del expected[plain[0]]
            dropped += 1
        assert len(queue) == len(expected)
    assert queue.dropped == dropped
    assert drained(queue) == [item for _, item in expected]
    assert not queue._plain  # keys of what was taken are not kept


def test_an_item_wakes_up_who_waits() -> None:
    async def story() -> None:
        queue: ConflatingQueue[int] = ConflatingQueue(3)
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        assert not waiting.done()
        queue.put(7)
        assert await asyncio.wait_for(waiting, 1) == 7
        queue.put(8)
        assert await asyncio.wait_for(queue.get(), 1) == 8

    asyncio.run(story())


def test_a_consumer_that_gives_up_waiting_loses_nothing() -> None:
    async def story() -> None:
        queue: ConflatingQueue[int] = ConflatingQueue(3)
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.put(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await asyncio.wait_for(queue.get(), 1) == 1

    asyncio.run(story())


def test_emptied_waits_for_the_last_item() -> None:
    async def story() -> None:
        queue: ConflatingQueue[int] = ConflatingQueue(3)
        await asyncio.wait_for(queue.emptied(), 1)
        queue.put(1)
        queue.put(2, "key")
        waiting = asyncio.create_task(queue.emptied())
        await asyncio.sleep(0)
        queue.pop()
        await asyncio.sleep(0)
        assert not waiting.done()
        queue.pop()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(story())


# -- pacer -------------------------------------------------------------------------------------


def test_of_items_in_between_only_the_newest_passes_when_its_time_has_come() -> None:
    pacer: Throttle[str] = Throttle(1.0)
    assert pacer.offer("a", "one", 10.0)
    assert not pacer.offer("a", "two", 10.4)
    assert not pacer.offer("a", "three", 10.8)
    assert pacer.next_due() == 11.0
    assert list(pacer.due(10.9)) == []
    assert list(pacer.due(11.0)) == [("a", "three")]
    assert pacer.next_due() is None
    assert not pacer.offer("a", "four", 11.5)


def test_a_forgotten_key_starts_anew() -> None:
    pacer: Throttle[str] = Throttle(1.0)
    pacer.offer("a", "one", 10.0)
    pacer.offer("a", "two", 10.1)
    pacer.forget("a")
    pacer.forget("never seen")
    assert pacer.next_due() is None
    assert list(pacer.due(99.0)) == []
    assert pacer.offer("a", "three", 10.2)


def test_without_a_period_everything_passes() -> None:
    pacer: Throttle[int] = Throttle(0.0)
    assert all(pacer.offer("a", n, 5.0) for n in range(10))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.integers(0, 8),
            st.sampled_from(["offer", "offer", "due"]),
        ),
        max_size=60,
    ),
    st.integers(1, 12),
)
@settings(deadline=None, max_examples=200)
def test_it_agrees_with_a_simulation(steps, period) -> None:
    pacer: Throttle[int] = Throttle(float(period))
    passed_at: dict[str, int] = {}
    held: dict[str, int] = {}
    now = 0
    for n, (key, wait, what) in enumerate(steps):
        now += wait

        def open_(k: str, at: int) -> bool:
            return k not in passed_at or at - passed_at[k] >= period

        if what == "offer":
            passes = open_(key, now)
            assert pacer.offer(key, n, float(now)) == passes
            if passes:
                passed_at[key] = now
                held.pop(key, None)
            else:
                held[key] = n
        else:
            ripe = {k: item for k, item in held.items() if open_(k, now)}
            assert dict(pacer.due(float(now))) == ripe
            for k in ripe:
                passed_at[k] = now
                del held[k]
        expected = min((passed_at[k] + period for k in held), default=None)
        assert pacer.next_due() == expected
