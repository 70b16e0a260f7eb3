"""DeCAF's "SVM with dropout": half of each training image's features, drawn at random, are 0."""

from __future__ import annotations

from offshelf.heads.interface import SOLVERS
from offshelf.heads.recipe import Recipe, as_solver

SOLVERS.add("svm-dropout", as_solver(Recipe("squared_hinge", intercept="regularised", dropout=0.5)))
