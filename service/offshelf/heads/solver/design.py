"""The features of a set of images, held where training on them is cheapest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from offshelf.errors import InvalidParameter
from offshelf.heads.solver.products import Product, cross, gram
from offshelf.heads.solver.spaces import FeatureSpace, GramSpace

if TYPE_CHECKING:
    from torch import Tensor

    from offshelf.heads.solver.spaces import Space

Kind = Literal["free", "regularised", "none"]
# A step costs N^2 on the Gram side and 2 N D with the weights; the Gram matrix itself N^2 D once.
GRAM_SIDE: Final = 1.5
GRAM_BYTES: Final = 4 << 30


@dataclass(frozen=True, slots=True)
class Intercept:
    """What is done with the constant b of `w x + b`.

    `free`: not regularised, as in logistic regression's textbooks, scikit-learn's
    LogisticRegression and LIBSVM. `regularised`: LIBLINEAR's, a feature of constant value `scale`
    whose weight is regularised like any other, so that b^2 / scale^2 joins |w|^2; R-CNN's `-B 10`
    is scale 10. `none`: b = 0.
    """

    kind: Kind = "free"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("free", "regularised", "none"):
            raise InvalidParameter(
                f"the intercept is 'free', 'regularised' or 'none'; not {self.kind!r}"
            )
        if not self.scale > 0:
            raise InvalidParameter(f"the intercept's scale is above 0; not {self.scale!r}")

    @property
    def penalty(self) -> float:
        """What the squared intercept is multiplied by in the objective, before halving."""
        return self.scale**-2 if self.kind == "regularised" else 0.0


@dataclass(frozen=True)
class Design:
    """Features `X` (N, D), less `shift` (D,), which are the rows that weights multiply.

    A free intercept makes up for any shift of the features: they are centred then, which takes
    the largest eigenvalue out of the problem. `X` may be the noisy version that trains (dropout);
    `clean` is then what stands for an image that is held out.
    """

    X: Tensor
    shift: Tensor
    clean: Tensor | None
    given: tuple[Tensor, Intercept, Tensor | None]

    @classmethod
    def of(cls, X: Tensor, intercept: Intercept, clean: Tensor | None = None) -> Design:
        """Centred where the intercept is free."""
        given = X, intercept, clean
        if intercept.kind != "free":
            return cls(X, X.new_zeros(X.shape[1]), clean, given)
        shift = X.mean(0)
        return cls(X - shift, shift, None if clean is None else clean - shift, given)

    @property
    def on_gram_side(self) -> bool:
        """Whether one coefficient an image is cheaper than one a dimension."""
        count, dimensions = self.X.shape
        fits = count * count * self.X.element_size() <= GRAM_BYTES
        return fits and count <= GRAM_SIDE * dimensions

    @cached_property
    def _gram(self) -> Tensor:
        return gram(self.X)

    @cached_property
    def _clean_gram(self) -> Tensor:
        return self._gram if self.clean is None else cross(self.clean, self.X)

    def space(self, rows: Tensor | None = None) -> Space:
        """Where to solve for all images, or some of them; the Gram matrix is shared."""
        if rows is None:
            return self._space
        if self.on_gram_side:
            return GramSpace(self._gram[rows[:, None], rows])
        return FeatureSpace(self.X[rows])

    @cached_property
    def _space(self) -> Space:
        return GramSpace(self._gram) if self.on_gram_side else FeatureSpace(self.X)

    def held_out(self, rows: Tensor, trained: Tensor) -> Product:
        """Makes scores (M, P, K), without intercept, of the images `rows` of what `trained` gave.

        A solution on the images `trained` is what it multiplies.
        """
        if self.on_gram_side:
            return Product(self._clean_gram[rows[:, None], trained])
        return Product((self.X if self.clean is None else self.clean)[rows])

    def weights(self, v: Tensor) -> Tensor:
        """The weights (D, P, K) that a solution on all images stands for."""
        if not self.on_gram_side:
            return v
        return (self.X.T @ v.reshape(len(v), -1)).reshape(-1, *v.shape[1:])

    def double(self) -> Design:
        """The same in float64."""
        X, intercept, clean = self.given
        return Design.of(X.double(), intercept, None if clean is None else clean.double())
