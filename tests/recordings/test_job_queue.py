"""Queue of recordings: limit, order, positions, tickets given back early, turns of tenants."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from stream.recordings.job_queue import JobQueue, Ticket
from stream.tenants import DEFAULT


@dataclass(frozen=True)
class Recording:
    """A recording that arrives at a time and takes so long to analyse, in virtual seconds."""

    tenant: str
    arrives: float
    takes: float


async def waits(queue: JobQueue, recordings: Iterable[Recording]) -> dict[Recording, list[float]]:
    """Run all recordings in virtual time; return how long equal ones waited for their place."""
    waited: dict[Recording, list[float]] = {}
    events: list[tuple[float, int, Recording | Ticket]] = []
    for count, recording in enumerate(recordings):
        heapq.heappush(events, (recording.arrives, count, recording))
    waiting: dict[Ticket, Recording] = {}
    count = len(events)
    while events:
        now, _, event = heapq.heappop(events)
        if isinstance(event, Recording):
            waiting[queue.join(event.tenant)] = event
        else:
            queue.leave(event)
        for ticket in [ticket for ticket in waiting if ticket.done()]:
            recording = waiting.pop(ticket)
            waited.setdefault(recording, []).append(now - recording.arrives)
            heapq.heappush(events, (now + recording.takes, count := count + 1, ticket))
    assert not waiting
    return waited


async def test_tickets_are_granted_up_to_the_limit_in_order() -> None:
    queue = JobQueue(2)
    tickets = [queue.join(DEFAULT) for _ in range(5)]
    assert [ticket.done() for ticket in tickets] == [True, True, False, False, False]
    assert [queue.position(ticket) for ticket in tickets] == [0, 0, 1, 2, 3]
    queue.leave(tickets[1])
    assert [queue.position(ticket) for ticket in tickets[2:]] == [0, 1, 2]
    queue.leave(tickets[0])
    assert [queue.position(ticket) for ticket in tickets[2:]] == [0, 0, 1]


async def test_a_ticket_given_back_while_it_waits_moves_the_others_up() -> None:
    queue = JobQueue(1)
    first, second, third = (queue.join(DEFAULT) for _ in range(3))
    queue.leave(second)
    assert queue.position(third) == 1
    assert not third.done()
    queue.leave(first)
    assert third.done()
    assert not second.done()


async def test_a_ticket_given_back_while_it_waits_is_never_granted() -> None:
    queue = JobQueue(1)
    first, second = queue.join(DEFAULT), queue.join(DEFAULT)
    queue.leave(second)
    queue.leave(first)
    again = queue.join(DEFAULT)
    assert again.done()
    assert not second.done()


async def test_after_all_tickets_are_given_back_the_full_limit_is_free() -> None:
    queue = JobQueue(3)
    for ticket in [queue.join(DEFAULT) for _ in range(7)]:
        queue.leave(ticket)
    assert [queue.join(DEFAULT).done() for _ in range(4)] == [True, True, True, False]


async def test_a_ticket_given_back_twice_frees_one_place() -> None:
    """A job that was cancelled while it ended gave its place back twice: one too many ran."""
    queue = JobQueue(1)
    first, second, third = (queue.join(DEFAULT) for _ in range(3))
    queue.leave(first)
    queue.leave(first)
    assert second.done()
    assert not third.done()


async def test_a_recording_of_another_tenant_is_next() -> None:
    """One customer sent fifty recordings of two hours, and another's minute came after all."""
    queue = JobQueue(1)
    many = [queue.join("archive") for _ in range(5)]
    late = queue.join("clinic")
    assert queue.position(late) == 1
    assert [queue.position(ticket) for ticket in many] == [0, 2, 3, 4, 5]
    queue.leave(many[0])
    assert late.done()
    assert [ticket.done() for ticket in many] == [True, False, False, False, False]


@pytest.mark.parametrize("waiting", ["aabcba", "abb", "aaab", "bbba", "cab", "ccbbaa"])
async def test_positions_are_the_order_in_which_tickets_are_granted(waiting: str) -> None:
    queue = JobQueue(1)
    running = queue.join("a")
    left = [queue.join(tenant) for tenant in waiting]
    expected = sorted(left, key=queue.position)
    assert [queue.position(ticket) for ticket in expected] == list(range(1, len(left) + 1))
    granted = []
    while left:
        queue.leave(running)
        [running] = [ticket for ticket in left if ticket.done()]
        left.remove(running)
        granted.append(running)
    assert granted == expected


async def test_tenants_with_several_recordings_take_turns() -> None:
    queue = JobQueue(1)
    running = queue.join("a")
    tickets = {queue.join(tenant): tenant for tenant in "aaabbb"}
    order = []
    while tickets:
        queue.leave(running)
        running = next(ticket for ticket in tickets if ticket.done())
        order.append(tickets.pop(running))
    assert "".join(order) == "bababa"


async def test_a_free_place_is_for_the_tenant_that_has_none() -> None:
    """Places, not recordings, are shared: whose recordings are long does not hold more places."""
    queue = JobQueue(3)
    a = [queue.join("a") for _ in range(4)]
    b = [queue.join("b") for _ in range(3)]
    queue.leave(a[0])
    assert [ticket.done() for ticket in b] == [True, False, False]
    queue.leave(b[0])
    assert [ticket.done() for ticket in (a[3], *b)] == [False, True, True, False]


async def test_no_tenant_holds_the_last_place_of_a_shared_queue() -> None:
    """Both places were taken by recordings of two hours, and another tenant waited minutes."""
    queue = JobQueue(3, shared=True)
    first, second, third = (queue.join("archive") for _ in range(3))
    assert [ticket.done() for ticket in (first, second, third)] == [True, True, False]
    late = queue.join("clinic")
    assert late.done()
    queue.leave(late)
    assert not third.done()
    queue.leave(first)
    assert third.done()


async def test_a_shared_queue_with_one_place_serves_everyone() -> None:
    queue = JobQueue(1, shared=True)
    first, second = queue.join("a"), queue.join("b")
    queue.leave(first)
    assert second.done()


async def test_a_tenant_that_floods_the_queue_does_not_delay_another() -> None:
    """In virtual time: 200 recordings of 10 minutes at once, and one of 5 s each minute."""
    flood = [Recording("archive", 0.0, 600.0) for _ in range(200)]
    small = [Recording("clinic", 60.0 * minute, 5.0) for minute in range(1, 100)]
    waited = await waits(JobQueue(2, shared=True), flood + small)
    assert max(max(waited[recording]) for recording in small) == 0.0
    # Without a place of its own it waits for the end of one recording, however many there are.
    waited = await waits(JobQueue(2), flood + small)
    assert 0.0 < max(max(waited[recording]) for recording in small) <= 600.0


async def test_equal_tenants_wait_equally() -> None:
    both = [Recording(tenant, 0.0, 10.0) for tenant in ("a", "b") for _ in range(50)]
    waited = await waits(JobQueue(2), both)
    for a, b in zip(waited[both[0]], waited[both[-1]], strict=True):
        assert abs(a - b) <= 20.0
