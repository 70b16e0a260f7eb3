"""DeCAF's "logistic regression with dropout": half of each training image's features are 0."""

from __future__ import annotations

from offshelf.heads.interface import SOLVERS
from offshelf.heads.recipe import Recipe, as_solver

SOLVERS.add("logreg-dropout", as_solver(Recipe("softmax", dropout=0.5)))
