"""Drawing of finished sessions in a terminal: the list, and a call over time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo

from rich.table import Table
from rich.text import Text

from client.terminal.dashboard import COLOURS, bar, block
from client.terminal.trials import COLOURS as SEVERITY_COLOURS
from stream.labels import top
from stream.printable import printable
from stream.protocol.wire.history import (
    HistoryAlert,
    HistoryDetail,
    HistoryGap,
    HistorySession,
    HistoryUtterance,
)

MARGIN = 12
"""Columns before the drawing, for the names of roles."""

LEAST_COLUMNS = 20


def local(text: str, zone: tzinfo = UTC) -> str:
    """Return a time of RFC 3339 as people write it, in a time zone."""
    return f"{datetime.fromisoformat(text).astimezone(zone):%Y-%m-%d %H:%M}"


def clock(seconds: float) -> str:
    """Return a time within a session as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def listed(sessions: Sequence[HistorySession], zone: tzinfo) -> Table:
    """Return the table of sessions."""
    table = Table(box=None, pad_edge=False)
    for name in ("started", "id", "stream", "length", "strongest", "activation"):
        table.add_column(name, no_wrap=True)
    table.add_column("alerts", justify="right", min_width=6)
    table.add_column("tags", overflow="fold")
    for session in sessions:
        table.add_row(
            local(session["started_at"], zone),
            session["id"],
            printable(session["stream_id"]),
            clock(session["duration_s"]),
            _strongest(session),
            "" if session["activation"] is None else bar(session["activation"], 8),
            Text(
                str(session["alert_count"] or ""),
                SEVERITY_COLOURS.get(session["severity"] or "", ""),
            ),
            " ".join(session["tags"]),
        )
    return table


def _strongest(session: HistorySession) -> Text:
    label = session["dominant"]
    if label is None:
        return Text("not scored", "dim")
    return Text(f"{label} {session['labels'].get(label, 0.0):.0%}", COLOURS[label])


def call(detail: HistoryDetail, zone: tzinfo, width: int) -> Iterator[Text]:
    """Yield the lines that show a session: a strip per role, alerts, then each utterance."""
    columns = max(LEAST_COLUMNS, width - MARGIN)
    seconds = max(detail["duration_s"], *(u["end_s"] for u in detail["utterances"]), 0.001)
    yield from _head(detail, zone)
    yield Text()
    roles = dict.fromkeys(u["role"] for u in detail["utterances"])
    for role in roles:
        said = [u for u in detail["utterances"] if u["role"] == role]
        yield _strip(role, said, seconds, columns)
    if detail["alerts"]:
        yield _marks(detail["alerts"], seconds, columns)
    yield _axis(seconds, columns)
    yield _legend(detail)
    yield Text()
    if not detail["utterances"]:
        yield Text("no utterances: nothing was said, or nothing was analysed", "dim")
    lines = [(u["start_s"], _line(u)) for u in detail["utterances"]]
    lines += [(alert["start_s"], _alert(alert)) for alert in detail["alerts"]]
    lines += [(gap["start_s"], _gap(gap)) for gap in detail["gaps"]]
    yield from (line for _, line in sorted(lines, key=lambda item: item[0]))


def _head(detail: HistoryDetail, zone: tzinfo) -> Iterator[Text]:
    name = printable(detail["stream_id"])
    yield Text(f"{name}, {detail['kind']}, {local(detail['started_at'], zone)}", "bold")
    parts = [
        f"{clock(detail['duration_s'])} long, {detail['speech_s']:.0f} s of speech",
        *([] if detail["activation"] is None else [f"activation {detail['activation']:.2f}"]),
        *([] if detail["dead_air_s"] is None else [f"dead air {detail['dead_air_s']:.0f} s"]),
        f"alerts: {detail['alert_count']}",
    ]
    yield Text(", ".join(parts))
    labels = sorted(detail["labels"].items(), key=lambda item: -item[1])[:4]
    line = Text()
    for label, share in labels:
        line.append(f"{label} {share:.0%} ", COLOURS[label])
    yield line + Text(" ".join(detail["tags"]), "dim")


def _place(at_s: float, seconds: float, columns: int) -> int:
    return min(columns - 1, int(at_s / seconds * columns))


def _strip(role: str, said: Sequence[HistoryUtterance], seconds: float, columns: int) -> Text:
    """Return a column per part of the call: the strongest label's colour, the activation's height.

    Of several utterances in one column the longest is shown.
    """
    shown: list[HistoryUtterance | None] = [None] * columns
    for utterance in sorted(said, key=lambda u: u["end_s"] - u["start_s"]):
        first, last = (_place(utterance[at], seconds, columns) for at in ("start_s", "end_s"))
        shown[first : last + 1] = [utterance] * (last + 1 - first)
    line = Text(f"{role[: MARGIN - 2]:<{MARGIN}}")
    for said_here in shown:
        best = None if said_here is None else top(said_here["scores"])
        if said_here is None:
            line.append(" ")
        elif best is None:
            line.append("·", "dim")
        else:
            line.append(block(said_here["activation"] or 0.0), COLOURS[best["label"]])
    return line


def _marks(alerts: Sequence[HistoryAlert], seconds: float, columns: int) -> Text:
    marks = [(" ", "")] * columns
    for alert in alerts:
        end = seconds if alert["end_s"] is None else alert["end_s"]
        first, last = _place(alert["start_s"], seconds, columns), _place(end, seconds, columns)
        colour = SEVERITY_COLOURS[alert["severity"]]
        marks[first : last + 1] = [("▲", colour), *[("─", colour)] * (last - first)]
    line = Text(f"{'alerts':<{MARGIN}}")
    for mark, colour in marks:
        line.append(mark, colour)
    return line


def _axis(seconds: float, columns: int) -> Text:
    end = clock(seconds)
    return Text(" " * MARGIN + "0:00" + end.rjust(columns - 4), "dim")


def _legend(detail: HistoryDetail) -> Text:
    found = dict.fromkeys(
        best["label"] for u in detail["utterances"] if (best := top(u["scores"])) is not None
    )
    line = Text(" " * MARGIN)
    for label in found:
        line.append(f"█ {label}  ", COLOURS[label])
    return line + Text("height: activation" if found else "", "dim")


def _line(utterance: HistoryUtterance) -> Text:
    best, rated = top(utterance["scores"]), utterance["activation"]
    line = Text(f"{clock(utterance['start_s']):>7}  {utterance['role']:<10} ")
    line.append(f"{utterance['end_s'] - utterance['start_s']:5.1f} s  ", "dim")
    if best is None:
        line.append("not scored", "dim")
    else:
        line.append(bar(rated or 0.0, 10) + " ", COLOURS[best["label"]])
        line.append(f"{best['label']} {best['score']:.0%}", COLOURS[best["label"]])
    return line + Text(f"  {', '.join(utterance['hints'])}", "dim")


def _gap(gap: HistoryGap) -> Text:
    text = f"{clock(gap['start_s']):>7}  not scored until {clock(gap['end_s'])}: {gap['reason']}"
    return Text(text, "dim")


def _alert(alert: HistoryAlert) -> Text:
    end = "the end" if alert["end_s"] is None else clock(alert["end_s"])
    line = Text(f"{clock(alert['start_s']):>7}  ")
    line.append(f"{alert['severity']} {alert['rule']}", SEVERITY_COLOURS[alert["severity"]])
    line.append(f" until {end}")
    taken = alert["acknowledged"]
    if taken is None:
        return line
    # On a server without keys nobody has a name.
    by = f" by {printable(taken['by'])}" if taken["by"] else ""
    return line + Text(f", acknowledged{by}")
