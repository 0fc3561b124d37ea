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


END = np.iinfo(np.int64).max
"""The end of a slice that has none."""


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

    def cut(self, x: str, axis: int, start: int, end: int | None, step: int = 1) -> str:
        """Add x[start:end:step] along an axis."""
        bounds = [
            self.const([n], np.int64) for n in (start, END if end is None else end, axis, step)
        ]
        return self.op("Slice", x, *bounds)

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
    """Add log-mels [batch, samples // HOP, mels] of `audio`, as `training.whisper.LogMel` does.

    A spectrum's samples are added to, and subtracted from, their mirror image first: cosines need
    the sums only and sines the differences, which halves the products.
    """
    half, block = FFT // 2, HOP // 2
    ends = graph.const([0, half, 0, half - HOP], np.int64)
    x = graph.op("Pad", "audio", ends, mode="reflect")
    x = graph.op("Reshape", x, graph.const([0, -1, block], np.int64))
    blocks = FFT // block
    x = graph.op(
        "Concat",
        *(graph.cut(x, 1, i, i + 1 - blocks or None, step=2) for i in range(blocks)),
        axis=2,
    )
    left, right = graph.cut(x, 2, 1, half), graph.cut(x, 2, FFT - 1, half, step=-1)
    sums = graph.op("Concat", graph.op("Add", left, right), graph.cut(x, 2, half, half + 1), axis=2)
    cosines, sines = encoder.mel.basis[:, 0].T.chunk(2, dim=1)
    power = [
        graph.op("MatMul", side, graph.const(basis))
        for side, basis in (
            (sums, cosines[1 : half + 1]),
            (graph.op("Sub", left, right), sines[1:half]),
        )
    ]
    x = graph.op("Add", *(graph.op("Mul", part, part) for part in power))
    x = graph.op("MatMul", x, graph.const(encoder.mel.filters))
    x = graph.op("Log", graph.op("Max", x, graph.const(MIN_POWER)))
    x = graph.op("Mul", x, graph.const(1 / np.log(10)))
    loudest = graph.op("ReduceMax", x, graph.const([1, 2], np.int64), keepdims=1)
    x = graph.op("Sub", x, graph.op("Max", loudest, graph.const(FLOOR)))
    x = graph.op("Mul", graph.op("Max", x, graph.const(-8.0)), graph.const(0.25))
    return graph.op("Add", x, graph.const(1.9))


def add_convolution(graph: Graph, x: str, conv: torch.nn.Conv1d) -> str:
    """Add a convolution over time of x [batch, time, channels] as one product, with a Gelu."""
    assert conv.bias is not None
    size, stride = conv.kernel_size[0], conv.stride[0]
    x = graph.op("Pad", x, graph.const([0, 1, 0, 0, 1, 0], np.int64))
    x = graph.op(
        "Concat",
        *(graph.cut(x, 1, i, i + 1 - size or None, step=stride) for i in range(size)),
        axis=2,
    )
    weight = conv.weight.permute(0, 2, 1).flatten(1)
    return graph.op("Gelu", graph.linear(x, weight, conv.bias))


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


def add_features(graph: Graph, encoder: Encoder) -> str:
    """Add the features [batch, frames, features] of `audio`, as `Encoder` returns them."""
    x = add_log_mel(graph, encoder)
    for conv in (encoder.conv1, encoder.conv2):
        x = add_convolution(graph, x, conv)
    frames = graph.op("Shape", x, start=1, end=2)
    zero = graph.const([0], np.int64)
    positions = graph.op("Slice", graph.weight(encoder.positions), zero, frames, zero)
    x = graph.op("Add", x, positions)
    plain = torch.nn.LayerNorm(encoder.shape.width)
    outputs = [graph.norm(x, plain)]
    for layer in encoder.layers:
        assert isinstance(layer, Layer)
        x = add_layer(graph, x, layer)
        outputs.append(graph.norm(x, plain))
    return graph.op("Concat", *outputs, axis=-1)


def model_proto(graph: Graph, outputs: dict[str, tuple[str, int]]) -> onnx.ModelProto:
    """Return the graph as a model of `audio` float32[batch, samples].

    `outputs` names values of the graph, float32[batch, frames, width], with their widths.
    """
    for name, (value, _) in outputs.items():
        graph.nodes.append(helper.make_node("Identity", [value], [name]))

    def declare(name: str, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    body = helper.make_graph(
        graph.nodes,
        "emotion",
        [declare("audio", "samples")],
        [declare(name, "frames", width) for name, (_, width) in outputs.items()],
        graph.stored,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(body, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(made)
    return made


@torch.no_grad()
def build_encoder(encoder: Encoder) -> onnx.ModelProto:
    """Build the encoder's graph: audio float32[batch, samples] to `frames`, its features."""
    graph = Graph()
    return model_proto(graph, {"frames": (add_features(graph, encoder), encoder.shape.features)})


@torch.no_grad()
def build(model: Emotion) -> onnx.ModelProto:
    """Build the model's graph.

    It maps audio float32[batch, samples] to logits float32[batch, frames, labels] and features
    float32[batch, frames, components], the embedding.
    """
    graph = Graph()
    x = add_features(graph, model.encoder)
    outputs = {}
    for name, layer in (("logits", model.head.out), ("features", model.head.project)):
        weight = graph.const if name == "logits" else graph.weight
        y = graph.op("MatMul", x, weight(layer.weight.T))
        outputs[name] = (graph.op("Add", y, graph.const(layer.bias)), len(layer.bias))
    return model_proto(graph, outputs)


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
    path.write_bytes(build(model).SerializeToString())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"revision": digest[:12], "sample_rate": RATE, "frame_hop": FRAME}
    longest = model.encoder.shape.positions * FRAME
    lengths = list(range(RATE, longest + 1, RATE))
    about |= {
        "lengths": lengths,
        "default_lengths": list(LENGTHS),
        "dim": len(model.head.project.bias),
    }
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
