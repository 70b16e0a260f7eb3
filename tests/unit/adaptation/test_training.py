from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from offshelf.adaptation.schedule import Steps
from offshelf.adaptation.training import Images, Recipe, Windows, train
from offshelf.errors import InvalidParameter, WorkerError

if TYPE_CHECKING:
    from offshelf.adaptation.layers import AdaptationLayers

RECIPE = Recipe(hidden=16, batch=32, schedule=Steps(4, 0.05, (3,)))


def windows(count: int = 300, classes: int = 3) -> Windows:
    """Windows whose class is where their feature is largest, with some noise."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes, count)
    features = rng.random((count, 8)).astype(np.float32)
    features[np.arange(count), labels] += 1.5
    rows = np.flatnonzero(rng.random(count) < 0.8)
    return Windows(features, labels, rows, classes)


def bags() -> Images:
    """Images of one to six windows; a class is there where one window is strong in it."""
    rng = np.random.default_rng(6)
    sizes = rng.integers(1, 7, 120)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    features = rng.random((starts[-1], 8)).astype(np.float32)
    labels = np.where(rng.random((len(sizes), 2)) < 0.4, 1, -1)
    for image, name in zip(*np.nonzero(labels > 0), strict=True):
        features[rng.integers(starts[image], starts[image + 1]), name] += 2.5
    return Images(features, starts, labels, np.arange(len(sizes)))


def same(a: AdaptationLayers, b: AdaptationLayers) -> bool:
    names = ("fca_weight", "fca_bias", "fcb_weight", "fcb_bias")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def test_windows_are_told_apart() -> None:
    data = windows()
    losses: list[float] = []
    layers = train(data, RECIPE, after_epoch=lambda _, state: losses.append(state["losses"][-1]))
    said = layers.probabilities(data.features).argmax(1)
    assert (said == data.labels).mean() > 0.95
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True)


def test_images_are_told_apart_by_their_best_window() -> None:
    data = bags()
    layers = train(data, replace(RECIPE, schedule=Steps(60, 0.05, ())))
    scores = np.maximum.reduceat(layers.probabilities(data.features), data.starts[:-1])
    right = (scores > 0.5) == (data.labels > 0)
    assert right.mean() > 0.9


@pytest.mark.parametrize("data", [windows(), bags()], ids=["windows", "images"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_training_that_goes_on_ends_as_if_it_had_never_stopped(
    data: Windows | Images, stop: int
) -> None:
    saved: list[bytes] = []

    def keep(_: AdaptationLayers, state: dict[str, Any]) -> None:
        file = io.BytesIO()
        torch.save(state, file)
        saved.append(file.getvalue())

    whole = train(data, RECIPE, after_epoch=keep)
    state = torch.load(io.BytesIO(saved[stop - 1]), weights_only=True)
    assert same(whole, train(data, RECIPE, state))


def test_a_seed_is_a_training() -> None:
    data = windows()
    assert same(train(data, RECIPE), train(data, RECIPE))
    assert not same(train(data, RECIPE), train(data, replace(RECIPE, seed=1)))


def test_the_loss_of_images_is_that_of_the_paper() -> None:
    data = bags()
    data = replace(data, labels=np.where(np.arange(240).reshape(120, 2) % 7 == 0, 0, data.labels))
    recipe = replace(RECIPE, dropout=0.0, scale=0.0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    part = np.array([3, 0, 77])
    expected = torch.zeros(())
    for image in part:
        rows = torch.from_numpy(data.features[data.starts[image] : data.starts[image + 1]])
        best = net(rows).max(dim=0).values
        for score, label in zip(best, data.labels[image], strict=True):
            expected = expected + (torch.log1p(torch.exp(-float(label) * score)) if label else 0)
    found = data.loss(net, part, recipe)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected.item() / 3, rel=1e-6)


def test_balanced_classes_are_drawn_as_often() -> None:
    data = windows(2000)
    rare = np.where(np.arange(2000) % 20 == 0, 2, data.labels % 2)
    skewed = replace(data, labels=rare, rows=np.arange(2000))
    drawn = skewed.order(replace(RECIPE, balanced=True), np.random.default_rng(0))
    counts = np.bincount(rare[drawn])
    assert len(drawn) == 2000
    assert counts.min() > 0.85 * counts.max()
    with pytest.raises(InvalidParameter, match="a label for each window"):
        bags().order(replace(RECIPE, balanced=True), np.random.default_rng(0))


def test_stopping_is_asked_before_every_batch() -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(windows(), RECIPE, check=check)


def test_nothing_to_train_on_and_divergence_are_told() -> None:
    with pytest.raises(InvalidParameter, match="nothing to train on"):
        train(replace(windows(), rows=np.zeros(0, np.int64)), RECIPE)
    with pytest.raises(WorkerError, match="take a lower rate"):
        train(windows(), replace(RECIPE, schedule=Steps(40, 1e6, ())))
    with pytest.raises(InvalidParameter, match="below 1"):
        Recipe(dropout=1.0)
