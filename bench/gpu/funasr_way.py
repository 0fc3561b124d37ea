"""Arithmetic of FunASR's emotion2vec as a reference: one window at a time, in float32.

Written from observations of a running FunASR 1.4.16: convolutions on [batch, channels, time] with a
transposition around each layer norm, explicit attention products with softmax in float32, the
whole waveform normalised per item, every frame's features copied to the host, and the allocator's
cache emptied after each item. FunASR's own overhead per call (1 to 2 ms of Python) is left out, so
ratios to it are too low rather than too high. `tests/bench/test_gpu.py` compares its scores with
FunASR's.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the name all of torch uses

from stream.backends.emotion2vec.backend import Emotion2vec
from stream.backends.emotion2vec.eager import EagerRunner
from stream.backends.emotion2vec.model import Block, Network


class FunasrWay:
    """Emotide's weights, run as FunASR runs them."""

    def __init__(self, network: Network, device: str) -> None:
        self._network = network.to(device)
        self._device = device

    @classmethod
    def of(cls, model: Emotion2vec, device: str) -> FunasrWay:
        """Return the way of a model that was loaded with `runtime="torch"` on the CPU."""
        assert isinstance(model.runner, EagerRunner)
        assert model.runner.scorer is not None
        return cls(model.runner.scorer.network, device)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores float32[batch, labels] of windows float32[batch, samples]."""
        # FunASR keeps torch's default, TF32 in convolutions; `emotion2vec.load` turns it off.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
            return np.stack([self._one(row) for row in batch])

    @torch.inference_mode()
    def _one(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        source = torch.from_numpy(row).to(self._device)
        source = F.layer_norm(source, source.shape).view(1, -1)
        features = self._features(source)
        scores = F.softmax(self._network.head(features.mean(dim=1)), dim=-1)
        features.cpu().numpy()
        result: NDArray[np.float32] = scores[0].cpu().numpy()
        if self._device != "cpu":
            torch.cuda.empty_cache()
        return result

    def _features(self, source: Tensor) -> Tensor:
        network = self._network
        x = source[:, None]
        for layer in network.frontend:
            x = F.conv1d(x, layer.weight.contiguous(), stride=layer.stride)
            x = F.gelu(_norm(x.transpose(1, 2), layer.norm).transpose(1, 2))
        x = network.front_proj(_norm(x.transpose(1, 2), network.front_norm))
        y = x.transpose(1, 2)
        for layer in network.positions:
            y = layer.conv(y)[..., : x.shape[1]]
            y = F.gelu(F.layer_norm(y.transpose(1, 2), (layer.dim,)).transpose(1, 2))
        x = x + y.transpose(1, 2)
        extra = network.extra_tokens.shape[1]
        bias = F.pad(network.alibi(x.shape[1]), (extra, 0, extra, 0))
        x = network.norm(torch.cat([network.extra_tokens, x], dim=1))
        for block in network.blocks:
            x = block.norm1(x + _attention(block, x, bias))
            x = block.norm2(x + block.fc2(F.gelu(block.fc1(x))))
        return x[:, extra:]


def _norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    return F.layer_norm(x.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _attention(block: Block, x: Tensor, bias: Tensor) -> Tensor:
    rows, time, dim = x.shape
    qkv = block.qkv(x).reshape(rows, time, 3, block.heads, dim // block.heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    weights = (query * (dim // block.heads) ** -0.5) @ key.transpose(-2, -1)
    weights = (weights.float() + bias).softmax(dim=-1)
    joined: Tensor = block.out((weights @ value).transpose(1, 2).reshape(rows, time, dim))
    return joined
