"""How a head is trained: features as they come, targets, weights, and the solver in the middle."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from offshelf.errors import InvalidParameter
from offshelf.heads.interface import Fitted, row_per_class
from offshelf.heads.targets import check_features, task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from offshelf.heads.interface import Solver
    from offshelf.heads.solver.choice import Cell, Scorer
    from offshelf.heads.solver.design import Design, Intercept
    from offshelf.heads.solver.newton import Rules
    from offshelf.heads.solver.solve import Solution
    from offshelf.heads.solver.task import LossName, Task

# Up to so many features in all, float64 costs nothing that anyone would notice.
SMALL: Final = 1 << 18
# and so does a tolerance that is finer by so much.
FINER: Final = 1e-14


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is trained, apart from C.

    `class_weight` multiplies the weight of the images of a class, by its number, in every
    one-vs-rest problem (`balanced`: N / (K n_k)); of multi-label targets, that of a label's
    positives against its negatives. `positive_weight` is that of the positives of each
    one-vs-rest problem (LIBLINEAR's `-w1`: 2 with R-CNN and VISSL). `dropout` is the part of the
    feature values that is set to 0 in training, image by image; in use all of them are multiplied
    by what is left (DeCAF, section 4). `standardise` scales the features by their mean and
    deviation over the training images. The head that comes out applies to features as they are.
    """

    loss: LossName = "squared_hinge"
    intercept: Literal["free", "regularised", "none"] = "free"
    intercept_scale: float = 1.0
    class_weight: Mapping[int, float] | Literal["balanced"] | None = None
    positive_weight: float = 1.0
    standardise: bool = False
    dropout: float = 0.0
    seed: int = 0
    tol: float = 1e-6
    max_steps: int = 100
    device: str = "cpu"
    check: Callable[[], None] = field(default=lambda: None)

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise InvalidParameter(f"dropout is 0 or more and below 1, not {self.dropout}")
        if not self.positive_weight > 0:
            raise InvalidParameter(f"positive_weight is above 0, not {self.positive_weight}")
        if self.loss == "softmax" and self.positive_weight != 1:
            raise InvalidParameter("positive_weight needs a one-vs-rest loss")


@dataclass(frozen=True, slots=True)
class Trained:
    """A head for features as they come, and how good it is, a value a problem.

    `coef` is (K, D) and `intercept` (K,), one row for two classes. `C` is one number, or one a
    class. `gap` is an estimate of what is left of the objective, relative to it (of the hinge, the
    duality gap): training stops by it. `gap_bound` is a bound of the same, the duality gap as the
    weights are, up to rounding; where C is large it may be far above the truth.
    """

    coef: NDArray[np.floating]
    intercept: NDArray[np.floating]
    C: NDArray[np.float64]
    objective: NDArray[np.float64]
    gap: NDArray[np.float64]
    gap_bound: NDArray[np.float64]
    gradient_norm: NDArray[np.float64]
    newton_steps: int
    precision: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Path:
    """A search for C: the values (n,), the mean score of each (n, 1 or a column), every cell."""

    Cs: NDArray[np.float64]
    scores: NDArray[np.float64]
    cells: tuple[Cell, ...]


def train(
    recipe: Recipe,
    X: NDArray[np.floating],
    target: NDArray[np.int64],
    C: float | NDArray[np.float64],
    sample_weight: NDArray[np.floating] | None = None,
) -> Trained:
    """The head for one C, or for a C a class.

    X is (N, D). `target` is classes (N,), numbered from 0, or 0 and 1 for each label (N, L);
    `sample_weight` is (N,), or (N, L), where 0 leaves an image out for one label.
    """
    from offshelf.heads.solver.solve import solve

    prepared = _Prepared.of(recipe, X, target, sample_weight)
    Cs = np.atleast_1d(np.asarray(C, np.float64))
    check_values(Cs, prepared.task.problems)
    tensor = prepared.design.X.new_tensor(Cs.tolist())
    solution = solve(prepared.design, prepared.task, tensor, prepared.intercept, prepared.rules)
    return prepared.trained(solution, Cs)


def train_choosing(
    recipe: Recipe,
    X: NDArray[np.floating],
    target: NDArray[np.int64],
    Cs: Sequence[float] | str,
    folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    scorer: Scorer,
    sample_weight: NDArray[np.floating] | None = None,
    *,
    per_class: bool = False,
    progress: Callable[[Cell], None] = lambda _: None,
) -> tuple[Trained, Path]:
    """The head for the best C, trained on all images, and the search.

    `Cs` is a list, or a preset of `solver.presets`. `folds` are row numbers (train, held out); a
    validation split is one fold. The features are standardised over all images.
    """
    import torch

    from offshelf.heads.solver import presets
    from offshelf.heads.solver.choice import Fold, Search

    prepared = _Prepared.of(recipe, X, target, sample_weight)
    device = prepared.design.X.device
    parts = [Fold(*(torch.as_tensor(rows, device=device) for rows in fold)) for fold in folds]
    search = Search(
        prepared.design,
        prepared.task,
        parts,
        scorer,
        prepared.intercept,
        prepared.rules,
        progress,
    )
    if isinstance(Cs, str) and Cs == "clip":
        presets.refine(search.run, lambda: float(search.best(per_class=False)[0]))
    else:
        values = presets.values(Cs) if isinstance(Cs, str) else tuple(float(C) for C in Cs)
        check_values(np.array(values), len(values))
        search.run(values)
    best = search.best(per_class=per_class)
    trained = prepared.trained(search.refit(best), best)
    return trained, Path(*search.path(), tuple(search.cells))


