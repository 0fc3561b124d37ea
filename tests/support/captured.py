"""Captured calls of real telephony systems, replayed into a dialect on a clock of their own."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stream.delivery.transport import Message
from stream.ingest.dialect import Audio, Command, Dialect, Silence, Skip

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "telephony"


@dataclass
class Clock:
    """A clock that tests set, in seconds."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Captured:
    """A captured call: URL, messages with their times in seconds, and how it ended."""

    url: str
    messages: tuple[tuple[float, Message], ...]
    end: str

    @classmethod
    def load(cls, name: str) -> Captured:
        url, end, messages = "", "", list[tuple[float, Message]]()
        for line in (FOLDER / f"{name}.txt").read_text().splitlines():
            ms, kind, content = (*line.split(" ", 2), "")[:3]
            if kind == "url":
                url = content
            elif kind == "text":
                messages.append((int(ms) / 1000, content))
            elif kind == "bytes":
                messages.append((int(ms) / 1000, base64.b64decode(content)))
            else:
                end = f"{kind} {content}".strip()
        return cls(url, tuple(messages), end)


@dataclass
class Replay:
    """Commands of a call in their order, each with the time at which it was returned."""

    commands: list[tuple[float, Command]] = field(default_factory=list)

    def of(self, kind: type[Command]) -> list[Command]:
        return [command for _, command in self.commands if isinstance(command, kind)]

    def samples(self, width: int = 2) -> int:
        """Return the length of the call in samples; `width` is the bytes of one."""
        return sum(_samples(command, width) for _, command in self.commands)


def _samples(command: Command, width: int) -> int:
    if isinstance(command, Audio):
        return len(command.data) // width
    return command.samples if isinstance(command, Silence | Skip) else 0


def replay(make: Callable[[Clock], Dialect], call: Captured, tick_s: float = 0.1) -> Replay:
    """Give a captured call to a dialect at the times of its messages, with ticks once it began."""
    clock = Clock()
    dialect, begin, found = make(clock), clock.now, Replay()

    def add(commands: Iterator[Command]) -> None:
        found.commands += [(round(clock.now - begin, 3), command) for command in commands]

    add(iter(dialect.connected()))
    for at, message in call.messages:
        while begin + at - clock.now > tick_s:
            clock.now += tick_s
            if found.commands:
                add(iter(dialect.tick()))
        clock.now = begin + at
        add(iter(dialect.receive(message)))
    return found
