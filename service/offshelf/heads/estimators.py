"""The heads as scikit-learn estimators: hyper-parameters in, `coef_` and `intercept_` out.

They orchestrate what `recipe` does. Imported where they are used: they need scikit-learn.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from offshelf.errors import InvalidParameter
from offshelf.heads.nearest_mean import means
from offshelf.heads.recipe import Recipe, Trained, train, train_choosing
from offshelf.heads.solver.folds import stratified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from offshelf.heads.solver.choice import Cell, Scorer
    from offshelf.heads.solver.task import LossName


class LinearHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A linear classifier. Targets are (N,) of anything, or 0 and 1 for each label, (N, L).

    `coef_` is (K, D) and `intercept_` (K,), with one row, the second class's, for two classes.
    """

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores (N, K), or (N,) for two classes."""
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        scores: NDArray[np.float64] = rows @ self.coef_.T + self.intercept_
        return scores if len(self.coef_) > 1 or self.multilabel_ else scores[:, 0]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The best class of each image; of multi-label heads, the labels with scores above 0."""
        scores = self.decision_function(X)
        if self.multilabel_:
            return (scores > 0).astype(np.int64)
        best = (scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
        predicted: NDArray[Any] = self.classes_[best]
        return predicted

    def _targets(self, y: ArrayLike) -> NDArray[np.int64]:
        """Numbered classes (N,) or 0/1 labels (N, L); sets `classes_` and `multilabel_`."""
        check_classification_targets(y)
        self.multilabel_ = type_of_target(y) == "multilabel-indicator"
        if self.multilabel_:
            labels = np.asarray(y).astype(np.int64)
            self.classes_ = np.arange(labels.shape[1])
            return labels
        self.classes_, numbers = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"a classifier needs at least two classes; there is one class: {self.classes_}"
            )
        return numbers.reshape(-1).astype(np.int64)

    def _checked(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.floating] | None]:
        rows, given = validate_data(self, X, y, dtype=(np.float64, np.float32), multi_output=True)
        one_column = given.ndim == 2 and given.shape[1] == 1
        target = self._targets(column_or_1d(given, warn=True) if one_column else given)
        if sample_weight is None:
            return rows, target, None
        if self.multilabel_ and np.ndim(sample_weight) == 2:
            return rows, target, np.asarray(sample_weight, np.float64)
        return rows, target, _check_sample_weight(sample_weight, rows, ensure_non_negative=True)


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """What scikit-learn's callers expect of a wrong parameter."""
    try:
        yield
    except InvalidParameter as error:
        raise ValueError(str(error)) from error


class _Solved(LinearHead):
    """A head that the solver trains; subclasses say what it minimises."""

    def _recipe(self) -> Recipe:
        raise NotImplementedError

    def _common(self) -> dict[str, Any]:
        """The hyper-parameters that all of them have."""
        names = ("intercept", "intercept_scale", "standardise", "dropout", "tol", "device")
        return {name: getattr(self, name) for name in names} | {"seed": self.random_state or 0}

    def _weights_of_classes(self) -> Any:
        given = self.class_weight
        if given is None or isinstance(given, str):
            if given not in (None, "balanced"):
                raise ValueError(f"class_weight is 'balanced', a dict or None; not {given!r}")
            return given
        number = {name: index for index, name in enumerate(self.classes_.tolist())}
        unknown = set(given) - set(number)
        if unknown:
            raise ValueError(f"class_weight names classes that are not there: {sorted(unknown)}")
        return {number[name]: weight for name, weight in given.items()}

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> _Solved:
        """Train. `sample_weight` is (N,), or (N, L) for labels, where 0 leaves an image out."""
        rows, target, weight = self._checked(X, y, sample_weight)
        with _as_value_errors():
            return self._take(train(self._recipe(), rows, target, self.C, weight))

    def _take(self, trained: Trained) -> _Solved:
        for text in trained.warnings:
            warnings.warn(text, ConvergenceWarning, stacklevel=3)
        self.coef_, self.intercept_ = trained.coef, trained.intercept
        self.objective_ = trained.objective
        self.gap_, self.gap_bound_ = trained.gap, trained.gap_bound
        self.gradient_norm_, self.n_iter_ = trained.gradient_norm, trained.newton_steps
        return self


