"""One head from its training images: C chosen, trained on all of them, probabilities calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.errors import InvalidParameter
from offshelf.heads.calibration import HeldOut, calibrate
from offshelf.heads.choosing import ByMetric, choice_of, metric_of
from offshelf.heads.folds import folds_of, name_of
from offshelf.heads.interface import Fitted, check_classes, row_per_class
from offshelf.heads.labels import check_labels, fit_labels, learnable_columns, spread, targets
from offshelf.heads.model import decide
from offshelf.heads.options import solver_of
from offshelf.heads.recipe import RecipeSolver, train_choosing
from offshelf.heads.solver import presets
from offshelf.schemas.learning import ChooseC

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from offshelf.heads.folds import Folds
    from offshelf.heads.interface import Solver
    from offshelf.heads.recipe import Path
    from offshelf.heads.solver.choice import Cell
    from offshelf.schemas.learning import Calibration, Choice, Learning, Metric

# Of `clip`: seven values, then two at each of four halvings.
CLIP_VALUES: Final = 15


@dataclass(frozen=True, slots=True)
class Examples:
    """Training images: X (N, D), labels (N,) of class numbers or (N, K) of -1, 0 and 1.

    `val` are the row numbers of those that the split has for validation.
    """

    X: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: Sequence[str]
    val: NDArray[np.int64]

    @property
    def multi_label(self) -> bool:
        """Whether an image may have many labels."""
        return self.labels.ndim == 2

    def check(self) -> None:
        """InvalidParameter for what cannot be learned."""
        if self.multi_label:
            check_labels(self.labels, self.classes)
        else:
            check_classes(self.labels, list(self.classes))


@dataclass(frozen=True, slots=True)
class Learned:
    """A head; with a C for each class, `C` is their geometric mean."""

    fitted: Fitted
    C: float
    choice: Choice | None = None
    calibration: Calibration | None = None


def learn(
    learning: Learning,
    examples: Examples,
    first_figure: Metric | None = None,
    progress: Callable[[Cell, int], None] = lambda _cell, _total: None,
) -> Learned:
    """Train as `learning` says; `first_figure` is the protocol's metric.

    `progress(cell, total)` is called after every fit of a search of `total` fits at most.
    InvalidParameter for what does not fit together.
    """
    examples.check()
    solver = solver_of(learning, examples.classes, multi_label=examples.multi_label)
    folds = folds_of(learning, examples.labels, examples.val, examples.classes)
    choice = None
    if isinstance(learning.C, ChooseC):
        if not isinstance(solver, RecipeSolver):
            raise InvalidParameter(f"{learning.kind} has no C to choose")
        fitted, C, choice = _choose(
            learning, learning.C, solver, examples, folds, first_figure, progress
        )
    else:
        C = np.array([learning.C])
        fitted = _fit(solver, examples.X, examples.labels, C, examples.classes)
    calibration = None
    if learning.calibrate != "none":
        held = _held_out(solver, examples, C, folds, name_of(folds, learning))
        calibration = calibrate(learning.calibrate, learning.kind, held)
    mean = float(C[0]) if len(C) == 1 else float(np.exp(np.log(C).mean()))
    return Learned(fitted, mean, choice, calibration)


def fits_of(wanted: ChooseC, folds: Folds) -> int:
    """How many fits a search has, at most."""
    if wanted.choose == "clip":
        return CLIP_VALUES * len(folds)
    Cs = presets.values(wanted.choose) if isinstance(wanted.choose, str) else wanted.choose
    return len(Cs) * len(folds)


def _fit(
    solver: Solver,
    X: NDArray[np.float32],
    labels: NDArray[np.int64],
    C: NDArray[np.float64],
    classes: Sequence[str],
) -> Fitted:
    return fit_labels(solver, X, labels, C, classes) if labels.ndim == 2 else solver(X, labels, C)


def _choose(
    learning: Learning,
    wanted: ChooseC,
    solver: RecipeSolver,
    examples: Examples,
    folds: Folds,
    first_figure: Metric | None,
    progress: Callable[[Cell, int], None],
) -> tuple[Fitted, NDArray[np.float64], Choice]:
    labels, classes, weight = examples.labels, list(examples.classes), None
    if examples.multi_label:
        learnable = learnable_columns(labels)
        classes = [classes[k] for k in np.flatnonzero(learnable)]
        labels = labels[:, learnable]
    metric = metric_of(wanted, first_figure, multi_label=examples.multi_label)
    total = fits_of(wanted, folds)
    target = labels
    if examples.multi_label:
        target, _, weight = targets(labels, 1.0)
    head, path = train_choosing(
        solver.recipe,
        examples.X,
        target,
        wanted.choose,
        folds,
        ByMetric(metric, labels, len(classes)),
        weight,
        per_class=wanted.per_class,
        progress=lambda cell: progress(cell, total),
    )
    choice = choice_of(wanted, metric, name_of(folds, learning), path, head.C, classes)
    if examples.multi_label:
        fitted = spread(head.coef, head.intercept, head.warnings, examples.labels, examples.classes)
    else:
        fitted = row_per_class(head.coef, head.intercept, head.warnings)
    at_end = _at_an_end(path, head.C)
    return Fitted(fitted.coef, fitted.intercept, (*fitted.warnings, *at_end)), head.C, choice


def _at_an_end(path: Path, C: NDArray[np.float64]) -> tuple[str, ...]:
    """A warning where the best C may lie beyond the list."""
    ends = {float(path.Cs[0]), float(path.Cs[-1])}
    if len(C) > 1 or len(path.Cs) < 3 or float(C[0]) not in ends:
        return ()
    return (f"the chosen C, {C[0]:g}, is at an end of the list; a better one may lie beyond",)


def _held_out(
    solver: Solver, examples: Examples, C: NDArray[np.float64], folds: Folds, name: str
) -> HeldOut:
    """The scores of held-out images by heads that were trained on the other folds, at that C."""
    scores, truth = [], []
    for train, held_out in folds:
        labels = examples.labels[train]
        fitted = _fit(
            solver, examples.X[train], labels, _of_fold(C, examples, labels), examples.classes
        )
        scores.append(decide(fitted.coef, fitted.intercept, examples.X[held_out]))
        truth.append(examples.labels[held_out])
    return HeldOut(np.concatenate(scores).astype(np.float64), np.concatenate(truth), name)


def _of_fold(
    C: NDArray[np.float64], examples: Examples, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of a C for each label those of the labels that a fold can learn."""
    if len(C) == 1 or not examples.multi_label:
        return C
    every = np.ones(labels.shape[1])
    every[learnable_columns(examples.labels)] = C
    chosen: NDArray[np.float64] = every[learnable_columns(labels)]
    return chosen
