"""Export of a trained model to one ONNX file, from audio to frame logits, and its model.json."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from training.data import FRAME, LENGTHS, RATE
from training.model import Emotion, load_model
from training.whisper import FFT, FLOOR, HOP, MIN_POWER, Encoder, Layer

OPSET = 20
"""The first opset with Gelu, which onnxruntime runs as one kernel."""


class Graph:
    """An ONNX graph under construction. Every method returns the name of the value it adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def const(self, value: object, dtype: type = np.float32) -> str:
        array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
        name = f"stored_{len(self.stored)}"
        tensor = numpy_helper.from_array(np.asarray(array, dtype, order="C"), name)
        self.stored.append(tensor)
        return name

    def weight(self, value: Tensor) -> str:
        """Add a large weight, stored in half precision.

        The cast is folded when the session starts, so the arithmetic is float32.
        """
        return self.op("Cast", self.const(value, np.float16), to=TensorProto.FLOAT)

    def linear(self, x: str, weight: Tensor, bias: Tensor) -> str:
        """Add x @ weight.T + bias in 8 bits; weights have a scale per output, inputs one per call.

        The weights have a range of 7 bits, so that processors without VNNI, which add pairs of
        products in 16 bits, never saturate. onnxruntime runs the five operations as one kernel.
        """
        scale = weight.abs().amax(dim=1).clamp(min=1e-12) / 63
        integers, zero = (weight / scale[:, None]).round().T, np.zeros(len(scale))
        outputs = [f"quantised_{len(self.nodes)}_{part}" for part in ("x", "scale", "zero")]
        self.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], outputs))
        x, step, zero_point = outputs
        weights = self.const(integers, np.int8), zero_point, self.const(zero, np.int8)
        total = self.op("Cast", self.op("MatMulInteger", x, *weights), to=TensorProto.FLOAT)
        steps = self.op("Mul", step, self.const(scale))
        return self.op("Add", self.op("Mul", total, steps), self.const(bias))

    def norm(self, x: str, norm: torch.nn.LayerNorm) -> str:
        weight, bias = self.const(norm.weight), self.const(norm.bias)
        return self.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.eps)


