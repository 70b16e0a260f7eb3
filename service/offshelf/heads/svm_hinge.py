"""The L1-loss linear SVM, one against the rest: the hinge itself (R-CNN, Razavian et al.)."""

from __future__ import annotations

from offshelf.heads.interface import SOLVERS
from offshelf.heads.recipe import Recipe, as_solver

SOLVERS.add("svm-hinge", as_solver(Recipe("hinge", intercept="regularised")))
