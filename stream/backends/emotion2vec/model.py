"""The network of emotion2vec+, for inference, written for readability.

emotion2vec (Ma et al., arXiv 2312.15185) is data2vec 2.0 on speech with one linear head: strided
convolutions turn the waveform into 50 frames per second, five convolutions add relative positions,
and a post-norm transformer with ALiBi (Press et al., arXiv 2108.12409) attends to the whole window
at once. Shapes below are [batch, time, channels] unless stated otherwise. No tensor of the network
depends on earlier inputs, and no operation mixes rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from stream.backends.emotion2vec.config import Conv, Shape

WAVE_EPS = 1e-5
"""Added to the variance of a waveform: below about -40 dBFS a window is not fully normalised."""

BIAS_ALIGNMENT = 8
"""Elements; torch's memory-efficient attention requires bias strides in multiples of this."""


class Network(nn.Module):
    """Waveform float32[batch, samples] at 16 kHz → logits float32[batch, frames, labels].

    frames = (samples - 400) // 320 + 1 with the published front end. Because the head is linear,
    the mean of a row's frame logits is the logit of its utterance as FunASR computes it.
    """

    slopes: Tensor

    def __init__(self, shape: Shape, labels: int) -> None:
        super().__init__()
        dim = shape.dim
        channels = [1, *(channels for channels, _, _ in shape.convs)]
        self.normalize = shape.normalize
        self.frontend = nn.ModuleList(
            FrontLayer(inputs, conv) for inputs, conv in zip(channels, shape.convs, strict=False)
        )
        self.front_norm = nn.LayerNorm(channels[-1])
        self.front_proj = nn.Linear(channels[-1], dim)
        self.positions = nn.ModuleList(PositionLayer(shape) for _ in range(shape.position_layers))
        self.norm = nn.LayerNorm(dim, eps=shape.norm_eps)
        self.extra_tokens = nn.Parameter(torch.empty(1, shape.extra_tokens, dim))
        self.alibi_scale = nn.Parameter(torch.empty(1, 1, shape.alibi_scales, 1, 1))
        # A constant, so it has storage on the CPU even if the network is built on the meta device.
        slopes = torch.tensor(alibi_slopes(shape.heads), device="cpu")
        self.register_buffer("slopes", slopes[:, None, None], persistent=False)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.prenet + shape.depth))
        self.head = nn.Linear(dim, labels)

    def forward(self, audio: Tensor) -> Tensor:
        """Return logits of every frame, for all labels of the file."""
        return self.logits(self.features(audio))

    def logits(self, features: Tensor) -> Tensor:
        """Apply the head, in its own precision, to the output of `features`."""
        logits: Tensor = self.head(features.to(self.head.weight.dtype))
        return logits

    def features(self, audio: Tensor) -> Tensor:
        """Return the frames before the head, [batch, frames, dim]: FunASR's `feats`."""
        x = normalized(audio) if self.normalize else audio
        x = x[:, :, None]
        for layer in self.frontend:
            x = layer(x)
        x = self.front_proj(self.front_norm(x))
        positions = x
        for layer in self.positions:
            positions = layer(positions)
        x = x + positions
        # The extra tokens are prepended to the frames. Their ALiBi distance to every frame is 0,
        # and the norm of the context encoder is applied after they are prepended.
        bias = self.bias(x.shape[1], x.dtype)
        x = self.norm(torch.cat([self.extra_tokens.expand(x.shape[0], -1, -1), x], dim=1))
        for block in self.blocks:
            x = block(x, bias)
        return x[:, self.extra_tokens.shape[1] :]

    def bias(self, frames: int, dtype: torch.dtype) -> Tensor:
        """Return the attention bias [1, heads, time, time]; it is 0 for the extra tokens.

        Rows lie at multiples of `BIAS_ALIGNMENT` elements in memory: CUDA's memory-efficient
        attention copies a bias that does not, once per block.
        """
        extra = self.extra_tokens.shape[1]
        filler = -(frames + extra) % BIAS_ALIGNMENT
        padded = F.pad(self.alibi(frames).to(dtype), (extra, filler, extra, 0))
        return padded[..., : frames + extra]

    def alibi(self, frames: int) -> Tensor:
        """Return -distance · slope · learned scale, [1, heads, frames, frames].

        A learned scale below 0 counts as 0.
        """
        at = torch.arange(frames, device=self.slopes.device)
        distance = (at[:, None] - at[None, :]).abs()
        return -distance * self.slopes * self.alibi_scale[0].float().clamp(min=0)

    def cast(self, dtype: torch.dtype) -> Network:
        """Compute in `dtype`, except the product with the waveform, ALiBi's scale and the head.

        Eight bits of mantissa are enough for frames but too few for a waveform.
        """
        frames = (self.front_norm, self.front_proj, self.positions, self.norm, self.blocks)
        for module in (*self.frontend[1:], *frames):
            module.to(dtype)
        # The first layer has the largest output, so only its product stays in float32.
        self.frontend[0].norm.to(dtype)
        self.extra_tokens.data = self.extra_tokens.data.to(dtype)
        return self


