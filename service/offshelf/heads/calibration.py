"""From scores to probabilities: what a head's own say, and what held-out images make of them.

numpy only, so that the API can predict without torch or scikit-learn. Scores are (N, K), a column
a class; of two classes each is the other's negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from offshelf.core.scoring import reliability
from offshelf.schemas.learning import LOGISTIC_KINDS, SOFTMAX_KINDS, Calibration

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

# Of 1 / temperature, times the scores' scale: where all images are right it would have no end.
STEEPEST: Final = 1e4
FLATTEST: Final = 1e-4
TEMPERATURE_STEPS: Final = 100
PLATT_STEPS: Final = 100
PLATT_RIDGE: Final = 1e-12
GRADIENT_END: Final = 1e-9
HALVINGS: Final = 40


def probabilities(
    kind: str, scores: ArrayLike, calibration: Calibration | None, *, multi_label: bool
) -> Floats | None:
    """Probabilities (N, K) of a head's scores; None where it has none.

    The calibrated ones, or a logistic regression's own. They sum to 1 where an image has one class.
    """
    given = np.asarray(scores, np.float64)
    if calibration is not None:
        return calibrated(calibration, given, multi_label=multi_label)
    return own(kind, given, multi_label=multi_label) if kind in LOGISTIC_KINDS else None


def own(kind: str, scores: Floats, *, multi_label: bool) -> Floats:
    """As logistic regression has it: a softmax, or a sigmoid a class."""
    if kind in SOFTMAX_KINDS and not multi_label:
        return softmax(scores)
    return _shares(sigmoid(scores), multi_label=multi_label)


def calibrated(calibration: Calibration, scores: Floats, *, multi_label: bool) -> Floats:
    """By a temperature, or by a sigmoid a class: over their sum where an image has one class."""
    if calibration.temperature is not None:
        return softmax(scores / calibration.temperature)
    odds = scores * np.array(calibration.slopes) + np.array(calibration.offsets)
    return _shares(sigmoid(odds), multi_label=multi_label)


def softmax(scores: Floats) -> Floats:
    """Of two classes, whose scores are each other's negative, the sigmoid of the second's."""
    halves = scores / 2 if scores.shape[1] == 2 else scores
    odds = np.exp(halves - halves.max(axis=1, keepdims=True))
    shares: Floats = odds / odds.sum(axis=1, keepdims=True)
    return shares


def sigmoid(scores: Floats) -> Floats:
    """Each score for itself; by tanh, as exp would overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(scores / 2), np.float64)


def _shares(each: Floats, *, multi_label: bool) -> Floats:
    """Over their sum, where an image has one class; of an image that is of no class, alike."""
    if multi_label:
        return each
    total = each.sum(axis=1, keepdims=True)
    alike = np.full_like(each, 1 / each.shape[1])
    shares: Floats = np.divide(each, total, out=alike, where=total > 0)
    return shares


def fit_temperature(scores: Floats, truth: NDArray[np.int64]) -> float:
    """The temperature of the least mean -log softmax(scores / T) of the true class.

    That is convex in 1 / T (Guo et al. 2017, section 4.2); Newton's method, held between a lowest
    and a highest by its slope.
    """
    halves = scores / 2 if scores.shape[1] == 2 else scores
    margins = halves - np.take_along_axis(halves, truth[:, None], axis=1)
    scale = float(np.sqrt(np.square(margins).mean()))
    if scale == 0:
        return 1.0  # all scores alike: any temperature says the same
    low, high = FLATTEST / scale, STEEPEST / scale
    beta = min(max(1.0, low), high)
    for _ in range(TEMPERATURE_STEPS):
        slope, curvature = _slope(margins, beta)
        if slope > 0:
            high = beta
        else:
            low = beta
        if abs(slope) <= GRADIENT_END * scale or high - low <= 1e-12 * high:
            break
        step = beta - slope / curvature if curvature > 0 else 0.0
        beta = step if low < step < high else float(np.sqrt(low * high))
    return 1 / beta


def _slope(margins: Floats, beta: float) -> tuple[float, float]:
    """Of mean log sum exp(beta margins): the first and the second derivative by beta."""
    odds = np.exp(beta * (margins - margins.max(axis=1, keepdims=True)))
    shares = odds / odds.sum(axis=1, keepdims=True)
    mean = (shares * margins).sum(axis=1)
    square = (shares * np.square(margins)).sum(axis=1)
    return float(mean.mean()), float((square - mean * mean).mean())