def add_log_mel(graph: Graph, encoder: Encoder) -> str:
    """Add log-mels of the input `audio`, exactly as `training.whisper.LogMel` computes them."""
    mel = encoder.mel
    x = graph.op("Unsqueeze", "audio", graph.const([1], np.int64))
    ends = graph.const([0, 0, FFT // 2, 0, 0, FFT // 2 - HOP], np.int64)
    x = graph.op("Pad", x, ends, mode="reflect")
    x = graph.op("Conv", x, graph.const(mel.basis), strides=[HOP])
    squares = graph.op("Mul", x, x)
    # Cosines and sines share their filters, so one product sums both.
    x = graph.op("MatMul", graph.const(torch.cat([mel.filters, mel.filters]).T), squares)
    x = graph.op("Log", graph.op("Max", x, graph.const(MIN_POWER)))
    x = graph.op("Mul", x, graph.const(1 / np.log(10)))
    loudest = graph.op("ReduceMax", x, graph.const([1, 2], np.int64), keepdims=1)
    x = graph.op("Sub", x, graph.op("Max", loudest, graph.const(FLOOR)))
    x = graph.op("Mul", graph.op("Max", x, graph.const(-8.0)), graph.const(0.25))
    return graph.op("Add", x, graph.const(1.9))


def add_layer(graph: Graph, x: str, layer: Layer) -> str:
    """Add one transformer layer; queries, keys and values are computed in one product."""
    head = layer.query.in_features // layer.heads
    scale = head**-0.5
    weights = [layer.query.weight * scale, layer.key.weight, layer.value.weight]
    bias = torch.cat([layer.query.bias * scale, 0 * layer.value.bias, layer.value.bias])
    y = graph.linear(graph.norm(x, layer.attention_norm), torch.cat(weights), bias)
    y = graph.op("Reshape", y, graph.const([0, 0, 3, layer.heads, head], np.int64))
    y = graph.op("Transpose", y, perm=[2, 0, 3, 1, 4])
    query, key, value = (graph.op("Gather", y, graph.const(i, np.int64), axis=0) for i in range(3))
    attention = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
    y = graph.op("MatMul", graph.op("Softmax", attention, axis=-1), value)
    y = graph.op("Transpose", y, perm=[0, 2, 1, 3])
    y = graph.op("Reshape", y, graph.const([0, 0, -1], np.int64))
    x = graph.op("Add", x, graph.linear(y, layer.out.weight, layer.out.bias))
    y = graph.linear(graph.norm(x, layer.feed_norm), layer.up.weight, layer.up.bias)
    y = graph.linear(graph.op("Gelu", y), layer.down.weight, layer.down.bias)
    return graph.op("Add", x, y)


def build(model: Emotion) -> onnx.ModelProto:
    """Build the model's graph.

    It maps audio float32[batch, samples] to logits float32[batch, frames, labels] and features
    float32[batch, frames, components].
    """
    encoder, head = model.encoder, model.head
    graph = Graph()
    x = add_log_mel(graph, encoder)
    for conv, stride in ((encoder.conv1, 1), (encoder.conv2, 2)):
        weight, bias = graph.weight(conv.weight), graph.const(conv.bias)
        x = graph.op("Conv", x, weight, bias, pads=[1, 1], strides=[stride])
        x = graph.op("Gelu", x)
    x = graph.op("Transpose", x, perm=[0, 2, 1])
    frames = graph.op("Shape", x, start=1, end=2)
    zero = graph.const([0], np.int64)
    positions = graph.op("Slice", graph.const(encoder.positions), zero, frames, zero)
    x = graph.op("Add", x, positions)
    outputs = []
    for layer in encoder.layers:
        assert isinstance(layer, Layer)
        x = add_layer(graph, x, layer)
        outputs.append(x)
    x = graph.op("Concat", *outputs, axis=-1)
    x = graph.op("MatMul", x, graph.weight(head.project.weight.T))
    graph.nodes.append(helper.make_node("Add", [x, graph.const(head.project.bias)], ["features"]))
    x = graph.op("MatMul", "features", graph.const(head.out.weight.T))
    bias = graph.const(head.out.bias)
    graph.nodes.append(helper.make_node("Add", [x, bias], ["logits"]))

    def declare(name: str, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    outputs = [
        declare("logits", "frames", len(head.out.bias)),
        declare("features", "frames", len(head.project.bias)),
    ]
    body = helper.make_graph(
        graph.nodes, "emotion", [declare("audio", "samples")], outputs, graph.stored
    )
    opsets = [helper.make_opsetid("", OPSET)]
    exported = helper.make_model(body, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(exported)
    return exported


def largest_error(path: Path, model: Emotion) -> float:
    """Return the largest difference of mean logits from torch's, on noise of every length."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng, worst = np.random.default_rng(0), 0.0
    for length in LENGTHS:
        audio: NDArray[np.float32] = rng.normal(0, 0.1, (2, length)).astype(np.float32)
        with torch.no_grad():
            expected = model(torch.from_numpy(audio)).numpy()
        logits = session.run(["logits"], {"audio": audio})[0]
        worst = max(worst, float(np.abs((logits - expected).mean(axis=1)).max()))
    return worst


def export(model: Emotion, facts: dict[str, object], out: Path) -> float:
    """Write model.onnx and model.json into `out`; return the largest error against torch."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "model.onnx"
    with torch.no_grad():
        path.write_bytes(build(model).SerializeToString())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"revision": digest[:12], "sample_rate": RATE, "frame_hop": FRAME}
    about |= {"lengths": list(LENGTHS), "dim": len(model.head.project.bias)}
    about |= {**facts, "sha256": digest}
    (out / "model.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return largest_error(path, model)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description="Write model.onnx and model.json, which the server's embedded backend loads. "
        "Put the NOTICE of the data and the encoder beside them.",
    )
    parser.add_argument("--trained", type=Path, required=True, help="--out of training.train")
    parser.add_argument("--out", type=Path, required=True, help="model directory to write")
    options = parser.parse_args()
    facts = json.loads((options.trained / "training.json").read_text())
    error = export(load_model(options.trained / "model.npz"), facts, options.out)
    print(f"wrote {options.out / 'model.onnx'}; largest error of mean logits: {error:.2g}")


if __name__ == "__main__":
    main()
