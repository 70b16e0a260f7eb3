"""From what a request says of training to a `Recipe`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from offshelf.errors import InvalidParameter
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
    learning.check_labels(multi_label=multi_label)
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
    """Class weights by number; InvalidParameter for names of no class."""
    if given is None or isinstance(given, str):
        return given
    number = {name: k for k, name in enumerate(classes)}
    unknown = [name for name in given if name not in number]
    if unknown:
        raise InvalidParameter(
            f"class_weight names {', '.join(unknown)}; the classes are {', '.join(classes[:20])}"
            f"{' ...' if len(classes) > 20 else ''}"
        )
    return {number[name]: weight for name, weight in given.items()}
