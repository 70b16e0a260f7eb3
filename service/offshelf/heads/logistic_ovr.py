"""Logistic regression of each class against the rest."""

from __future__ import annotations

from offshelf.heads.interface import SOLVERS
from offshelf.heads.recipe import Recipe, as_solver

SOLVERS.add("logreg-ovr", as_solver(Recipe("logistic")))
