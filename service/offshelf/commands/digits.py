"""scikit-learn's 1,797 handwritten digits as image files, for the demo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from offshelf_client import RandomSplit

ENLARGED: Final = 8  # times; the digits are 8 x 8 pixels
LEVELS: Final = 16  # a digit's pixels are 0..16, 16 is ink


@dataclass(frozen=True, slots=True)
class Digits:
    """Image i is in `files[i]`; `pixels` is (1797, 64), `labels` (1797,)."""

    files: list[Path]
    pixels: NDArray[np.float64]
    labels: NDArray[np.int64]


def write(folder: Path) -> Digits:
    """Write each digit, enlarged without smoothing, as `<label>/<number>.png`."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    files = [folder / str(y) / f"{i:04d}.png" for i, y in enumerate(bunch.target)]
    for image, file in zip(bunch.images, files, strict=True):
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            grey = np.rint(image * (255 / LEVELS)).astype(np.uint8)
            Image.fromarray(np.kron(grey, np.ones((ENLARGED, ENLARGED), np.uint8))).save(file)
    return Digits(files, bunch.data, bunch.target)


def split(digits: Digits, how: RandomSplit) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The images that train and those that test, exactly as the service chooses them.

    For each class in order a permutation of its images is drawn from one generator; the first
    ones train.
    """
    random = np.random.RandomState(how.seed)  # the generator that the API names
    train: list[int] = []
    test: list[int] = []
    for label in sorted(set(digits.labels.tolist())):
        drawn = random.permutation(np.flatnonzero(digits.labels == label)).tolist()
        train += drawn[: how.train_per_class]
        test += drawn[how.train_per_class :]
    return np.array(sorted(train)), np.array(sorted(test))


def accuracy_of_pixels(digits: Digits, how: RandomSplit, kind: str) -> float:
    """What the same linear model makes of the bare pixels, in [0, 1], with the same split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    train, test = split(digits, how)
    pixels = digits.pixels / LEVELS
    model = LinearSVC(random_state=0) if kind == "svm" else LogisticRegression(max_iter=1000)
    model.fit(pixels[train], digits.labels[train])
    return float(model.score(pixels[test], digits.labels[test]))
