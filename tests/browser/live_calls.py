"""Two-sided calls of real speech in real time, for the screenshots of the monitor."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from tests.browser.browsing import background
from tests.support.clients import connect
from tests.support.running import Server
from tests.support.utterances import RATE, clip

CHUNK_S = 0.2
RULES = """
[limits]
ahead_s = 1000
idle_timeout_s = 300
[[alerts.rules]]
name = "angry_customer"
label = "angry"
horizon = "10s"
above = 0.5
clear_below = 0.3
for_s = 2
roles = ["customer"]
severity = "critical"
[[alerts.rules]]
name = "upset_customer"
index = "negative"
horizon = "30s"
above = 0.6
clear_below = 0.4
for_s = 5
roles = ["customer"]
[[alerts.rules]]
name = "agent_monologue"
conversation = "longest_turn"
above = 14
roles = ["agent"]
severity = "info"
"""

MOODS = {
    "calm": ["03a01Nc", "13a01Lb"],
    "happy": ["08a01Fd", "03a01Nc"],
    "sad": ["08a02Tb", "13a01Lb"],
    "upset": ["13a01Ac", "13a01Ec", "03a01Nc"],
    "angry": ["03a01Wa", "08a01Wa"],
}
"""EmoDB sentences (tests/fixtures/emodb) by how the customer sounds."""

COURSES = (
    ("calm", "calm", "upset", "angry"),
    ("calm", "calm", "calm"),
    ("angry", "upset", "calm"),
    ("happy", "calm", "happy"),
    ("sad", "sad", "calm"),
    ("calm", "happy", "calm", "upset"),
    ("upset", "calm", "calm"),
    ("calm", "sad", "sad"),
)
"""Moods in the order of a call; the last one stays."""

TAGS = (
    ("queue:billing", "site:berlin"),
    ("queue:sales",),
    ("queue:complaints", "site:leeds"),
    ("queue:support",),
    ("queue:retention", "site:berlin"),
)
PHASE_S = 70


def audio(number: int, seconds: int) -> NDArray[np.int16]:
    """Return a call as int16[samples, 2]: the customer and the agent take turns."""
    random = np.random.default_rng(number)
    course = COURSES[number % len(COURSES)]
    turns: list[NDArray[np.int16]] = []
    length = 0
    while length < seconds * RATE:
        mood = course[min(length // (PHASE_S * RATE), len(course) - 1)]
        customer = random.random() < 0.4 + 0.03 * (number % 8)
        names = MOODS[mood] if customer else MOODS["calm"]
        said = clip(f"{random.choice(names)}.flac")
        pause = np.zeros(int(random.uniform(0.3, 1.6) * RATE), np.int16)
        voice = np.concatenate([said, pause])
        turn = random.integers(-8, 9, (len(voice), 2)).astype(np.int16)
        turn[:, 0 if customer else 1] += voice
        turns.append(turn)
        length += len(turn)
    return np.concatenate(turns)


@contextmanager
def calling(server: Server, calls: int, seconds: int) -> Iterator[None]:
    """Stream calls until the end of the context; each began a little after the one before."""
    with background() as loop:
        tasks = [loop.start(_call(server, number, seconds)) for number in range(calls)]
        yield
        for task in tasks:
            if task.done():
                task.result()


async def _call(server: Server, number: int, seconds: int) -> None:
    await asyncio.sleep(number * 0.7)
    data = await asyncio.to_thread(lambda: audio(number, seconds).tobytes())
    async with connect(server, ping_interval=None) as client:  # a busy machine answers late
        client.checks = False
        session = {
            "stream_id": f"call-{2041 + number}",
            "audio": {"channels": 2},
            "tags": list(TAGS[number % len(TAGS)]),
        }
        await client.send("session.update", session=session)
        await client.until("session.updated")
        size = int(CHUNK_S * RATE) * 4
        loop = asyncio.get_running_loop()
        started = loop.time()
        for count in itertools.count():
            start = count * size % len(data)
            await client.socket.send(data[start : start + size])
            await asyncio.sleep(max(0.0, started + (count + 1) * CHUNK_S - loop.time()))
