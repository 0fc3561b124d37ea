"""Queue of recordings: limit, order, positions, tickets given back early."""

from __future__ import annotations

from stream.recordings.job_queue import JobQueue


async def test_tickets_are_granted_up_to_the_limit_in_order() -> None:
    queue = JobQueue(2)
    tickets = [queue.join() for _ in range(5)]
    assert [ticket.done() for ticket in tickets] == [True, True, False, False, False]
    assert [queue.position(ticket) for ticket in tickets] == [0, 0, 1, 2, 3]
    queue.leave(tickets[1])
    assert [queue.position(ticket) for ticket in tickets[2:]] == [0, 1, 2]
    queue.leave(tickets[0])
    assert [queue.position(ticket) for ticket in tickets[2:]] == [0, 0, 1]


async def test_a_ticket_given_back_while_it_waits_moves_the_others_up() -> None:
    queue = JobQueue(1)
    first, second, third = (queue.join() for _ in range(3))
    queue.leave(second)
    assert queue.position(third) == 1
    assert not third.done()
    queue.leave(first)
    assert third.done()
    assert not second.done()


async def test_a_ticket_given_back_while_it_waits_is_never_granted() -> None:
    queue = JobQueue(1)
    first, second = queue.join(), queue.join()
    queue.leave(second)
    queue.leave(first)
    again = queue.join()
    assert again.done()
    assert not second.done()


async def test_after_all_tickets_are_given_back_the_full_limit_is_free() -> None:
    queue = JobQueue(3)
    for ticket in [queue.join() for _ in range(7)]:
        queue.leave(ticket)
    assert [queue.join().done() for _ in range(4)] == [True, True, True, False]


async def test_a_ticket_given_back_twice_frees_one_place() -> None:
    """A job that was cancelled while it ended gave its place back twice: one too many ran."""
    queue = JobQueue(1)
    first, second, third = (queue.join() for _ in range(3))
    queue.leave(first)
    queue.leave(first)
    assert second.done()
    assert not third.done()
