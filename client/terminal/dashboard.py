"""Terminal table of many streams: events in, table out. No clocks, no sockets."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from client.remote.events import Event
from stream.protocol.wire.common import Channel
from stream.protocol.wire.subscriber import StreamSnapshot

COLOURS = {
    "angry": "red",
    "disgusted": "dark_olive_green3",
    "fearful": "medium_purple",
    "happy": "gold1",
    "neutral": "grey70",
    "other": "cyan",
    "sad": "dodger_blue1",
    "surprised": "dark_orange",
    "unknown": "grey42",
}
BLOCKS = "▁▂▃▄▅▆▇█"
BAR = 12
SPARK = 30
SPARK_S = 2.0
"""Seconds per mark of a sparkline; a full sparkline covers the last minute."""
WIDE = 140
"""Columns; narrower terminals get fewer and shorter table columns."""
NARROW_REST = 65
"""Columns that everything but the sparkline takes on a narrow terminal."""
KEEP_ENDED_S = 30.0
MAX_STREAMS = 2_000


def bar(share: float, width: int = BAR) -> str:
    """Format a share in [0, 1] as a bar, to an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")).ljust(width)


def block(share: float) -> str:
    """Format a share in [0, 1] as one mark."""
    return BLOCKS[min(7, max(0, int(share * 8)))]


