"""Who hears what: filters, pacing, and nothing kept of streams that ended."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest

from stream.delivery.hub import Hub
from stream.delivery.live_stream import LiveStream
from stream.delivery.queues import ConflatingQueue
from stream.delivery.subscription import Subscription
from stream.protocol.events import EncodedEvent, encode
from stream.protocol.messages import Filter, Subscribe


class Clock:
    """The part of an event loop that a subscription needs, with time in the test's hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        timer = (when, callback)
        self.timers.append(timer)
        clock = self

        class Handle:
            def cancel(self) -> None:
                if timer in clock.timers:
                    clock.timers.remove(timer)

        return Handle()

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while ripe := [timer for timer in self.timers if timer[0] <= until]:
            first = min(ripe, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = until


class Ear:
    """A subscriber's outbox and subscription."""

    def __init__(self, clock: Clock, **wanted: Any) -> None:
        self.outbox: ConflatingQueue[bytes] = ConflatingQueue(100)
        message = Subscribe.model_validate({"type": "subscribe", **wanted})
        self.subscription = Subscription(message, self.outbox, clock)

    def heard(self) -> list[dict[str, Any]]:
        return [orjson.loads(self.outbox.pop()) for _ in range(len(self.outbox))]


class Recorder:
    """A sink that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def opened(self, stream: LiveStream) -> None:
        self.told.append(("opened", stream.session_id))

    def event(self, stream: LiveStream, event: EncodedEvent) -> None:
        self.told.append((event.type, stream.session_id))

    def changed(self, stream: LiveStream) -> None:
        self.told.append(("changed", stream.session_id))

    def closed(self, stream: LiveStream) -> None:
        self.told.append(("closed", stream.session_id))

    async def run(self) -> None: ...

    async def stop(self, timeout_s: float) -> None: ...


def stream(stream_id: str = "call-1", session: str = "", tags: tuple[str, ...] = ()) -> LiveStream:
    return LiveStream(
        stream_id, session or "s-" + stream_id, ("customer", "agent"), (0, 1), tags, 0.0
    )


def event(kind: str, seq: int = 0, stream_id: str = "call-1", **fields: Any) -> EncodedEvent:
    return encode({"type": kind, **fields}, seq, "s", stream_id, 0.0)


def score(
    seq: int = 0, angry: float = 0.5, channel: int = 0, stream_id: str = "call-1"
) -> EncodedEvent:
    shares = {"angry": angry, "sad": 1 - angry}
    return event(
        "emotion.score",
        seq,
        stream_id,
        channel=channel,
        role=("customer", "agent")[channel],
        scores=shares,
        rolling={"10s": shares},
    )


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({}, True),
        ({"streams": ["call-*"]}, True),
        ({"streams": ["call-?"]}, True),
        ({"streams": ["call-1"]}, True),
        ({"streams": ["other", "*-1"]}, True),
        ({"streams": ["call"]}, False),
        ({"streams": ["CALL-1"]}, False),
        ({"streams": ["call-[2-9]"]}, False),
        ({"streams": ["call-1x*"]}, False),
        ({"tags": ["vip"]}, True),
        ({"tags": ["gold", "vip"]}, True),
        ({"tags": ["gold"]}, False),
        ({"streams": ["other*"], "tags": ["vip"]}, False),
    ],
)
def test_streams_are_chosen_by_glob_and_tag(wanted: dict[str, Any], matches: bool) -> None:
    hub, ear = Hub(), Ear(Clock(), filter=wanted)
    early, late = stream(tags=("vip", "de")), stream(session="later", tags=("vip",))
    hub.opened(early)
    assert hub.subscribe(ear.subscription) == ([early] if matches else [])
    hub.opened(late)
    for live in (early, late):
        hub.publish(live, event("warning"))
    assert len(ear.heard()) == (2 if matches else 0)


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        ({}, ["speech.start", "emotion.score", "alert", "session.closed"]),
        ({"events": ["emotion.*"]}, ["emotion.score"]),
        ({"events": ["alert", "speech.*"]}, ["speech.start", "alert"]),
        ({"events": ["*.score"]}, ["emotion.score"]),
        ({"events": ["nothing"]}, []),
        # roles are looked at where an event has one
        ({"roles": ["customer"]}, ["speech.start", "emotion.score", "session.closed"]),
        ({"roles": ["agent"]}, ["alert", "session.closed"]),
        ({"roles": ["agent"], "events": ["emotion.*"]}, []),
        # least scores are looked at where an event has scores
        (
            {"min_score": {"angry": 0.5}},
            ["speech.start", "emotion.score", "alert", "session.closed"],
        ),
        ({"min_score": {"angry": 0.51}}, ["speech.start", "alert", "session.closed"]),
        ({"min_score": {"angry": 0.9, "sad": 0.4}, "events": ["emotion.*"]}, ["emotion.score"]),
        ({"min_score": {"happy": 0.0}, "events": ["emotion.*"]}, ["emotion.score"]),
        ({"min_score": {"happy": 0.1}, "events": ["emotion.*"]}, []),
    ],
)
def test_events_are_chosen_by_glob_role_and_least_score(wanted, kinds) -> None:
    hub, ear, live = Hub(), Ear(Clock(), filter=wanted), stream()
    hub.opened(live)
    hub.subscribe(ear.subscription)
    for told in (
        event("speech.start", channel=0, role="customer"),
        score(),
        event("alert", channel=1, role="agent"),
        event("session.closed"),
    ):
        hub.publish(live, told)
    assert [body["type"] for body in ear.heard()] == kinds


def test_every_event_names_the_subscription_it_answers() -> None:
    hub, live, clock = Hub(), stream(), Clock()
    ears = [Ear(clock, id='a"b'), Ear(clock, id="c", filter={"labels": ["sad"]})]
    hub.opened(live)
    for ear in ears:
        hub.subscribe(ear.subscription)
    hub.publish(live, score(3))
    (first,), (second,) = (ear.heard() for ear in ears)
    assert (first["sub"], second["sub"]) == ('a"b', "c")
    assert first["scores"] == {"angry": 0.5, "sad": 0.5}
    assert second["scores"] == {"sad": 0.5}
    assert second["rolling"] == {"10s": {"sad": 0.5}}
    assert second["seq"] == first["seq"] == 3


def test_scores_conflate_per_stream_and_channel_and_nothing_else_does() -> None:
    hub, ear = Hub(), Ear(Clock())
    one, two = stream("call-1"), stream("call-2")
    hub.opened(one)
    hub.opened(two)
    hub.subscribe(ear.subscription)
    hub.publish(one, score(1))
    hub.publish(one, event("alert", 2))
    hub.publish(two, score(3, stream_id="call-2"))
    hub.publish(one, score(4, channel=1))
    hub.publish(one, score(5))
    hub.publish(one, event("alert", 6))
    assert [body["seq"] for body in ear.heard()] == [5, 2, 3, 4, 6]


def test_scores_come_at_the_rate_asked_for_and_the_newest_of_each_interval() -> None:
    hub, clock, live = Hub(), Clock(), stream()
    ear = Ear(clock, rate_hz=2)
    hub.opened(live)
    hub.subscribe(ear.subscription)
    seen = []
    for seq in range(40):
        hub.publish(live, score(seq))
        seen += [(clock.now - 100, body["seq"]) for body in ear.heard()]
        clock.advance(0.1)
        seen += [(clock.now - 100, body["seq"]) for body in ear.heard()]
    clock.advance(1)
    seen += [(4.0, body["seq"]) for body in ear.heard()]
    assert len(seen) == 9
    assert seen[-1][1] == 39  # the last one is not lost
    assert all(later[1] - before[1] == 5 for before, later in pairwise(seen[1:-1]))


def test_other_events_are_not_paced() -> None:
    hub, live = Hub(), stream()
    ear = Ear(Clock(), rate_hz=0.1)
    hub.opened(live)
    hub.subscribe(ear.subscription)
    for seq in range(5):
        hub.publish(live, event("emotion.segment", seq, channel=0, role="customer"))
    assert [body["seq"] for body in ear.heard()] == list(range(5))


def test_a_held_score_comes_when_its_own_turn_has_come() -> None:
    """There is one timer for all streams. Set for the score that was held first, it must ring
    earlier when a score is held whose turn comes sooner."""
    hub, clock = Hub(), Clock()
    ear = Ear(clock, rate_hz=0.1)
    soon, late = stream("soon"), stream("late")
    hub.opened(soon)
    hub.opened(late)
    hub.subscribe(ear.subscription)
    hub.publish(soon, score(1, stream_id="soon"))
    clock.advance(8)
    hub.publish(late, score(2, stream_id="late"))
    hub.publish(late, score(3, stream_id="late"))  # held until 18 s
    hub.publish(soon, score(4, stream_id="soon"))  # held until 10 s
    ear.heard()
    clock.advance(2.5)
    assert [body["seq"] for body in ear.heard()] == [4]
    clock.advance(8)
    assert [body["seq"] for body in ear.heard()] == [3]


def test_who_stopped_listening_hears_nothing_and_leaves_no_timer() -> None:
    hub, clock, live = Hub(), Clock(), stream()
    ear = Ear(clock, rate_hz=1)
    hub.opened(live)
    hub.subscribe(ear.subscription)
    hub.publish(live, score(1))
    hub.publish(live, score(2))
    assert len(clock.timers) == 1
    hub.unsubscribe(ear.subscription)
    assert clock.timers == []
    hub.publish(live, event("alert"))
    hub.opened(stream("call-2"))
    assert len(ear.heard()) == 1
    hub.unsubscribe(ear.subscription)


def test_a_stream_that_ended_is_forgotten_everywhere() -> None:
    """A monitor stays subscribed for months while calls come and go."""
    hub, clock = Hub(), Clock()
    ear = Ear(clock, rate_hz=1)
    hub.subscribe(ear.subscription)
    for n in range(50):
        live = stream(f"call-{n}")
        hub.opened(live)
        for seq in range(3):
            hub.publish(live, score(seq, channel=seq % 2, stream_id=live.stream_id))
        hub.closed(live)
        ear.heard()
    assert hub.streams == {}
    assert not hub._audience
    pacer = ear.subscription._pacer
    assert not pacer._next
    assert not pacer._held
    gone = weakref.ref(live) if hasattr(live, "__weakref__") else None
    del live
    gc.collect()
    assert gone is None or gone() is None
    clock.advance(5)
    assert clock.timers == []
    assert ear.heard() == []


def test_a_stream_id_that_was_taken_over_stays_with_who_took_it() -> None:
    hub, ear = Hub(), Ear(Clock())
    hub.subscribe(ear.subscription)
    old, new = stream(session="old"), stream(session="new")
    hub.opened(old)
    hub.opened(new)
    assert hub.streams == {"call-1": new}
    hub.publish(old, event("session.closed", 1))
    hub.closed(old)
    assert hub.streams == {"call-1": new}
    hub.publish(new, event("alert", 2))
    hub.publish(old, event("alert", 3))
    assert [body["seq"] for body in ear.heard()] == [1, 2]
    hub.closed(new)
    assert hub.streams == {}


def test_sinks_hear_of_every_stream_whoever_listens() -> None:
    sink = Recorder()
    hub, live = Hub([sink]), stream()
    hub.opened(live)
    hub.publish(live, event("alert"))
    hub.changed(live)
    hub.closed(live)
    assert [what for what, _ in sink.told] == ["opened", "alert", "changed", "closed"]


def test_a_snapshot_shows_state_and_newest_scores() -> None:
    live = stream(tags=("de",))
    live.last[1], live.last[0] = score(2, channel=1), score(1)
    live.speaking = frozenset({1})
    shown = live.snapshot()
    assert (shown["stream_id"], shown["state"], shown["tags"]) == ("call-1", "active", ["de"])
    assert shown["roles"] == ["customer", "agent"]
    assert shown["speaking"] == [1]
    assert [body["seq"] for body in shown["last"]] == [1, 2]
    orjson.dumps(shown)


def test_a_slow_subscriber_loses_its_oldest_events_and_others_lose_none() -> None:
    hub, live, clock = Hub(), stream(), Clock()
    slow, quick = Ear(clock), Ear(clock)
    hub.opened(live)
    hub.subscribe(slow.subscription)
    hub.subscribe(quick.subscription)
    heard = []
    for seq in range(300):
        hub.publish(live, event("alert", seq))
        heard += quick.heard()
    assert [body["seq"] for body in heard] == list(range(300))
    assert slow.outbox.dropped == 200
    assert [body["seq"] for body in slow.heard()] == list(range(200, 300))


def test_it_works_on_a_real_event_loop() -> None:
    async def story() -> list[int]:
        outbox: ConflatingQueue[bytes] = ConflatingQueue(10)
        wanted = Subscribe(type="subscribe", filter=Filter(), rate_hz=20)
        hub, live = Hub(), stream()
        hub.opened(live)
        hub.subscribe(Subscription(wanted, outbox, asyncio.get_running_loop()))
        for seq in range(4):
            hub.publish(live, score(seq))
        got = [orjson.loads(await asyncio.wait_for(outbox.get(), 2))["seq"] for _ in range(2)]
        hub.closed(live)
        return got

    assert asyncio.run(story()) == [0, 3]
