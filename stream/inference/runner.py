"""Calls of one backend: known shapes, warm-up, isolation of failing rows, health check."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.backends.base import Backend, Embedder, Staging
from stream.errors import ConfigError
from stream.types import Features, Logits, to_ms

log = logging.getLogger(__name__)

MIN_FILL = 0.8
"""Share of a batch size that real rows must fill; else the batch takes fewer windows."""

Result = tuple[Logits, Features | None]


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Progress of a warm-up: `done` of `shapes`, `shape` is next; 0 of 0 while the model loads."""

    shape: str = ""
    done: int = 0
    shapes: int = 0

    @property
    def share(self) -> float:
        return self.done / self.shapes if self.shapes else 0.0


class BackendRunner:
    """Calls one backend in batches of at most `max_batch` rows. Use from one thread."""

    def __init__(self, backend: Backend, max_batch: int) -> None:
        self._backend = backend
        self.info = backend.info
        self.sizes = [n for n in self.info.batch_sizes if n <= max_batch] or [1]

    def check(self, lengths: Sequence[int]) -> None:
        """Raise `ConfigError` if the backend does not support `lengths`, in samples."""
        supported = self.info.lengths
        if any(length not in supported for length in lengths):
            raise ConfigError(
                f"windows.lengths_ms: {self.info.id} supports only windows of "
                f"{', '.join(str(to_ms(n)) for n in supported)} ms"
            )
        if self.info.dim and not isinstance(self._backend, Embedder):
            raise ConfigError(
                f"model.name: {self.info.id} declares embeddings of {self.info.dim} values, but "
                "has no method embed"
            )

    def warm_up(self, lengths: Sequence[int]) -> Iterator[WarmUp]:
        """Run every (length, batch size) once; yield each shape before it is run.

        The largest shapes run first, so that memory is allocated once. A batch size that does not
        fit into the device's memory is not used. Raises `RuntimeError` for logits of a wrong shape
        or not finite, and MemoryError if a single window does not fit.
        """
        shapes = [(n, size) for n in sorted(lengths)[::-1] for size in self.sizes[::-1]]
        noise = np.random.default_rng(1).standard_normal(max(lengths)).astype(np.float32) * 0.05
        self._noise = noise[: min(lengths)]
        for done, (length, size) in enumerate(shapes):
            yield WarmUp(f"{size} x {to_ms(length) / 1000:g} s", done, len(shapes))
            if size not in self.sizes:
                continue
            try:
                logits = self._backend.infer(self._batch([noise[:length]], size))
            except MemoryError:
                if size == 1:
                    raise
                self._limit(size)
                continue
            expected = (size, logits.shape[1], len(self.info.labels)) if logits.ndim == 3 else ()
            if logits.shape != expected or not np.isfinite(logits).all():
                raise RuntimeError(
                    f"model {self.info.id} returned logits {logits.shape} for {size} windows of "
                    f"{length} samples; expected finite [windows, frames, labels]"
                )
        yield WarmUp("", len(shapes), len(shapes))

    def fitting(self, waiting: int) -> int:
        """Return how many of the `waiting` rows go into the next batch."""
        up = next((n for n in self.sizes if n >= waiting), self.sizes[-1])
        down = max((n for n in self.sizes if n <= waiting), default=waiting)
        return waiting if waiting >= MIN_FILL * up else down

    def infer(self, audio: Sequence[NDArray[np.float32]], embed: bool) -> list[Result | None]:
        """Return logits per row, with features if `embed`; None for a row that fails alone.

        A batch that fails is halved until the rows that fail are alone, so the others are scored.
        """
        try:
            return self._call(audio, embed)
        except MemoryError:
            self._limit(len(audio))
        except Exception:
            log.exception("batch failed", extra={"size": len(audio)})
        return self._score_halves(audio, embed)

    def _score_halves(
        self, audio: Sequence[NDArray[np.float32]], embed: bool
    ) -> list[Result | None]:
        """Score both halves of a batch that failed; halve a half that fails again.

        Logs no further errors: the batch has been logged.
        """
        if len(audio) == 1:
            return [None]
        results: list[Result | None] = []
        middle = len(audio) // 2
        for half in (audio[:middle], audio[middle:]):
            scored: list[Result | None] | None = None
            try:
                scored = self._call(half, embed)
            except MemoryError:
                self._limit(len(half))
            except Exception:
                log.debug("half batch failed", extra={"size": len(half)}, exc_info=True)
            # Outside the handler: an error's traceback keeps the failed call's memory allocated.
            results += self._score_halves(half, embed) if scored is None else scored
        return results

    def _limit(self, size: int) -> None:
        """Use no batches of `size` windows or more: the device has no memory for them."""
        smaller = [n for n in self.sizes if n < size] or [1]
        if smaller != self.sizes:
            self.sizes = smaller
            log.warning(
                "out of memory: batches limited", extra={"failed": size, "max_batch": smaller[-1]}
            )

    def healthy(self) -> bool:
        """Return whether the model scores the noise that it scored in the warm-up."""
        return self.infer([self._noise], embed=False)[0] is not None

    def close(self) -> None:
        self._backend.close()

    def _call(self, audio: Sequence[NDArray[np.float32]], embed: bool) -> list[Result | None]:
        rows = len(audio)
        size = next((n for n in self.sizes if n >= rows), rows)
        batch = self._batch(audio, size)
        features: Sequence[Features | None] = [None] * rows
        if embed and isinstance(self._backend, Embedder):
            logits, embedded = self._backend.embed(batch)
            self._check_shape("features", embedded, (size, logits.shape[1], self.info.dim))
            features = list(embedded[:rows])
        else:
            logits = self._backend.infer(batch)
        self._check_shape("logits", logits, (size, logits.shape[1], len(self.info.labels)))
        results = zip(logits[:rows], features, strict=True)
        return [result if np.isfinite(result[0]).all() else None for result in results]

    def _batch(self, audio: Sequence[NDArray[np.float32]], size: int) -> NDArray[np.float32]:
        """Stack `audio` into float32[size, samples]; repeat its first row to fill the batch."""
        shape = (size, len(audio[0]))
        if isinstance(self._backend, Staging):
            batch = self._backend.staging(*shape)
        else:
            batch = np.empty(shape, np.float32)
        for row, samples in zip(batch, audio, strict=False):
            row[:] = samples
        batch[len(audio) :] = audio[0]
        return batch

    def _check_shape(
        self, name: str, array: NDArray[np.float32], shape: tuple[int, int, int]
    ) -> None:
        if array.shape != shape:
            raise RuntimeError(
                f"model {self.info.id} returned {name} {array.shape}; expected {shape}"
            )