@dataclass(slots=True)
class Side:
    """State of one channel of a stream. Times are the caller's `now`, in seconds."""

    role: str
    scores: Mapping[str, float] = field(default_factory=dict)
    speaking: bool = False
    hints: tuple[str, ...] = ()
    updated: float | None = None
    count: int = 0
    history: deque[tuple[float, Mapping[str, float]]] = field(default_factory=deque)

    @property
    def top(self) -> str | None:
        """Label with the largest share."""
        return max(self.scores, key=self.scores.__getitem__) if self.scores else None

    def spark(self, now: float, label: str | None, width: int = SPARK) -> str:
        """Draw the last minute of `label`, or of the top label; blanks where no score came."""
        marks = [" "] * width
        for at, scores in self.history:
            place = width - 1 - int((now - at) // SPARK_S)
            if 0 <= place < width and scores:
                marks[place] = block(scores.get(label, 0.0) if label else max(scores.values()))
        return "".join(marks)


@dataclass(slots=True)
class Row:
    """State of one stream; `ended` is the time of `session.closed`."""

    state: str = "active"
    ended: float | None = None
    resumed: int = -1
    """`seq` of the newest `session.resumed`."""
    sides: dict[int, Side] = field(default_factory=dict)


class Dashboard:
    """Table of all known streams.

    `label` is the label of the sparklines (None: the top one), `horizon` the horizon of the rolling
    scores. A score without that horizon is shown with the scores of its window.
    """

    def __init__(self, label: str | None = None, horizon: str = "10s") -> None:
        self._label = label
        self._horizon = horizon
        self.rows: dict[str, Row] = {}
        self.notes: deque[str] = deque(maxlen=3)

    def handle(self, event: Event, now: float) -> None:
        """Update the table with an event of a producer or a subscriber; `now` in seconds."""
        stream_id = _name(event)
        match event["type"]:
            case "snapshot":
                for stream in event["streams"]:
                    self._snapshot(stream, now)
            case "warning" | "error":
                where = f"{stream_id}: " if stream_id else ""
                self.notes.append(f"{where}{event['type']}: {event['message']}")
            case "client.reconnecting" | "client.restarted":
                self.notes.append(f"{event['type'].removeprefix('client.')}: {event['why']}")
            case "lagged" | "client.lagged":
                self.notes.append(f"lagged: {event['dropped']} dropped")
            case _ if isinstance(stream_id, str):
                row = self.rows.setdefault(stream_id, Row())
                if row.ended is not None and event["type"] == "session.created":
                    row = self.rows[stream_id] = Row()
                self._update(row, event, now)
        self._drop_old_rows(now)

    def _snapshot(self, stream: StreamSnapshot, now: float) -> None:
        row = self.rows.setdefault(_name(stream) or "", Row())
        row.state = stream["state"]
        for channel in stream["analysed"]:
            side = row.sides.setdefault(channel, Side(stream["roles"][channel]))
            side.speaking = channel in stream["speaking"]
        for score in stream["last"]:
            self._update(row, score, now)

    def _update(self, row: Row, event: Event, now: float) -> None:
        match event["type"]:
            case "session.created" | "session.updated":
                session = event["session"]
                if "tags" in session:  # the defaults, before `session.update`, have no channels
                    for channel in session["analysis"]["analyse_channels"]:
                        row.sides.setdefault(channel, Side(session["audio"]["roles"][channel]))
            case "session.closed":
                row.state, row.ended = "ended", now
            case "stream.detached":
                # A producer that returns gets it after `session.resumed`, which is newer.
                if event["seq"] > row.resumed:
                    row.state = "detached"
            case "stream.paused":
                row.state = "paused"
            case "session.resumed":
                row.state, row.resumed = "active", event["seq"]
            case "stream.resumed":
                row.state = "active"
            case "speech.start" | "speech.end":
                _side(row, event).speaking = event["type"] == "speech.start"
            case "emotion.score":
                side = _side(row, event)
                scores = event["rolling"].get(self._horizon) or event["scores"]
                side.scores, side.updated, side.count = scores, now, side.count + 1
                side.hints = tuple(event["hints"])
                side.history.append((now, scores))
                while now - side.history[0][0] > SPARK * SPARK_S:
                    side.history.popleft()
            case "emotion.segment" | "stream.gap":
                _side(row, event)

    def _drop_old_rows(self, now: float) -> None:
        expired = [k for k, r in self.rows.items() if r.ended and now - r.ended > KEEP_ENDED_S]
        for stream_id in expired:
            del self.rows[stream_id]
        while len(self.rows) > MAX_STREAMS:
            del self.rows[next(iter(self.rows))]

    def _labels(self) -> list[str]:
        seen = {k for r in self.rows.values() for s in r.sides.values() for k in s.scores}
        return sorted(seen) or sorted(COLOURS)

    def _sides(self) -> Iterator[tuple[str, Row, Side]]:
        for stream_id, row in self.rows.items():
            for channel in sorted(row.sides):
                yield stream_id, row, row.sides[channel]

    def render(self, now: float, width: int = WIDE, height: int | None = None) -> RenderableType:
        """Return the table at `now`, for a terminal of `width` columns and `height` lines."""
        labels, wide = self._labels(), width >= WIDE
        spark = SPARK if wide else min(SPARK, max(8, width - NARROW_REST))
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("stream", overflow="ellipsis", no_wrap=True, max_width=24 if wide else 14)
        table.add_column("role", no_wrap=True, max_width=8)
        table.add_column("", width=1)
        table.add_column(f"now ({self._horizon})", no_wrap=True)
        table.add_column(_marks(labels, {n: n for n in labels}, 2 if wide else 1), no_wrap=True)
        table.add_column(f"{self._label or 'top'}, 1 min", no_wrap=True, width=spark)
        if wide:
            table.add_column("age", justify="right", no_wrap=True)
            table.add_column("state", no_wrap=True)
            table.add_column("hints")
        sides = list(self._sides())
        limit = len(sides) if height is None else max(1, height - 3 - len(self.notes))
        for stream_id, row, side in sides[:limit]:
            marks = {name: block(share) * 2 for name, share in side.scores.items()}
            cells = [
                Text(stream_id),
                Text(side.role),
                _state(row, side),
                _top(side),
                _marks(labels, marks, 2 if wide else 1),
                Text(
                    side.spark(now, self._label, spark),
                    COLOURS.get(self._label or side.top or "", ""),
                ),
            ]
            if wide:
                age = "" if side.updated is None else f"{now - side.updated:.0f} s"
                hints = Text(" ".join(side.hints), "dim", no_wrap=True, overflow="ellipsis")
                cells += [Text(age), Text(row.state), hints]
            table.add_row(*cells, style="dim" if row.ended else "")
        parts: list[RenderableType] = [table]
        if not sides:
            parts.append(Text("no streams yet", style="dim"))
        if len(sides) > limit:
            parts.append(Text(f"… and {len(sides) - limit} more", style="dim"))
        parts += [Text(note, "yellow", no_wrap=True, overflow="ellipsis") for note in self.notes]
        return Group(*parts)


def _name(about: Mapping[str, Any]) -> str | None:
    """Return the name of an event's or a snapshot's stream, with its tenant if it has one."""
    stream_id, tenant = about.get("stream_id"), about.get("tenant")
    return f"{tenant}/{stream_id}" if stream_id and tenant else stream_id


def _side(row: Row, event: Channel) -> Side:
    return row.sides.setdefault(event["channel"], Side(event["role"]))


def _state(row: Row, side: Side) -> Text:
    """Return one mark: speaking, silent, paused, detached or ended."""
    if row.state != "active":
        mark = {"paused": ("‖", "yellow"), "detached": ("?", "yellow")}
        return Text(*mark.get(row.state, ("■", "dim")))
    return Text("●", "green") if side.speaking else Text("·", "dim")


def _top(side: Side) -> Text:
    label = side.top
    if label is None:
        return Text("–".ljust(15 + BAR), style="dim")
    share = side.scores[label]
    style = COLOURS.get(label, "")
    return Text.assemble((f"{label:<9.9} ", style), (bar(share), style), (f" {share:4.0%}", "bold"))


def _marks(labels: list[str], marks: Mapping[str, str], width: int) -> Text:
    """Return one mark per label in its colour; the header shows the first letters."""
    texts = (Text(marks.get(n, "")[:width].ljust(width), COLOURS.get(n, "")) for n in labels)
    return Text(" " if width > 1 else "").join(texts)
