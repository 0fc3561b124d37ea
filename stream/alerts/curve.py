"""Values over time in a bounded number of points. Pure."""

from __future__ import annotations

from stream.protocol.wire.trials import MAX_POINTS, RuleValues


class Curve:
    """Values by position in seconds; a point keeps the extremes of the values that it covers.

    Once all points are used, each two become one, so the memory does not grow with the recording.
    """

    def __init__(self, most: int = MAX_POINTS) -> None:
        self._most = most
        self._points: list[tuple[float, float, float]] = []
        """Position of the first value, lowest and highest value."""
        self._per_point = 1
        self.count = 0
        """Values so far."""

    def add(self, at_s: float, value: float) -> None:
        """Add the next value."""
        if self.count % self._per_point:
            first, low, high = self._points[-1]
            self._points[-1] = first, min(low, value), max(high, value)
        else:
            if len(self._points) == self._most:
                self._halve()
            self._points.append((at_s, value, value))
        self.count += 1

    def _halve(self) -> None:
        pairs = zip(self._points[::2], self._points[1::2], strict=True)
        self._points = [(at, min(a, c), max(b, d)) for (at, a, b), (_, c, d) in pairs]
        self._per_point *= 2

    def body(self) -> RuleValues:
        """Return the points as three lists."""
        return {
            "at_s": [round(at, 3) for at, _, _ in self._points],
            "low": [round(low, 4) for _, low, _ in self._points],
            "high": [round(high, 4) for _, _, high in self._points],
        }
