"""Drawing of tried alert rules in a terminal: values, levels and alerts over time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.text import Text

from client.terminal.dashboard import BLOCKS
from client.terminal.text import clock, shares
from stream.printable import printable
from stream.protocol.wire.alerts import AlertEnd
from stream.protocol.wire.trials import MAX_POINTS, NoValue, RuleTrial, TriedAlert

ROWS = 8
"""Lines of the value's axis."""

MARGIN = 9
"""Columns before the drawing, for the numbers of the axis."""

LEAST_COLUMNS = 20

HOLD_S = 10.0
"""Seconds for which a score is drawn after its window; `for_s` is counted anew after them."""

TICK = 12
"""Columns between two numbers on the axis of time, at least."""

STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600)

COLOURS = {"info": "dodger_blue1", "warning": "dark_orange", "critical": "red"}

REASONS: Mapping[AlertEnd, str] = {
    "cleared": "cleared",
    "no_speech": "ended: nothing was judged for 30 s, or the conversation was no longer measured",
    "stream_ended": "open at the end of the recording",
    "objected": "ended: the speaker objected",
    "rule_removed": "ended: the rule was removed",
}

WHY: Mapping[NoValue, str] = {
    "no_conversation": "no value: a conversation needs two channels with different voices, whose "
    "roles are in privacy.activity_roles",
    "no_channel": "no value: no analysed channel has a role of the rule; name them with --roles",
    "no_label": "no value: the model does not have this label; choose another model or label",
    "no_baseline": "no value: activation_change needs the baseline; set baseline.enabled = true",
    "not_judged": "no value: no score could be judged, or a trend had fewer than five utterances "
    "over a minute",
}


def drawing(trial: RuleTrial, seconds: float, width: int) -> list[Text]:
    """Return the lines that show what a rule did on a recording, at most `width` columns wide."""
    lines = [_title(trial), Text(f"  {trial['text']}; ends below {trial['clear_below']:g}", "dim")]
    if "why" in trial:
        return [*lines, Text(f"  {WHY[trial['why']]}", "yellow")]
    columns = max(LEAST_COLUMNS, width - MARGIN)
    lines += _chart(trial, seconds, columns)
    lines.append(_spans(trial, seconds, columns))
    lines.append(_axis(seconds, columns))
    lines += [_alert(trial, alert) for alert in trial["alerts"]]
    hidden = trial["count"] - len(trial["alerts"])
    if hidden:
        lines.append(Text(f"  ... and {hidden} more", "dim"))
    left_out = f", {trial['left_out']} scores left out" if trial["left_out"] else ""
    count = trial["count"]
    lines.append(
        Text(f"  {count} alert{'' if count == 1 else 's'}; {trial['judged']} values{left_out}")
    )
    return lines


def _title(trial: RuleTrial) -> Text:
    where = f"{trial['role']} (channel {trial['channel']})" if "channel" in trial else "the stream"
    if "why" in trial and trial["why"] == "no_channel":
        where = "no channel"
    return Text.assemble(
        (printable(trial["rule"]), "bold"),
        f" on {where}, ",
        (trial["severity"], COLOURS[trial["severity"]]),
    )


def _chart(trial: RuleTrial, seconds: float, columns: int) -> Iterator[Text]:
    """Yield the lines of the value, from the top; the levels are lines behind it."""
    values = _columns(trial, seconds, columns)
    lowest, highest = _range(trial)
    colour = COLOURS[trial["severity"]]
    alerted = [
        _overlaps(trial, column * seconds / columns, seconds / columns) for column in range(columns)
    ]

    def row_of(value: float) -> int:
        share = (value - lowest) / (highest - lowest)
        return min(ROWS - 1, max(0, int(share * ROWS)))

    above, clear = row_of(trial["above"]), row_of(trial["clear_below"])
    numbers = {ROWS - 1: highest, 0: lowest, clear: trial["clear_below"], above: trial["above"]}
    for row in reversed(range(ROWS)):
        line = Text(f"{numbers[row]:>6.3g} ┤ " if row in numbers else "       │ ")
        behind = ("╌", colour) if row == above else ("┈", "dim") if row == clear else (" ", "")
        for value, alert in zip(values, alerted, strict=True):
            if value is None:
                line.append(*behind)
                continue
            eighths = round((value - lowest) / (highest - lowest) * ROWS * 8) - row * 8
            if row == 0:
                eighths = max(1, eighths)  # the lowest value differs from no value
            mark = BLOCKS[min(8, eighths) - 1] if eighths > 0 else ""
            line.append(*((mark, colour if alert else "cyan") if mark else behind))
        yield line


