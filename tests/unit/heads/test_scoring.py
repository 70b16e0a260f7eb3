from __future__ import annotations

import numpy as np
import pytest

from offshelf.heads.scoring import score


def test_accuracies_over_images_and_over_classes() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1])
    predicted = np.array([0, 0, 0, 1, 1, 0])
    metrics = score(truth, predicted, ["a", "b", "absent"])
    assert metrics is not None
    assert metrics.images == 6
    assert metrics.accuracy == pytest.approx(4 / 6)
    assert metrics.per_class == {"a": 0.75, "b": 0.5}
    assert metrics.mean_class_accuracy == pytest.approx(0.625)


def test_no_images_have_no_score() -> None:
    nothing = np.zeros(0, np.int64)
    assert score(nothing, nothing, ["a"]) is None
