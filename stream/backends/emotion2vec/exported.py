"""The network as an ONNX graph: `export` writes it, onnxruntime runs it on the CPU."""

from __future__ import annotations

import json
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.backends.emotion2vec.config import read_shape, read_tokens, used_labels
from stream.backends.emotion2vec.locate import Files
from stream.errors import ModelRefused

OPSET = 17
"""The first opset with LayerNormalization as one operator."""

_REMEDY = "export it again (emotide models export [--int8]), or delete it"


class ExportedRunner:
    """An onnxruntime session of an exported graph.

    `labels` are the labels of its logits, `dim` is the size of its features.
    """

    def __init__(self, path: Path, revision: str, threads: int) -> None:
        """Open `path`; raise ModelRefused unless it was exported from checkpoint `revision`."""
        import onnxruntime as ort

        if not path.is_file():
            raise ModelRefused(f"{path} is missing: {_REMEDY.partition(',')[0]}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads take CPU time from other processes, and delay their own results.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A memory plan per shape saves no time here and keeps 40 MB allocated.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
            about = self._session.get_modelmeta().custom_metadata_map
            self.labels = tuple(json.loads(about["labels"]))
            exported_from = about["revision"]
            self.dim = int(self._outputs()["features"][-1])
        except Exception as error:  # onnxruntime raises about a dozen types of its own
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelRefused(f"{path} is not an export of Emotide ({line}): {_REMEDY}") from error
        if exported_from != revision:
            raise ModelRefused(
                f"{path} was exported from checkpoint {exported_from}, but beside it lies "
                f"{revision}: {_REMEDY}"
            )

    def staging(self, rows: int, samples: int) -> NDArray[np.float32]:
        return np.empty((rows, samples), np.float32)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([self._row(row, "logits")[0] for row in batch])

    def embed(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = [self._row(row, "logits", "features") for row in batch]
        logits, features = (np.concatenate(each) for each in zip(*rows, strict=True))
        return logits, features

    def _row(self, row: NDArray[np.float32], *outputs: str) -> list[NDArray[np.float32]]:
        # Row by row: on a CPU a batch is no cheaper per window, but needs the memory of all rows.
        audio = np.ascontiguousarray(row[None], np.float32)
        results: list[NDArray[np.float32]] = self._session.run(outputs, {"audio": audio})
        return results

    def _outputs(self) -> dict[str, list[int | str]]:
        return {output.name: output.shape for output in self._session.get_outputs()}

    def close(self) -> None:
        del self._session


def export(directory: Path, out: Path | None = None) -> Path:
    """Write the model of `directory` as float32 ONNX with dynamic batch and length.

    The graph is "audio" float32[batch, samples] → "logits" float32[batch, frames, labels] and
    "features" float32[batch, frames, dim]. Returns the path written: `out`, by default the path
    beside the checkpoint where `load` looks for it. Raises ModelRefused if the model is refused or
    the package onnx is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelRefused("exporting needs the package onnx: pip install onnx") from error
    import torch

    from stream.backends.emotion2vec import checkpoint, eager

    files = Files.of(directory)
    tokens = read_tokens(files.tokens)
    labels = used_labels(files.tokens, tokens)
    network = checkpoint.load_network(files.weights, read_shape(files.config), len(tokens))
    buffer = BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracing exporter is deprecated in favour of one that needs another package, and it
        # warns about lengths and sizes that are Python numbers here; the tests prove them exact.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            eager.Scorer(network, list(labels)).eval(),
            (torch.zeros(2, 32_000),),
            buffer,
            input_names=["audio"],
            output_names=["logits", "features"],
            dynamic_axes={
                "audio": {0: "batch", 1: "samples"},
                "logits": {0: "batch", 1: "frames"},
                "features": {0: "batch", 1: "frames"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_model_from_string(buffer.getvalue())
    del buffer
    for key, value in (("revision", files.revision), ("labels", json.dumps([*labels.values()]))):
        graph.metadata_props.add(key=key, value=value)
    out = out or files.export
    part = out.with_name(out.name + ".part")
    # Renamed when complete, because a server may start at any moment.
    part.write_bytes(graph.SerializeToString())
    return part.replace(out)
