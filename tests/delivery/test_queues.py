"""Conflating queue and throttle: the newest item per key, all others in order."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.delivery.queues import ConflatingQueue, Throttle


def pop_all(queue: ConflatingQueue[int]) -> list[int]:
    return [queue.pop() for _ in range(len(queue))]


def test_a_newer_item_replaces_the_one_with_its_key() -> None:
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
    assert pop_all(queue) == [100, 2, 3, 4]


def test_minor_items_are_dropped_before_others() -> None:
    queue: ConflatingQueue[str] = ConflatingQueue(3)
    queue.put("plain 1")
    queue.put("minor 1", minor=True)
    queue.put("plain 2")
    queue.put("minor 2", minor=True)
    assert queue.dropped == 1
    queue.put("plain 3")
    queue.put("plain 4")
    assert queue.dropped == 3
    assert [queue.pop() for _ in range(3)] == ["plain 2", "plain 3", "plain 4"]


def test_minor_items_count_bytes_and_leave_in_order() -> None:
    queue: ConflatingQueue[bytes] = ConflatingQueue(9, max_bytes=8)
    for item in (b"aaa", b"bbb", b"ccc"):
        queue.put(item, minor=item == b"bbb")
    assert [queue.pop(), queue.pop()] == [b"aaa", b"ccc"]
    queue.put(b"d", minor=True)
    queue.put(b"e")
    assert [queue.pop(), queue.pop()] == [b"d", b"e"]
    assert (queue.bytes, len(queue)) == (0, 0)


def test_popping_from_an_empty_queue_is_an_error() -> None:
    with pytest.raises(KeyError, match="empty"):
        ConflatingQueue[int](3).pop()


queue_operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([None, None, "a", "b", "c"])),
        st.tuples(st.just("pop"), st.none()),
    ),
    max_size=60,
)


@given(queue_operations, st.integers(1, 6))
@settings(deadline=None, max_examples=200)
def test_the_queue_behaves_like_a_plain_list(
    operations: list[tuple[str, str | None]], bound: int
) -> None:
    queue: ConflatingQueue[int] = ConflatingQueue(bound)
    expected: list[tuple[Hashable, int]] = []
    dropped = 0
    for n, (operation, key) in enumerate(operations):
        if operation == "pop":
            if expected:
                assert queue.pop() == expected.pop(0)[1]
            continue
        queue.put(n, key)
        indices = [i for i, (k, _) in enumerate(expected) if k == key and key is not None]
        if indices:
            expected[indices[0]] = (key, n)
            continue
        expected.append((key, n))
        plain = [i for i, (k, _) in enumerate(expected) if k is None]
        if len(plain) > bound:
            del expected[plain[0]]
            dropped += 1
        assert len(queue) == len(expected)
    assert queue.dropped == dropped
    assert pop_all(queue) == [item for _, item in expected]
    assert not queue._plain  # keys of removed items are not kept
    assert not queue._minor


async def test_an_item_wakes_up_the_consumer() -> None:
    queue: ConflatingQueue[int] = ConflatingQueue(3)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.put(7)
    assert await asyncio.wait_for(waiting, 1) == 7
    queue.put(8)
    assert await asyncio.wait_for(queue.get(), 1) == 8


async def test_a_cancelled_consumer_loses_no_item() -> None:
    queue: ConflatingQueue[int] = ConflatingQueue(3)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put(1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await asyncio.wait_for(queue.get(), 1) == 1


async def test_emptied_waits_for_the_last_item() -> None:
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


# -- throttle ----------------------------------------------------------------------------------


def test_of_held_items_only_the_newest_passes_when_it_is_due() -> None:
    throttle: Throttle[str] = Throttle(1.0)
    assert throttle.offer("a", "one", 10.0)
    assert not throttle.offer("a", "two", 10.4)
    assert not throttle.offer("a", "three", 10.8)
    assert throttle.next_due() == 11.0
    assert list(throttle.due(10.9)) == []
    assert list(throttle.due(11.0)) == [("a", "three")]
    assert throttle.next_due() is None
    assert not throttle.offer("a", "four", 11.5)


def test_a_forgotten_key_starts_again() -> None:
    throttle: Throttle[str] = Throttle(1.0)
    throttle.offer("a", "one", 10.0)
    throttle.offer("a", "two", 10.1)
    throttle.forget("a")
    throttle.forget("never seen")
    assert throttle.next_due() is None
    assert list(throttle.due(99.0)) == []
    assert throttle.offer("a", "three", 10.2)


def test_without_a_period_every_item_passes() -> None:
    throttle: Throttle[int] = Throttle(0.0)
    assert all(throttle.offer("a", n, 5.0) for n in range(10))


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
def test_the_throttle_agrees_with_a_simulation(
    steps: list[tuple[str, int, str]], period: int
) -> None:
    throttle: Throttle[int] = Throttle(float(period))
    passed_at: dict[str, int] = {}
    held: dict[str, int] = {}
    now = 0
    for n, (key, wait, operation) in enumerate(steps):
        now += wait

        def may_pass(k: str, at: int) -> bool:
            return k not in passed_at or at - passed_at[k] >= period

        if operation == "offer":
            passes = may_pass(key, now)
            assert throttle.offer(key, n, float(now)) == passes
            if passes:
                passed_at[key] = now
                held.pop(key, None)
            else:
                held[key] = n
        else:
            due = {k: item for k, item in held.items() if may_pass(k, now)}
            assert dict(throttle.due(float(now))) == due
            for k in due:
                passed_at[k] = now
                del held[k]
        expected = min((passed_at[k] + period for k in held), default=None)
        assert throttle.next_due() == expected


def test_bytes_are_bounded_by_dropping_the_oldest() -> None:
    queue: ConflatingQueue[bytes] = ConflatingQueue(100, max_bytes=10)
    for text in (b"aaaa", b"bbbb"):
        queue.put(text)
    assert (queue.dropped, queue.bytes) == (0, 8)
    queue.put(b"cc")
    assert (queue.dropped, queue.bytes) == (0, 10), "exactly the limit is allowed"
    queue.put(b"d")
    assert (queue.dropped, queue.bytes) == (1, 7)
    assert [queue.pop() for _ in range(3)] == [b"bbbb", b"cc", b"d"]
    assert queue.bytes == 0


def test_a_single_item_above_the_bytes_is_kept() -> None:
    """The newest event of a slow reader is worth more than an empty queue."""
    queue: ConflatingQueue[bytes] = ConflatingQueue(100, max_bytes=10)
    queue.put(b"a")
    queue.put(b"x" * 50)
    assert (len(queue), queue.dropped) == (1, 1)
    assert queue.pop() == b"x" * 50


def test_a_replaced_item_frees_its_bytes() -> None:
    queue: ConflatingQueue[str] = ConflatingQueue(100, max_bytes=10)
    queue.put("aaaaaaaa", "score")
    queue.put("bb", "score")
    assert queue.bytes == 2
    queue.put("cccccccc")
    assert (queue.bytes, queue.dropped) == (10, 0)


def test_items_of_other_kinds_count_as_their_size_says() -> None:
    queue: ConflatingQueue[range] = ConflatingQueue(100, max_bytes=10, size=len)
    for item in (range(6), range(4), range(5)):
        queue.put(item)
    assert (len(queue), queue.bytes, queue.dropped) == (2, 9, 1)
    assert queue.pop() == range(4)
    assert queue.bytes == 5


async def test_a_consumer_waits_again_after_it_emptied_the_queue() -> None:
    queue: ConflatingQueue[int] = ConflatingQueue(3)
    queue.put(1)
    assert await queue.get() == 1
    waiting = asyncio.create_task(queue.get())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    queue.put(2)
    assert await waiting == 2
