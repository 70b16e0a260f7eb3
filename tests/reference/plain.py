"""Features computed without offshelf: torchvision's transforms and torch.nn.functional.

Written from the papers' layer lists, on a bare state dict, so that nothing is shared with what is
tested: no graph, no module, no card.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812  # its usual name
from torchvision import models, transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from offshelf.engine.interface import Output, Resident

TAPS: Final = ("conv5", "pool5", "fc6", "fc6:pre", "fc7", "fc7:pre")
OFFICIAL_NAMES: Final = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg16": "vgg16-397923af.pth",
}
TOLERANCE: Final = 1e-5  # of a row's norm


def save_official(backbone: str, folder: Path, seed: int = 0) -> Path:
    """Seeded weights in the file that torchvision would have downloaded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(models, backbone)(weights=None)
    path = folder / OFFICIAL_NAMES[backbone]
    torch.save(network.state_dict(), path)
    return path


def to_inputs(images: Sequence[bytes]) -> Tensor:
    """torchvision's usual preprocessing of image files: (N, 3, 224, 224)."""
    pipeline = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return torch.stack([pipeline(Image.open(io.BytesIO(data)).convert("RGB")) for data in images])


def alexnet(state: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """AlexNet's taps of inputs (N, 3, 224, 224)."""
    taps = alexnet_maps(state, x)
    return taps | _dense(state, taps["pool5"], "classifier.1", "classifier.4")


def alexnet_maps(state: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """AlexNet's `conv5` and `pool5` of inputs of any size."""
    plan = ((0, 4, 2, True), (3, 1, 2, True), (6, 1, 1, False), (8, 1, 1, False), (10, 1, 1, False))
    for layer, stride, padding, pooled in plan:
        weight, bias = state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]
        x = F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))
        if pooled:
            x = F.max_pool2d(x, kernel_size=3, stride=2)
    return {"conv5": x, "pool5": F.max_pool2d(x, kernel_size=3, stride=2)}


def vgg16(state: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """VGG-16's taps of inputs (N, 3, 224, 224); `conv5` is the last convolution, conv5_3."""
    taps = {}
    for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        for layer in block:
            weight, bias = state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
        taps["conv5"] = x
        x = F.max_pool2d(x, kernel_size=2, stride=2)
    taps["pool5"] = x
    return taps | _dense(state, x, "classifier.0", "classifier.3")


def _dense(
    state: Mapping[str, Tensor], pool5: Tensor, first: str, second: str
) -> dict[str, Tensor]:
    before_6 = F.linear(pool5.flatten(1), state[f"{first}.weight"], state[f"{first}.bias"])
    after_6 = F.relu(before_6)
    before_7 = F.linear(after_6, state[f"{second}.weight"], state[f"{second}.bias"])
    return {"fc6:pre": before_6, "fc6": after_6, "fc7:pre": before_7, "fc7": F.relu(before_7)}


NETWORKS: Final[dict[str, Callable[[Mapping[str, Tensor], Tensor], dict[str, Tensor]]]] = {
    "alexnet": alexnet,
    "vgg16": vgg16,
}


def features(backbone: str, weights: Path, images: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Every tap of `TAPS` for image files, from weights in torchvision's own format."""
    state = torch.load(weights, weights_only=True)
    with torch.inference_mode():
        parts = [NETWORKS[backbone](state, part) for part in to_inputs(images).split(8)]
    return {tap: torch.cat([part[tap] for part in parts]).numpy() for tap in TAPS}


def worst_row_error(got: np.ndarray, want: np.ndarray) -> float:
    """The largest distance of a row from what it should be, as a part of that row's norm."""
    assert got.shape == want.shape
    rows = (len(want), -1)
    distance = np.linalg.norm((got.astype(float) - want).reshape(rows), axis=1)
    return float((distance / np.linalg.norm(want.reshape(rows), axis=1)).max())


def forward(
    resident: Resident, batch: np.ndarray, outputs: Sequence[Output]
) -> dict[Output, np.ndarray]:
    """The outputs (N, ...) of a batch (N, H, W, 3) whose inputs are an image each."""
    found = resident.forward([(image[np.newaxis],) for image in batch], outputs)
    return {output: np.stack(list(values)) for output, values in found.items()}


def alexnet_everywhere(state: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """AlexNet's taps of inputs of any size, its linear layers as convolutions: all are maps."""
    taps = alexnet_maps(state, x)
    for name, layer, shape in (("fc6", 1, (-1, 256, 6, 6)), ("fc7", 4, (-1, 4096, 1, 1))):
        x = taps["pool5"] if name == "fc6" else taps["fc6"]
        weight, bias = state[f"classifier.{layer}.weight"], state[f"classifier.{layer}.bias"]
        taps[f"{name}:pre"] = F.conv2d(x, weight.view(shape), bias)
        taps[name] = F.relu(taps[f"{name}:pre"])
    return taps


def normalised(images: Sequence[Image.Image]) -> Tensor:
    """torchvision's ToTensor and Normalize of images of one size: (N, 3, H, W)."""
    pipeline = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return torch.stack([pipeline(image) for image in images])
