"""Logistic regression: the softmax over all classes at once (a sigmoid for two)."""

from __future__ import annotations

from offshelf.heads.interface import SOLVERS
from offshelf.heads.recipe import Recipe, as_solver

SOLVERS.add("logreg", as_solver(Recipe("softmax")))