def normalized(audio: Tensor) -> Tensor:
    """Normalise every row of [batch, samples] to mean 0 and variance 1, from its own statistics."""
    centred = audio - audio.mean(dim=-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + WAVE_EPS)


class FrontLayer(nn.Module):
    """Convolution without bias, layer norm over the channels, GELU.

    The convolution is a sum of matrix products. With a kernel of width 3 and stride 2, two taps
    read frames that are adjacent in memory and form one product; the third tap is another. That
    needs neither the transpositions around the norm nor an unfolded copy of the input. The waveform
    has one channel, so its unfolded copy is small compared with the output, and one product is
    enough.
    """

    def __init__(self, inputs: int, conv: Conv) -> None:
        super().__init__()
        outputs, self.width, self.stride = conv
        # [outputs, inputs, width] as usual, but stored tap by tap, as the products read it.
        self.weight = nn.Parameter(torch.empty(self.width, inputs, outputs).permute(2, 1, 0))
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, inputs = x.shape
        x = x.to(self.weight.dtype)
        taps = self.weight.permute(2, 1, 0)
        frames = (time - self.width) // self.stride + 1
        full = self.width // self.stride * self.stride
        views = [
            x[:, tap : tap + frames * self.stride].reshape(batch, frames, self.stride * inputs)
            for tap in range(0, full, self.stride)
        ]
        views += [
            x[:, tap : tap + (frames - 1) * self.stride + 1 : self.stride]
            for tap in range(full, self.width)
        ]
        kernel = taps.reshape(self.width * inputs, -1)
        if inputs == 1:
            product = torch.cat(views, dim=-1) @ kernel
            return F.gelu(self.norm(product.to(self.norm.weight.dtype)))
        first, *rest = zip(views, kernel.split([view.shape[-1] for view in views]), strict=True)
        y = first[0] @ first[1]
        for view, part in rest:
            # Accumulates inside the product: a separate sum would read and write all of `y` again.
            y = y.baddbmm_(view, part.expand(batch, -1, -1))
        return F.gelu(self.norm(y))


class PositionLayer(nn.Module):
    """Grouped convolution that keeps the length, layer norm without parameters, GELU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dim, width = shape.dim, shape.position_width
        self.conv = nn.Conv1d(
            shape.dim, shape.dim, width, padding=width // 2, groups=shape.position_groups
        )

    def forward(self, x: Tensor) -> Tensor:
        # An even kernel, padded on both sides, produces one frame too many.
        y = self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        return F.gelu(F.layer_norm(y, (self.dim,)))


class Block(nn.Module):
    """Self-attention and MLP, each added to its input and then normalised (post-norm)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        dim = shape.dim
        self.heads = shape.heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim, eps=shape.norm_eps)
        self.fc1 = nn.Linear(dim, shape.mlp)
        self.fc2 = nn.Linear(shape.mlp, dim)
        self.norm2 = nn.LayerNorm(dim, eps=shape.norm_eps)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Apply the block; `bias` [1, heads, time, time] is added to the attention logits."""
        x = self.norm1(x + self.attention(x, bias))
        y: Tensor = self.norm2(x + self.fc2(F.gelu(self.fc1(x))))
        return y

    def attention(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, time, dim = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        attended: Tensor = self.out(y.transpose(1, 2).reshape(batch, time, dim))
        return attended


def alibi_slopes(heads: int) -> Sequence[float]:
    """Return a geometric series that starts at 2^(-8/heads).

    If heads is not a power of two, it is the series of the next lower power, extended with every
    second slope of the next higher power (code of arXiv 2108.12409).
    """
    below = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    return [*slopes, *(2 ** (-4 * (2 * i + 1) / below) for i in range(heads - below))]
