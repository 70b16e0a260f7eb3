from __future__ import annotations

import numpy as np
import pytest

from offshelf.heads.scoring import score


def test_accuracies_over_images_and_over_classes() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1])
    scores = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 0]]
    metrics = score(truth, scores, ["a", "b", "absent"])
    assert metrics is not None
    assert metrics.images == 6
    assert metrics.accuracy == pytest.approx(4 / 6)
    assert metrics.per_class == {"a": 0.75, "b": 0.5}
    assert metrics.mean_class_accuracy == pytest.approx(0.625)


def test_precisions_of_images_with_many_labels() -> None:
    """The worked example of the VOC devkit's rules, and a class without a positive."""
    labels = np.array([0, 1, -1, -1, 1, 1, 0, 1, -1])
    scores = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], np.float32)
    truth = np.stack([labels, np.full(9, -1)], axis=1)
    metrics = score(truth, np.stack([scores, scores], axis=1), ["car", "dog"])
    assert metrics is not None
    assert (metrics.images, metrics.accuracy, metrics.per_class) == (9, None, {})
    assert metrics.map_11pt == pytest.approx(0.757576, abs=5e-7)
    assert metrics.map_all_point == pytest.approx(0.75)
    car, dog = metrics.precision["car"], metrics.precision["dog"]
    assert (car.positives, car.negatives, car.left_out) == (4, 3, 2)
    assert (car.ap_all_point, dog.ap_all_point, dog.negatives) == (pytest.approx(0.75), None, 9)


def test_no_images_or_no_labels_have_no_score() -> None:
    assert score(np.zeros(0, np.int64), np.zeros((0, 1), np.float32), ["a"]) is None
    unpublished = np.zeros((3, 2), np.int64)
    assert score(unpublished, np.zeros((3, 2), np.float32), ["a", "b"]) is None