@dataclass(frozen=True, slots=True)
class RecipeSolver:
    """What a kind of head registers: the recipe at a C, a row a class, in float32."""

    recipe: Recipe

    def __call__(
        self, X: NDArray[np.float32], y: NDArray[np.int64], C: float | NDArray[np.float64]
    ) -> Fitted:
        """See `interface.Solver`; there may be a C for each class."""
        head = train(self.recipe, X, y, C)
        return row_per_class(head.coef, head.intercept, head.warnings)


def as_solver(recipe: Recipe) -> Solver:
    """A recipe as a kind of head registers it."""
    return RecipeSolver(recipe)


def check_values(Cs: NDArray[np.float64], count: int) -> None:
    """InvalidParameter unless there is one C, or `count`, all above 0."""
    if len(Cs) not in (1, count) or not len(Cs):
        raise InvalidParameter(f"one C, or {count}, one a class; not {len(Cs)}")
    if not (np.isfinite(Cs).all() and (Cs > 0).all()):
        raise InvalidParameter(f"C is a number above 0; not {Cs.tolist()}")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What the solver gets, and how its answer becomes a head for features as they come."""

    design: Design
    task: Task
    intercept: Intercept
    rules: Rules
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    tol: float

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        X: NDArray[np.floating],
        target: NDArray[np.int64],
        sample_weight: NDArray[np.floating] | None,
    ) -> _Prepared:
        import torch

        from offshelf.heads.solver.design import Design, Intercept
        from offshelf.heads.solver.newton import Rules

        check_features(X, target, sample_weight)
        precise = X.dtype == np.float64 or X.size <= SMALL or recipe.loss == "squared"
        dtype = torch.float64 if precise else torch.float32
        features = torch.tensor(X, dtype=dtype, device=recipe.device)
        mean, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
        if recipe.standardise:
            mean, scale = _moments(X, sample_weight)
            features.sub_(features.new_tensor(mean)).div_(features.new_tensor(scale))
        clean = None
        if recipe.dropout:
            clean = features * (1 - recipe.dropout)
            generator = torch.Generator().manual_seed(recipe.seed)
            kept = torch.rand(features.shape, generator=generator) >= recipe.dropout
            features = features * kept.to(features.device)
            scale = scale / (1 - recipe.dropout)
        intercept = Intercept(recipe.intercept, recipe.intercept_scale)
        task = task_of(recipe, target, sample_weight, features)
        tol = recipe.tol * (FINER if X.size <= SMALL else 1.0)
        rules = Rules(tol=tol, max_newton=recipe.max_steps, check=recipe.check)
        return cls(
            Design.of(features, intercept, clean), task, intercept, rules, mean, scale, recipe.tol
        )

    def trained(self, solution: Solution, C: NDArray[np.float64]) -> Trained:
        """In the features' own terms."""
        coef = solution.coef.cpu().double().numpy() / self.scale
        intercept = solution.intercept.cpu().double().numpy() - coef @ self.mean
        gap = solution.gap.cpu().double().numpy()
        tolerance = self.task.tolerance(replace(self.rules, tol=self.tol))
        warnings: tuple[str, ...] = ()
        if not (gap <= tolerance).all():
            said = f"the objective may be {gap.max():.1e} above its minimum, relative"
            warnings = (f"not converged: {said}; {tolerance:.0e} was asked for",)
        return Trained(
            coef,
            intercept,
            C,
            solution.objective.cpu().double().numpy(),
            gap,
            solution.gap_bound.cpu().double().numpy(),
            solution.gradient_norm.cpu().double().numpy(),
            solution.newton_steps,
            str(solution.dtype).removeprefix("torch."),
            warnings,
        )


def _moments(
    X: NDArray[np.floating], sample_weight: NDArray[np.floating] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each feature over the images, by their weights; 1 for a constant."""
    weight = np.ones(len(X)) if sample_weight is None else sample_weight.reshape(len(X), -1).sum(1)
    weight = weight / weight.sum()
    mean = weight @ X
    scale = np.sqrt(np.maximum(weight @ np.square(X - mean), 0.0))
    scale[scale <= 10 * np.finfo(X.dtype).eps * np.abs(mean)] = 1.0
    return mean, scale
