"""Time that a batch takes, from the batches before: a fixed part and one per sample. Pure."""

from __future__ import annotations

DECAY = 0.95
"""Weight of a batch relative to the next one: the model's speed changes with the machine's load."""


class BatchCost:
    """Line through the seconds of past batches over their samples, by weighted least squares."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, samples: int, seconds: float) -> None:
        """Count a batch of `samples` in all rows, and its seconds of inference."""
        sums = (self._n, self._x, self._y, self._xx, self._xy)
        new = (1.0, samples, seconds, samples * samples, samples * seconds)
        decayed = (DECAY * old + value for old, value in zip(sums, new, strict=True))
        self._n, self._x, self._y, self._xx, self._xy = decayed

    @property
    def parts(self) -> tuple[float, float]:
        """Seconds of any batch, and seconds per sample; both 0 before the first batch."""
        if not self._n:
            return 0.0, 0.0
        spread = self._n * self._xx - self._x**2
        slope = 0.0
        # Batches of one size tell nothing about the fixed part, so it counts as none.
        if spread > 1e-6 * self._x**2:
            slope = (self._n * self._xy - self._x * self._y) / spread
        if slope <= 0:
            return 0.0, self._y / self._x
        return max(0.0, (self._y - slope * self._x) / self._n), slope

    def most(self, seconds: float, length: int, limit: int) -> int:
        """Return how many windows of `length` samples fit into a batch of at most so many seconds.

        At least one, at most `limit`. While the fixed part is larger than what the windows add,
        a smaller batch is hardly faster, so the batch grows until both are equal.
        """
        fixed, slope = self.parts
        if not slope:
            return limit
        return max(1, min(limit, int(max(seconds - fixed, fixed) / (slope * length))))
