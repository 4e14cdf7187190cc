"""A diffusion transformer, to be traced: DiT-XL/2 as published by Peebles and Xie, arXiv 2212.09748, in plain torch.

Patches of a latent image, a time and a class that set scale, shift and gate of each block, attention over all patches,
and a loss on the noise. transformers has none, and diffusers is no dependency of ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor
#: Width, layers, heads, edge of the latent image, classes.
_FULL, _SMALL = (1152, 28, 16, 32, 1000), (128, 28, 8, 8, 100)
_PATCH, _CHANNELS = 2, 4


class Block(nn.Module):
    """Attention and a feed-forward, each scaled, shifted and gated by what conditions it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.second = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.joined, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.condition = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        shift, scale, gate, shift_2, scale_2, gate_2 = self.condition(functional.silu(given)).unsqueeze(1).chunk(6, -1)
        query, key, value = self.joined(self.first(x) * (1 + scale) + shift).unflatten(-1, (3, self.heads, -1)).unbind(2)
        seen = functional.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        x = x + gate * self.out(seen.transpose(1, 2).flatten(2))
        hidden = functional.gelu(self.up(self.second(x) * (1 + scale_2) + shift_2), approximate="tanh")
        out: Tensor = x + gate_2 * self.down(hidden)
        return out


class DiffusionTransformer(nn.Module):
    """Latent images (N, 4, S, S), times (N) and classes (N) to the mean square error of the noise that it tells."""

    def __init__(self, width: int, layers: int, heads: int, edge: int, classes: int) -> None:
        super().__init__()
        self.width = width
        self.patches = nn.Conv2d(_CHANNELS, width, _PATCH, _PATCH)
        self.places = nn.Parameter(torch.zeros(1, (edge // _PATCH) ** 2, width))
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.condition = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, _PATCH * _PATCH * _CHANNELS)

    def forward(self, image: Tensor, time: Tensor, label: Tensor, noise: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2) + self.places
        rates = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32, device=image.device) / 128)
        angle = time[:, None].float() * rates[None]
        waves = torch.cat([angle.cos(), angle.sin()], -1).to(image.dtype)
        given = self.time(waves) + self.label(label)
        for block in self.blocks:
            x = block(x, given)
        shift, scale = self.condition(functional.silu(given)).unsqueeze(1).chunk(2, -1)
        output = self.out(self.norm(x) * (1 + scale) + shift)
        return functional.mse_loss(output.float(), noise.float())


def dit(images: int, small: bool) -> tuple[nn.Module, dict[str, Any]]:
    """DiT-XL/2 on so many images of 256 x 256 pixels at once (latent 32 x 32), or a small one of the same build."""
    width, layers, heads, edge, classes = _SMALL if small else _FULL
    count = (edge // _PATCH) ** 2
    return DiffusionTransformer(width, layers, heads, edge, classes), {
        "image": torch.zeros(images, _CHANNELS, edge, edge), "time": torch.zeros(images, dtype=torch.long),
        "label": torch.zeros(images, dtype=torch.long), "noise": torch.zeros(images, count, _PATCH * _PATCH * _CHANNELS),
    }  # fmt: skip
