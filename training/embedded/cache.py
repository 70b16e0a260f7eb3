"""Decode the images and run the teacher once, so that no training step pays for either again."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import squeezenet1_0

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 64
TEACHER_SIDE = 128
MAP = 7  # side of the teacher's last map for a 128-pixel input
TEACHER_WIDTH = 512
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(pixels: Tensor) -> Tensor:
    """Bytes or 0..255 floats, NCHW, to the usual ImageNet normalisation."""
    mean = torch.tensor(MEAN).view(1, 3, 1, 1) * 255
    std = torch.tensor(STD).view(1, 3, 1, 1) * 255
    return (pixels.float() - mean.to(pixels.device)) / std.to(pixels.device)


def _decode(blob: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(blob)) as image:
        rgb = np.asarray(image.convert("RGB"), dtype=np.uint8)
    if rgb.shape != (SIDE, SIDE, 3):
        raise ValueError(f"expected a {SIDE}x{SIDE} image, got {rgb.shape}")
    return rgb.transpose(2, 0, 1)


def decode_split(
    data: Path, split: str, cache: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The split's pixels (memory-mapped, N x 3 x 64 x 64) and labels, decoded on first use."""
    pixels_path, labels_path = cache / f"{split}-pixels.npy", cache / f"{split}-labels.npy"
    if not labels_path.exists():
        table = pd.read_parquet(data / "tiny-imagenet-200" / f"{split}.parquet")
        cache.mkdir(parents=True, exist_ok=True)
        partial = cache / f"{split}-pixels.partial.npy"
        out = np.lib.format.open_memmap(
            partial, mode="w+", dtype=np.uint8, shape=(len(table), 3, SIDE, SIDE)
        )
        for row, blob in enumerate(table["image"]):
            out[row] = _decode(blob)
        out.flush()
        partial.replace(pixels_path)
        # The labels are written last: their presence says that the pixels are whole.
        np.save(labels_path, table["label"].to_numpy(np.int64))
    return np.load(pixels_path, mmap_mode="r"), np.load(labels_path)


def load_teacher(path: Path) -> nn.Module:
    """The convolutional part of SqueezeNet 1.0, ending after the last fire module's ReLU."""
    model = squeezenet1_0(weights=None)
    model.load_state_dict(load_file(path))
    features: nn.Module = model.features
    return features.eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def teacher_maps(teacher: nn.Module, pixels: Tensor, side: int = TEACHER_SIDE) -> Tensor:
    """The teacher's last maps, float32, for a batch of byte images enlarged to `side`."""
    big = functional.interpolate(normalise(pixels), size=side, mode="bilinear", align_corners=False)
    device = next(teacher.parameters()).device
    big = big.to(device).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16):
        maps: Tensor = teacher(big)
    return maps.float().cpu()


def _channel_scale(teacher: nn.Module, pixels: NDArray[np.uint8]) -> Tensor:
    """One byte step per channel: 1/255 of the channel's 99.95th percentile over a sample."""
    rows = np.random.RandomState(0).permutation(len(pixels))[:1024]
    maps = teacher_maps(teacher, torch.from_numpy(pixels[np.sort(rows)]))
    flat = maps.permute(1, 0, 2, 3).reshape(TEACHER_WIDTH, -1)
    kept = max(1, round(flat.shape[1] * 0.0005))
    return flat.topk(kept, dim=1).values[:, -1].clamp_min(1e-3) / 255


def teach_split(
    pixels: NDArray[np.uint8], split: str, cache: Path, weights: Path, device: str, batch: int = 256
) -> tuple[NDArray[np.uint8], Tensor]:
    """The teacher's maps for a split as bytes (memory-mapped) and the step of each channel."""
    maps_path, scale_path = cache / f"{split}-teacher.npy", cache / "teacher-scale.npy"
    if not maps_path.exists():
        teacher = load_teacher(weights).to(device)
        if not scale_path.exists():
            np.save(scale_path, _channel_scale(teacher, pixels).numpy())
        scale = torch.from_numpy(np.load(scale_path))
        _write_maps(teacher, pixels, scale, maps_path, batch)
    return np.load(maps_path, mmap_mode="r"), torch.from_numpy(np.load(scale_path))


def _write_maps(
    teacher: nn.Module, pixels: NDArray[np.uint8], scale: Tensor, path: Path, batch: int
) -> None:
    partial = path.with_suffix(".partial.npy")
    shape = (len(pixels), TEACHER_WIDTH, MAP, MAP)
    out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    began = time.monotonic()
    for start in range(0, len(pixels), batch):
        maps = teacher_maps(teacher, torch.from_numpy(np.array(pixels[start : start + batch])))
        steps = (maps / scale.view(1, -1, 1, 1)).round_().clamp_(0, 255)
        out[start : start + batch] = steps.to(torch.uint8).numpy()
        if (start // batch) % 20 == 0:
            rate = (start + batch) / (time.monotonic() - began)
            print(json.dumps({"teacher": start + batch, "of": len(pixels), "per_s": round(rate)}))
    out.flush()
    partial.replace(path)
