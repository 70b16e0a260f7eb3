"""Ridge regression of +1 and -1, one against the rest; C weighs the errors: alpha = 1 / (2 C)."""

from __future__ import annotations

from offshelf.heads.interface import SOLVERS
from offshelf.heads.recipe import Recipe, as_solver

SOLVERS.add("ridge", as_solver(Recipe("squared")))