def fit_platt(scores: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of the sigmoid of one class, from scores (N,) and what is of it (N,).

    Targets are drawn in: (n + 1) / (n + 2) of n positives, 1 / (n + 2) of n others (Platt 1999).
    Newton's method with halved steps, in a form that cannot overflow (Lin, Lin and Weng 2007).
    """
    count = int(positive.sum())
    others = len(positive) - count
    target = np.where(positive, (count + 1) / (count + 2), 1 / (others + 2))
    columns = np.stack([scores, np.ones_like(scores)], axis=1)
    at = np.array([0.0, np.log((count + 1) / (others + 1))])
    value = _platt_loss(columns @ at, target)
    for _ in range(PLATT_STEPS):
        p = sigmoid(columns @ at)
        gradient = columns.T @ (p - target)
        if np.abs(gradient).max() <= GRADIENT_END * len(scores):
            break
        hessian = columns.T @ (columns * (p * (1 - p))[:, None])
        ridge = PLATT_RIDGE + PLATT_RIDGE * float(np.trace(hessian))
        step = np.linalg.solve(hessian + ridge * np.eye(2), gradient)
        at, value, moved = _downhill(columns, target, at, step, float(gradient @ step), value)
        if not moved:
            break
    return float(at[0]), float(at[1])


def _downhill(
    columns: Floats,
    target: Floats,
    at: Floats,
    step: NDArray[np.floating],
    descent: float,
    value: float,
) -> tuple[Floats, float, bool]:
    """The first of step, step / 2, ... that brings enough (Armijo); whether any did."""
    size = 1.0
    for _ in range(HALVINGS):
        new = at - size * step
        new_value = _platt_loss(columns @ new, target)
        if new_value < value - 1e-4 * size * descent:
            return new, new_value, True
        size /= 2
    return at, value, False


def _platt_loss(odds: Floats, target: Floats) -> float:
    """The sum of -t log p - (1 - t) log(1 - p), where p is the sigmoid of the odds."""
    return float((np.logaddexp(0, odds) - target * odds).sum())


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scores (N, K) of images that did not train, and what they are: see `heads.scoring.score`."""

    scores: Floats
    truth: NDArray[np.int64]
    name: str

    @property
    def multi_label(self) -> bool:
        """Whether an image may have many labels."""
        return self.truth.ndim == 2

    def figures(self, said: Floats) -> tuple[int, float, float]:
        """How many there are, and the ECE and the mean NLL of probabilities (N, K) of them.

        Of labels, each that counts is an image of its own, of two classes.
        """
        truth = self.truth
        if self.multi_label:
            counted = truth != 0
            yes = said[counted]
            said, truth = np.stack([1 - yes, yes], 1), (truth[counted] > 0).astype(np.int64)
        true = np.take_along_axis(said, truth[:, None], axis=1)
        loss = -np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean()
        return len(truth), reliability(truth, said).ece, float(loss)


def calibrate(method: Literal["temperature", "platt"], kind: str, held: HeldOut) -> Calibration:
    """Fit on held-out scores; a temperature is for images of one class each."""
    if method == "temperature":
        raw = softmax(held.scores)
        fitted: dict[str, Any] = {"temperature": fit_temperature(held.scores, held.truth)}
    else:
        raw = _shares(sigmoid(held.scores), multi_label=held.multi_label)
        fitted = _platt(held)
    if kind in LOGISTIC_KINDS:
        raw = own(kind, held.scores, multi_label=held.multi_label)
    images, ece, loss = held.figures(raw)
    unscored = Calibration(
        method=method, **fitted, held_out=held.name, images=images,
        ece_before=ece, ece_after=ece, nll_before=loss, nll_after=loss,
    )  # fmt: skip
    after = calibrated(unscored, held.scores, multi_label=held.multi_label)
    _, ece, loss = held.figures(after)
    return unscored.model_copy(update={"ece_after": ece, "nll_after": loss})


def _platt(held: HeldOut) -> dict[str, list[float]]:
    """A sigmoid a class, of the images that count for it."""
    pairs = []
    for k, column in enumerate(held.scores.T):
        if held.multi_label:
            counted = held.truth[:, k] != 0
            pairs.append(fit_platt(column[counted], held.truth[counted, k] > 0))
        else:
            pairs.append(fit_platt(column, held.truth == k))
    slopes, offsets = zip(*pairs, strict=True)
    return {"slopes": list(slopes), "offsets": list(offsets)}
