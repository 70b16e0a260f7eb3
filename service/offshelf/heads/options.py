"""From what a request says of training to a `Recipe`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from offshelf.heads.interface import SOLVERS
from offshelf.heads.labels import side_by_side
from offshelf.heads.recipe import RecipeSolver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from offshelf.heads.interface import Solver
    from offshelf.schemas.learning import Learning


def solver_of(learning: Learning, classes: Sequence[str], *, multi_label: bool) -> Solver:
    """The solver of a kind with the options of a request; InvalidParameter where one is amiss.

    Kinds that are no `Recipe` have no options.
    """
    learning.check_labels(classes, multi_label=multi_label)
    solver = SOLVERS.get(learning.kind)
    if not isinstance(solver, RecipeSolver):
        return solver
    recipe = side_by_side(solver.recipe) if multi_label else solver.recipe
    wanted: dict[str, Any] = {
        "positive_weight": learning.positive_weight,
        "standardise": learning.standardise,
        "intercept_scale": learning.intercept_scale,
        "seed": learning.seed,
        "class_weight": _numbered(learning.class_weight, classes),
    }
    for name in ("intercept", "dropout"):
        if getattr(learning, name) is not None:
            wanted[name] = getattr(learning, name)
    return RecipeSolver(replace(recipe, **wanted))


def _numbered(given: str | Mapping[str, float] | None, classes: Sequence[str]) -> Any:
    """Class weights by number."""
    if given is None or isinstance(given, str):
        return given
    return {list(classes).index(name): weight for name, weight in given.items()}
