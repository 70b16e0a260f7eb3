"""What the teacher says about a crop: standardised features and class odds over 200 classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import augment
import numpy as np
import torch
from cache import TEACHER_WIDTH
from network import CLASSES
from numpy import uint8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MOST_DEVIATIONS = 5.0  # rare, strong activations would otherwise rule the squared error


@dataclass(frozen=True)
class Lesson:
    """The teacher's knowledge of a batch of crops."""

    quadrants: Tensor
    whole: Tensor
    scores: Tensor


class Teacher:
    """Turns cached maps into lessons."""

    def __init__(self, scale: Tensor, fitted: dict[str, Tensor], device: str) -> None:
        self._scale = scale.view(1, -1, 1, 1).to(device)
        self._fitted = {name: value.to(device) for name, value in fitted.items()}

    def lesson(self, maps: Tensor, crops: augment.Crops) -> Lesson:
        """Features and class scores for crops of images whose byte maps are given."""
        fitted = self._fitted
        quadrants = augment.quadrant_features(maps.float() * self._scale, crops)
        whole = quadrants.mean(2)
        scores = functional.linear(
            _standard(whole, fitted, "whole"), fitted["weight"], fitted["bias"]
        )
        flat = _standard(quadrants.transpose(1, 2), fitted, "quadrant").flatten(1)
        return Lesson(
            flat.clamp_(-MOST_DEVIATIONS, MOST_DEVIATIONS),
            _standard(whole, fitted, "whole").clamp_(-MOST_DEVIATIONS, MOST_DEVIATIONS),
            scores,
        )


def _standard(features: Tensor, fitted: dict[str, Tensor], name: str) -> Tensor:
    return (features - fitted[f"{name}_mean"]) / fitted[f"{name}_std"]


def whole_boxes(count: int) -> augment.Crops:
    """The box that is the whole picture, `count` times."""
    zero, one = torch.zeros(count), torch.ones(count)
    return augment.Crops(zero, zero, one, one, torch.zeros(count, dtype=torch.bool))


def _quadrants_of(maps: NDArray[uint8], scale: Tensor) -> Tensor:
    parts = []
    for start in range(0, len(maps), 512):
        batch = torch.from_numpy(np.array(maps[start : start + 512])).float() * scale.view(
            1, -1, 1, 1
        )
        parts.append(augment.quadrant_features(batch, whole_boxes(len(batch))))
    return torch.cat(parts)


def fit(
    train: tuple[NDArray[uint8], Tensor],
    val: tuple[NDArray[uint8], Tensor],
    scale: Tensor,
    path: Path,
) -> tuple[dict[str, Tensor], float]:
    """Statistics of the features and a logistic head on the whole-image mean; fitted once."""
    if not path.exists():
        quadrants = _quadrants_of(train[0], scale)
        whole = quadrants.mean(2)
        fitted = {
            "quadrant_mean": quadrants.mean((0, 2)),
            "quadrant_std": quadrants.transpose(1, 2).flatten(0, 1).std(0) + 1e-4,
            "whole_mean": whole.mean(0),
            "whole_std": whole.std(0) + 1e-4,
        }
        fitted |= _fit_head(_standard(whole, fitted, "whole"), train[1])
        held = _standard(_quadrants_of(val[0], scale).mean(2), fitted, "whole")
        guesses = functional.linear(held, fitted["weight"], fitted["bias"]).argmax(1)
        fitted["val_top1"] = (guesses == val[1]).float().mean()
        save_file(fitted, path)
    fitted = load_file(path)
    return fitted, float(fitted.pop("val_top1"))


def _fit_head(features: Tensor, labels: Tensor) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    head = nn.Linear(TEACHER_WIDTH, CLASSES)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.AdamW(head.parameters(), 3e-3, weight_decay=0.05)
    rounds, batch = 15, 1024
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, rounds * (len(features) // batch + 1)
    )
    for _ in range(rounds):
        for rows in torch.randperm(len(features), generator=rng).split(batch):
            loss = functional.cross_entropy(head(features[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return {"weight": head.weight.detach(), "bias": head.bias.detach()}
