"""The encoder: Whisper-style log-mels, convolution stem and first transformer layers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Array = NDArray[np.float32]

RATE, FFT, HOP = 16_000, 400, 160
"""Samples per second, per spectrum and between spectra, as in Whisper."""

FLOOR = -3.5
"""Lower bound of a row's loudest mel power, as log10: speech of about -70 dBFS."""

MIN_POWER = 1e-12
"""Minimum mel power: more than 8 decades below FLOOR, so it never limits how gain cancels."""


@dataclass(frozen=True)
class Shape:
    """Dimensions of an encoder; the defaults are Whisper tiny's, cut to two layers and 3 s."""

    width: int = 384
    heads: int = 6
    layers: int = 2
    mels: int = 80
    positions: int = 150

    @property
    def features(self) -> int:
        """Number of features of a frame."""
        return (self.layers + 1) * self.width


def mel_filters(mels: int) -> Array:
    """Return Slaney's mel filter bank with unit area, float32[FFT // 2 + 1, mels]."""
    linear_hz, linear_mel, step = 1000.0, 15.0, np.log(6.4) / 27.0
    top = linear_mel + np.log(RATE / 2 / linear_hz) / step
    points = np.linspace(0.0, top, mels + 2)
    hz = np.where(
        points < linear_mel,
        points * linear_hz / linear_mel,
        linear_hz * np.exp(step * (points - linear_mel)),
    )
    bins = np.fft.rfftfreq(FFT, 1 / RATE)[:, None]
    rising = (bins - hz[:-2]) / np.diff(hz)[:-1]
    falling = (hz[2:] - bins) / np.diff(hz)[1:]
    bank: Array = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (hz[2:] - hz[:-2])
    return bank.astype(np.float32, copy=False)


def fourier_basis() -> Array:
    """Return windowed cosines, then sines, as kernels float32[2 * (FFT // 2 + 1), 1, FFT]."""
    time = np.arange(FFT)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / FFT)
    phase = 2 * np.pi * np.outer(np.arange(FFT // 2 + 1), time) / FFT
    basis = np.concatenate([np.cos(phase), np.sin(phase)]) * window
    return basis[:, None, :].astype(np.float32)


class LogMel(nn.Module):
    """Audio float32[rows, samples] → log-mels float32[rows, mels, samples // HOP].

    Each row is scaled by its own loudest mel, so gain cancels exactly and rows do not influence
    each other. Rows quieter than FLOOR are scaled by FLOOR instead: silence stays silence.
    """

    basis: Tensor
    filters: Tensor

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.register_buffer("basis", torch.from_numpy(fourier_basis()), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_filters(mels)), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        return self.normalised(self.levels(audio))

    def levels(self, audio: Tensor) -> Tensor:
        """Return log10 of the mel powers, before rows are scaled by their loudest mel."""
        # As many frames as hops: Whisper computes one more at the end and drops it.
        padded = functional.pad(audio[:, None], (FFT // 2, FFT // 2 - HOP), mode="reflect")
        waves = functional.conv1d(padded, self.basis, stride=HOP)
        cosines, sines = waves.chunk(2, dim=1)
        power = self.filters.T @ (cosines.square() + sines.square())
        return power.clamp(min=MIN_POWER).log10()

    @staticmethod
    def normalised(levels: Tensor) -> Tensor:
        """Return the encoder's input for `levels`."""
        loudest = levels.amax(dim=(1, 2), keepdim=True).clamp(min=FLOOR)
        # The loudest mel becomes 1.9, its value for speech of unit variance on Whisper's scale.
        return (levels - loudest).clamp(min=-8.0) / 4.0 + 1.9


class Layer(nn.Module):
    """One pre-norm transformer layer over float32[rows, frames, width]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.reshape(*y.shape[:2], self.heads, -1).transpose(1, 2)

        y = self.attention_norm(x)
        mixed = functional.scaled_dot_product_attention(
            split(self.query(y)), split(self.key(y)), split(self.value(y))
        )
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        fed: Tensor = self.down(functional.gelu(self.up(self.feed_norm(x))))
        return x + fed


class Encoder(nn.Module):
    """Audio float32[rows, samples] → features float32[rows, samples // 320, shape.features].

    Those of a frame (20 ms) are the outputs of the stem and of all layers, each normalised over its
    values.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.mel = LogMel(shape.mels)
        self.conv1 = nn.Conv1d(shape.mels, shape.width, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.width, shape.width, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(shape.positions, shape.width))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))

    def forward(self, audio: Tensor) -> Tensor:
        return self.encode(self.mel(audio))

    def encode(self, mels: Tensor) -> Tensor:
        """Return the features of log-mels float32[rows, mels, samples // HOP]."""
        x = functional.gelu(self.conv1(mels))
        x = functional.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        width = (self.shape.width,)
        outputs = [functional.layer_norm(x, width)]
        for layer in self.layers:
            x = layer(x)
            outputs.append(functional.layer_norm(x, width))
        return torch.cat(outputs, dim=-1)


def save_encoder(path: Path, encoder: Encoder) -> None:
    """Write shape and weights as one npz file."""
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    weights |= {f"shape.{k}": np.array(v) for k, v in asdict(encoder.shape).items()}
    np.savez(path, allow_pickle=False, **weights)


def load_encoder(path: Path, layers: int | None = None) -> Encoder:
    """Read a file of `save_encoder`, with fewer layers if asked; return the encoder, frozen."""
    with np.load(path) as stored:
        arrays = dict(stored)
    shape = Shape(**{k: int(arrays.pop(f"shape.{k}")) for k in asdict(Shape())})
    encoder = Encoder(replace(shape, layers=min(shape.layers, layers or shape.layers)))
    names = encoder.state_dict()
    encoder.load_state_dict({name: torch.from_numpy(arrays[name]) for name in names})
    encoder.requires_grad_(False).eval()
    return encoder