def _range(trial: RuleTrial) -> tuple[float, float]:
    """Return the ends of the axis: all values and both levels fit."""
    values = trial["values"]
    highest = max(max(values["high"]), trial["above"] * 1.25)
    if trial["unit"] == "share":
        highest = min(1.0, highest)
    return min(0.0, *values["low"]), highest


def _columns(trial: RuleTrial, seconds: float, columns: int) -> list[float | None]:
    """Return the highest value in each column; None where none was judged lately."""
    values = trial["values"]
    points = list(zip(values["at_s"], values["high"], strict=True))
    # Scores become stale; the conversation and a trend keep their value until the next one.
    of_scores = "horizon" in trial or (trial["of"] == "activation_change" and "trend" not in trial)
    hold = max(HOLD_S, 2 * seconds / MAX_POINTS) if of_scores else seconds
    result: list[float | None] = []
    number, last = 0, None
    for column in range(columns):
        end = (column + 1) * seconds / columns
        inside = []
        while number < len(points) and points[number][0] <= end:
            inside.append(points[number][1])
            last = points[number]
            number += 1
        if inside:
            result.append(max(inside))
        else:
            is_fresh = last is not None and end - last[0] <= hold
            result.append(last[1] if last is not None and is_fresh else None)
    return result


def _overlaps(trial: RuleTrial, start: float, length: float) -> bool:
    return any(
        alert["start_s"] < start + length and start <= alert["end_s"] for alert in trial["alerts"]
    )


def _spans(trial: RuleTrial, seconds: float, columns: int) -> Text:
    """Return the line of the alerts; dots show the time for which the condition held before."""
    marks = [" "] * columns

    def mark(start: float, end: float, sign: str) -> None:
        first = min(columns - 1, int(start / seconds * columns))
        last = min(columns - 1, int(end / seconds * columns))
        marks[first : last + 1] = sign * (last + 1 - first)

    for alert in trial["alerts"]:
        if alert["since_s"] < alert["start_s"]:
            mark(alert["since_s"], alert["start_s"], "·")
        mark(alert["start_s"], alert["end_s"], "━")
    return Text.assemble("alerts │ ", ("".join(marks), COLOURS[trial["severity"]]))


def _axis(seconds: float, columns: int) -> Text:
    step = next((s for s in STEPS if s / seconds * columns >= TICK), STEPS[-1])
    line = [" "] * columns
    for number in range(int(seconds // step) + 1):
        label = clock(number * step * 1000).removesuffix(".0")
        at = int(number * step / seconds * columns)
        if at + len(label) <= columns:
            line[at : at + len(label)] = label
    return Text(" " * MARGIN + "".join(line).rstrip(), "dim")


def _alert(trial: RuleTrial, alert: TriedAlert) -> Text:
    unit = " s" if trial["unit"] == "s" else ""
    start, end = clock(round(alert["start_s"] * 1000)), clock(round(alert["end_s"] * 1000))
    line = Text(f"  {start} – {end}  peak {alert['peak']:.3g}{unit}, {REASONS[alert['reason']]}")
    if "evidence" in alert:
        evidence = alert["evidence"]
        hints = "".join(f", {hint}" for hint in evidence["hints"])
        line.append(
            f"\n      {shares(evidence['scores'])}  (utterance {evidence['utterance']}, "
            f"{evidence['speech_s']:.1f} s of speech{hints})",
            "dim",
        )
    return line