class LinearSVM(_Solved):
    """Linear SVM, one against the rest: `|w|^2 / 2 + C sum loss(1 - t f)`.

    `loss` is `squared_hinge` or `hinge`. `intercept` is `free`, `regularised` (LIBLINEAR's, of
    multiplier `intercept_scale`: its `-B`) or `none`; `positive_weight` is LIBLINEAR's `-w1`.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        loss: Literal["squared_hinge", "hinge"] = "squared_hinge",
        intercept: str = "free",
        intercept_scale: float = 1.0,
        class_weight: Any = None,
        positive_weight: float = 1.0,
        standardise: bool = False,
        dropout: float = 0.0,
        tol: float = 1e-6,
        random_state: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.C = C
        self.loss = loss
        self.intercept = intercept
        self.intercept_scale = intercept_scale
        self.class_weight = class_weight
        self.positive_weight = positive_weight
        self.standardise = standardise
        self.dropout = dropout
        self.tol = tol
        self.random_state = random_state
        self.device = device

    def _recipe(self) -> Recipe:
        if self.loss not in ("squared_hinge", "hinge"):
            raise ValueError(f"loss is 'squared_hinge' or 'hinge'; not {self.loss!r}")
        return Recipe(
            self.loss,
            class_weight=self._weights_of_classes(),
            positive_weight=self.positive_weight,
            **self._common(),
        )


class LogisticHead(_Solved):
    """Logistic regression: `|W|^2 / 2 + C sum log-loss`.

    `classes` is `softmax` (over all classes at once; one sigmoid for two), or `ovr`, one against
    the rest, which multi-label targets get in any case.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        classes: str = "softmax",
        intercept: str = "free",
        intercept_scale: float = 1.0,
        class_weight: Any = None,
        standardise: bool = False,
        dropout: float = 0.0,
        tol: float = 1e-6,
        random_state: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.C = C
        self.classes = classes
        self.intercept = intercept
        self.intercept_scale = intercept_scale
        self.class_weight = class_weight
        self.standardise = standardise
        self.dropout = dropout
        self.tol = tol
        self.random_state = random_state
        self.device = device

    def _recipe(self) -> Recipe:
        if self.classes not in ("softmax", "ovr"):
            raise ValueError(f"classes is 'softmax' or 'ovr'; not {self.classes!r}")
        loss: LossName = (
            "softmax" if self.classes == "softmax" and not self.multilabel_ else "logistic"
        )
        return Recipe(loss, class_weight=self._weights_of_classes(), **self._common())

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (N, K). One-vs-rest ones are divided by their sum; labels' are not."""
        scores = self.decision_function(X)
        if self.multilabel_ or (self.classes == "ovr" and scores.ndim > 1):
            each = 0.5 * (1 + np.tanh(scores / 2))
            return each if self.multilabel_ else each / each.sum(axis=1, keepdims=True)
        if scores.ndim == 1:
            second = 0.5 * (1 + np.tanh(scores / 2))
            return np.stack([1 - second, second], axis=1)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return shares


class RidgeHead(_Solved):
    """Ridge regression of +1 and -1, one against the rest; scikit-learn's alpha is 1 / (2 C)."""

    def __init__(
        self,
        C: float = 1.0,
        *,
        intercept: str = "free",
        intercept_scale: float = 1.0,
        class_weight: Any = None,
        standardise: bool = False,
        dropout: float = 0.0,
        tol: float = 1e-6,
        random_state: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.C = C
        self.intercept = intercept
        self.intercept_scale = intercept_scale
        self.class_weight = class_weight
        self.standardise = standardise
        self.dropout = dropout
        self.tol = tol
        self.random_state = random_state
        self.device = device

    def _recipe(self) -> Recipe:
        return Recipe("squared", class_weight=self._weights_of_classes(), **self._common())


class NearestMean(LinearHead):
    """The class whose mean is nearest, as a linear head."""

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NearestMean:
        """Take the means, weighted."""
        rows, target, weight = self._checked(X, y, sample_weight)
        if self.multilabel_:
            raise ValueError("the nearest class mean has one class an image, not labels")
        self.coef_, self.intercept_ = means(rows, target, weight)
        if len(self.classes_) == 2:
            self.coef_, self.intercept_ = np.diff(self.coef_, axis=0), np.diff(self.intercept_)
        return self


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Right predictions, as a fraction; with labels, for each of them."""

    target: NDArray[np.int64]

    def __call__(
        self, rows: NDArray[np.int64], scores: NDArray[np.floating]
    ) -> float | NDArray[np.float64]:
        """See `solver.choice.Scorer`."""
        truth = self.target[rows]
        if truth.ndim == 2:
            return np.asarray(((scores > 0) == truth).mean(axis=0))
        best = scores.argmax(axis=1) if scores.shape[1] > 1 else scores[:, 0] > 0
        return float((best == truth).mean())


class ChooseC(LinearHead):
    """A head with the C that is best on held-out images, by its own solver for the whole search.

    `head` is one of the estimators above, whose C is of no effect. `Cs` is a list, or `kornblith`,
    `vissl` or `clip`. `folds` is a number of stratified folds, or row numbers (train, held out);
    one pair is a validation split. `scorer` makes, of the numbered targets, what
    `solver.choice.Scorer` describes. `per_class` chooses a C for each one-vs-rest class by scores
    of each class. After `fit`, `C_` is what was chosen and `path_` the search.
    """

    def __init__(
        self,
        head: Any = None,
        *,
        Cs: Sequence[float] | str = "vissl",
        folds: Any = 5,
        scorer: Callable[[NDArray[np.int64]], Scorer] = Accuracy,
        per_class: bool = False,
        random_state: int | None = None,
        progress: Callable[[Cell], None] | None = None,
    ) -> None:
        self.head = head
        self.Cs = Cs
        self.folds = folds
        self.scorer = scorer
        self.per_class = per_class
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> ChooseC:
        """Search, then train on all images."""
        from sklearn.base import clone

        self.head_ = LinearSVM() if self.head is None else clone(self.head)
        rows, target, weight = self.head_._checked(X, y, sample_weight)  # noqa: SLF001
        self.classes_, self.multilabel_ = self.head_.classes_, self.head_.multilabel_
        self.n_features_in_ = self.head_.n_features_in_
        with _as_value_errors():
            folds = self.folds
            if isinstance(folds, int):
                folds = stratified(target, folds, self.random_state or 0)
            trained, self.path_ = train_choosing(
                self.head_._recipe(),  # noqa: SLF001
                rows,
                target,
                self.Cs,
                folds,
                self.scorer(target),
                weight,
                per_class=self.per_class,
                progress=self.progress or (lambda _: None),
            )
        self.head_._take(trained)  # noqa: SLF001
        self.C_ = trained.C
        self.coef_, self.intercept_ = trained.coef, trained.intercept
        return self
