"""The contract of scikit-learn's estimators, on every one of ours."""

from __future__ import annotations

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from offshelf.heads.estimators import ChooseC, LinearSVM, LogisticHead, NearestMean, RidgeHead


@parametrize_with_checks(
    [
        LinearSVM(),
        LinearSVM(intercept="regularised"),
        LinearSVM(loss="hinge"),
        LogisticHead(),
        LogisticHead(classes="ovr"),
        LogisticHead(standardise=True),
        RidgeHead(),
        NearestMean(),
        ChooseC(Cs=(0.1, 1.0), folds=2),
    ]
)
def test_the_estimators_keep_scikit_learns_contract(estimator: Any, check: Any) -> None:
    check(estimator)
