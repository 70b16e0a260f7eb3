"""What a head learns from: targets as columns of signs, the weights of images and classes.

Also says what cannot train a head, and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from offshelf.heads.recipe import Recipe
    from offshelf.heads.solver.task import Task


def check_features(
    X: NDArray[np.floating],
    target: NDArray[np.int64],
    sample_weight: NDArray[np.floating] | None = None,
) -> None:
    """InvalidParameter unless these can train a head."""
    if X.ndim != 2 or not X.size:
        raise InvalidParameter(f"features are (images, dimensions), both above 0; not {X.shape}")
    if len(target) != len(X):
        raise InvalidParameter(f"{len(X)} rows of features, but targets of {len(target)} images")
    if not np.isfinite(X).all():
        raise InvalidParameter("the features have NaN or infinite values")
    if target.ndim == 1:
        if len(np.unique(target)) < 2:
            raise InvalidParameter("a head needs at least two classes; the images are of one class")
        if target.min() < 0:
            raise InvalidParameter("classes are numbered from 0")
    elif not np.isin(target, (0, 1)).all():
        raise InvalidParameter("multi-label targets are 0 and 1")
    if sample_weight is not None:
        _check_weight(sample_weight, target)


def _check_weight(weight: NDArray[np.floating], target: NDArray[np.int64]) -> None:
    if weight.shape not in (target.shape[:1], target.shape):
        raise InvalidParameter(
            f"weights are one an image or one an image and label; not {weight.shape}"
        )
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise InvalidParameter("weights are 0 or more")


def task_of(
    recipe: Recipe,
    target: NDArray[np.int64],
    sample_weight: NDArray[np.floating] | None,
    like: Tensor,
) -> Task:
    """The loss, its targets and its weights; two classes are one column, the second's."""
    import torch

    from offshelf.heads.solver.task import Task

    classes = int(target.max()) + 1 if target.ndim == 1 else target.shape[1]
    if recipe.loss == "softmax" and target.ndim == 2:
        raise InvalidParameter("softmax has one class an image; multi-label needs one-vs-rest")
    weight = _weights(recipe, target, sample_weight, classes)
    if recipe.loss == "softmax" and classes > 2:
        labels = torch.as_tensor(target, device=like.device)
        return Task("softmax", labels, like.new_tensor(weight), classes)
    loss = "logistic" if recipe.loss == "softmax" else recipe.loss
    if target.ndim == 2:
        positive = target > 0
    elif classes == 2:
        positive = target[:, None] == 1
    else:
        positive = target[:, None] == np.arange(classes)
    if recipe.positive_weight != 1:
        weight = weight * np.where(positive, recipe.positive_weight, 1.0)
    signs = like.new_tensor(np.where(positive, 1.0, -1.0))
    task = Task(loss, signs, like.new_tensor(weight), positive.shape[1])
    return _two_sided(task)


def _two_sided(task: Task) -> Task:
    """InvalidParameter where a label is on every image, or on none."""
    live = task.weight > 0
    positive, negative = (((task.target * side > 0) & live).any(0) for side in (1, -1))
    poor = (~(positive & negative)).nonzero()[:, 0].tolist()
    if poor:
        raise InvalidParameter(
            "each class needs an image that is of it and one that is not, of weight above 0; "
            f"there is none for {poor}"
        )
    return task


def _weights(
    recipe: Recipe,
    target: NDArray[np.int64],
    sample_weight: NDArray[np.floating] | None,
    classes: int,
) -> NDArray[np.float64]:
    """The weight of each image, (N, 1), or of each image and label, (N, L)."""
    weight = np.ones((len(target), 1))
    if sample_weight is not None:
        weight = np.asarray(sample_weight, np.float64).reshape(len(target), -1)
    if recipe.class_weight is None:
        return weight
    if target.ndim == 2:
        return _label_weights(recipe, target, weight) * weight
    if recipe.class_weight == "balanced":
        counts = np.bincount(target, weights=weight[:, 0], minlength=classes)
        factors = counts.sum() / (classes * np.maximum(counts, 1e-12))
    else:
        factors = np.array([recipe.class_weight.get(k, 1.0) for k in range(classes)])
    if (factors < 0).any():
        raise InvalidParameter("class weights are 0 or more")
    spread: NDArray[np.float64] = weight * factors[target][:, None]
    return spread


def _label_weights(
    recipe: Recipe, target: NDArray[np.int64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Balanced: the positives of each label weigh as much as its negatives; else as given."""
    present = target > 0
    if recipe.class_weight == "balanced":
        total = np.broadcast_to(weight, target.shape).sum(axis=0)
        positive = np.where(present, weight, 0.0).sum(axis=0)
        sides = (total / (2 * np.maximum(side, 1e-12)) for side in (positive, total - positive))
        weights: NDArray[np.float64] = np.where(present, *sides)
        return weights
    given = recipe.class_weight or {}
    factors = np.array([given.get(k, 1.0) for k in range(target.shape[1])])
    return np.where(present, factors, 1.0)
