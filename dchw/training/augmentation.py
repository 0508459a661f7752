"""Random affine changes of images, fast enough on one core to be done for every epoch."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch.nn import functional

from dchw.config import Config

_CHUNK_IMAGES = 1_000
"""Images resampled at once: large enough to hide per-call cost, small enough to stay in cache."""


class Augmentation(Config):
    """Largest change of each kind; each image draws its own from a uniform distribution around none."""

    shift_pixels: float = Field(default=0.0, ge=0)
    """Along either axis."""
    rotation_degrees: float = Field(default=0.0, ge=0, le=180)
    """Either way."""
    scale: float = Field(default=0.0, ge=0, lt=1)
    """0.1: each axis between 0.9 and 1.1 times its size."""
    shear: float = Field(default=0.0, ge=0)
    """Horizontal shift per vertical distance, either way."""

    @property
    def changes(self) -> bool:
        """Whether any image can change."""
        return any(self.dump().values())


def augment(images: torch.Tensor, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Changed copies of uint8[n, channels, height, width], resampled bilinearly, background beyond the border.

    Random numbers come from ``generator``, a CPU generator, so that results do not depend on the device.
    """
    if not augmentation.changes:
        return images
    out = torch.empty_like(images)
    for start in range(0, len(images), _CHUNK_IMAGES):
        chunk = images[start : start + _CHUNK_IMAGES]
        theta = _transforms(len(chunk), images.shape[-2:], augmentation, generator).to(images.device)
        grid = functional.affine_grid(theta, list(chunk.shape), align_corners=False)
        moved = functional.grid_sample(chunk.float(), grid, align_corners=False)
        out[start : start + _CHUNK_IMAGES] = moved.round_().clamp_(0, 255).to(torch.uint8)
    return out


def _transforms(count: int, size: torch.Size, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """float32[n, 2, 3]: where each output point is read from, in grid coordinates (-1..1 over the image)."""

    def draw(limit: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle = draw(math.radians(augmentation.rotation_degrees))
    width_scale, height_scale = 1 + draw(augmentation.scale), 1 + draw(augmentation.scale)
    shear = draw(augmentation.shear)
    right = draw(2 * augmentation.shift_pixels / size[1])
    down = draw(2 * augmentation.shift_pixels / size[0])
    cosine, sine = torch.cos(angle), torch.sin(angle)
    rows = (
        torch.stack([cosine * width_scale, (shear - sine) * width_scale, right], 1),
        torch.stack([sine * height_scale, cosine * height_scale, down], 1),
    )
    return torch.stack(rows, 1)
