"""Random crops, flips, colour and mixing as batched tensor operations, and their teacher crops."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Crops:
    """One crop box per image, in parts of its side, and whether it is mirrored."""

    left: Tensor
    top: Tensor
    width: Tensor
    height: Tensor
    mirrored: Tensor


def uniform(count: int, low: float, high: float, rng: Generator) -> Tensor:
    """`count` numbers drawn evenly between `low` and `high`."""
    return torch.rand(count, generator=rng) * (high - low) + low


def draw_crops(count: int, smallest: float, rng: Generator) -> Crops:
    """Boxes of `smallest`..1 of the area and 3/4..4/3 in shape, anywhere, half of them mirrored."""
    area = uniform(count, smallest, 1.0, rng)
    ratio = torch.exp(uniform(count, -0.2877, 0.2877, rng))
    width, height = (area * ratio).sqrt().clamp_max(1.0), (area / ratio).sqrt().clamp_max(1.0)
    left = torch.rand(count, generator=rng) * (1 - width)
    top = torch.rand(count, generator=rng) * (1 - height)
    return Crops(left, top, width, height, torch.rand(count, generator=rng) < 0.5)


def cut(pixels: Tensor, crops: Crops, side: int) -> Tensor:
    """The crops of float images, each resized to `side` with bilinear sampling."""
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0] = torch.where(crops.mirrored, -crops.width, crops.width)
    theta[:, 1, 1] = crops.height
    theta[:, 0, 2] = 2 * crops.left + crops.width - 1
    theta[:, 1, 2] = 2 * crops.top + crops.height - 1
    grid = functional.affine_grid(
        theta.to(pixels.device), [len(pixels), 3, side, side], align_corners=False
    )
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _halves(start: Tensor, length: Tensor, cells: int) -> Tensor:
    """For each box, the share of its two halves in each cell of the map (N x 2 x cells)."""
    edges = torch.arange(cells) / cells
    low = torch.stack([start, start + length / 2], 1).unsqueeze(2)
    high = low + (length / 2).view(-1, 1, 1)
    overlap = torch.minimum(high, edges + 1 / cells) - torch.maximum(low, edges)
    return overlap.clamp_min(0) / (length / 2).view(-1, 1, 1)


def quadrant_features(maps: Tensor, crops: Crops) -> Tensor:
    """Mean of the maps over each crop's four quadrants, as the student sees them (N x C x 4)."""
    cells = maps.shape[-1]
    rows = _halves(crops.top, crops.height, cells)
    columns = _halves(crops.left, crops.width, cells)
    columns = torch.where(crops.mirrored.view(-1, 1, 1), columns.flip(1), columns)
    weight = torch.einsum("nih,njw->nhwij", rows, columns).reshape(len(maps), cells * cells, 4)
    return torch.bmm(maps.flatten(2), weight.to(maps.device))


def _per_image(count: int, low: float, high: float, rng: Generator, like: Tensor) -> Tensor:
    return uniform(count, low, high, rng).view(-1, 1, 1, 1).to(like.device)


def recolour(pixels: Tensor, strength: float, rng: Generator) -> Tensor:
    """Brightness, contrast and saturation by up to `strength`, a tenth of the images greyed."""
    count = len(pixels)
    weights = torch.tensor([0.299, 0.587, 0.114], device=pixels.device).view(1, 3, 1, 1)
    grey = (pixels * weights).sum(1, keepdim=True)
    saturation = _per_image(count, 1 - strength, 1 + strength, rng, pixels)
    greyed = (torch.rand(count, generator=rng) < 0.1).view(-1, 1, 1, 1).to(pixels.device)
    pixels = torch.lerp(grey, pixels, saturation.masked_fill(greyed, 0.0))
    middle = grey.mean((2, 3), keepdim=True)
    contrast = _per_image(count, 1 - strength, 1 + strength, rng, pixels)
    brightness = _per_image(count, 1 - strength, 1 + strength, rng, pixels)
    return (((pixels - middle) * contrast + middle) * brightness).clamp_(0, 255)


def refocus(pixels: Tensor, rng: Generator) -> Tensor:
    """Sharpen or soften: photographs shrunk from a large file are crisper than the training set."""
    soft = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    amount = _per_image(len(pixels), 0.3, 2.0, rng, pixels)
    return torch.lerp(soft, pixels, amount).clamp_(0, 255)


def erase(pixels: Tensor, share: float, rng: Generator) -> Tensor:
    """Blank one box (to the mean colour, zero) in a `share` of the normalised images."""
    side = pixels.shape[-1]
    box = draw_crops(len(pixels), 0.05, rng)
    scale = 0.45 * (torch.rand(len(pixels), generator=rng) < share)
    place = (torch.arange(side) + 0.5) / side

    def inside(start: Tensor, length: Tensor) -> Tensor:
        offset = place - start.view(-1, 1)
        return (offset >= 0) & (offset < (length * scale).view(-1, 1))

    hole = inside(box.top, box.height).unsqueeze(2) & inside(box.left, box.width).unsqueeze(1)
    return pixels.masked_fill_(hole.unsqueeze(1).to(pixels.device), 0.0)
