"""Linear support vector machine: one against the rest, squared hinge loss (LIBLINEAR's default)."""

from __future__ import annotations

from offshelf.heads.interface import SOLVERS
from offshelf.heads.recipe import Recipe, as_solver

# As in scikit-learn's LinearSVC the intercept is regularised with the weights.
SOLVERS.add("svm", as_solver(Recipe("squared_hinge", intercept="regularised")))
