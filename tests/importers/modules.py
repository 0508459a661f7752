"""Small torch modules of the shapes that networks come in, used by the import tests."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Nested(nn.Module):
    """Sequential within a module within a module."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)),
            nn.Conv2d(8, 6, (1, 3), stride=(1, 2), bias=False),
        )
        self.head = nn.ModuleDict({"classifier": nn.Sequential(nn.Dropout(), nn.Linear(6 * 4 * 2, 5))})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.features(x))
        return functional.softmax(self.head["classifier"](x.view(x.size(0), -1)), dim=1)


class Residual(nn.Module):
    """Branches, a residual sum, a concatenation, in-place ReLU and two poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3, padding="same")
        self.bn = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.right = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.bn(self.stem(x)))
        y = x + functional.leaky_relu(self.left(x), 0.1) - 0.5 * torch.tanh(self.right(x))
        y = torch.cat([self.pool(y), functional.max_pool2d(y, 3, 2, padding=1, ceil_mode=True)], dim=1)
        return self.fc(y.mean([2, 3]))


class InvertedResidual(nn.Module):
    """A MobileNetV2/V3-like block: expand, depthwise, squeeze-excite, project, add."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(6, 12, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12), nn.Hardswish()
        )
        self.squeeze = nn.Conv2d(12, 4, 1)
        self.excite = nn.Conv2d(4, 12, 1)
        self.project = nn.Sequential(nn.Conv2d(12, 6, 1, bias=False), nn.BatchNorm2d(6))
        self.classify = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(self.expand(x))
        gate = functional.hardsigmoid(self.excite(functional.silu(self.squeeze(functional.adaptive_avg_pool2d(y, 1)))))
        return self.classify(x + self.project(y * gate))


class Transformer(nn.Module):
    """Patch embedding, class token, positions, one encoder layer, one attention of its own, one causal."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 5, 16))
        self.encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu", norm_first=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.qkv = nn.Linear(16, 48)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Parameter(torch.randn(16, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], dim=1) + self.positions
        tokens = self.encoder(tokens)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        q, k, v = self.qkv(tokens).reshape(x.shape[0], 5, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.norm(tokens + mixed.transpose(1, 2).flatten(2))[:, 0] @ self.head


class ChunkedAttention(nn.Module):
    """Attention written out: chunks, heads, matmul with a scale, softmax, a causal one beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36, bias=False)
        self.out = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(-1, (3, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        plain = torch.softmax(q @ k.transpose(-2, -1) / 2.0, dim=-1) @ v
        causal = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
        return self.out((plain - causal).transpose(1, 2).reshape(x.shape[0], -1, 12)).mean(1)


class Tied(nn.Module):
    """An encoder and a decoder that share a weight, and a bare parameter with its own bias."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 6)
        self.decoder = nn.Linear(6, 6)
        self.decoder.weight = self.encoder.weight
        self.matrix = nn.Parameter(torch.randn(3, 6))
        self.offset = nn.Parameter(torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(torch.relu(self.decoder(torch.relu(self.encoder(x)))), self.matrix, self.offset)


class SequenceFirst(nn.Module):
    """The batch axis moves behind the sequence, and back at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(12, 3, 24)
        self.cross = nn.MultiheadAttention(12, 2, bias=False)
        self.scale = nn.Parameter(torch.rand(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x.transpose(0, 1)) * self.scale
        y = torch.cat([y, self.cross(y[1:], y, y)[0]], dim=0)
        return torch.softmax(y.permute(1, 2, 0), dim=1).sum(-1) if self.training else y.permute(1, 2, 0)
