from __future__ import annotations

from dataclasses import replace

from offshelf.heads.comparing import compared
from offshelf.schemas.heads import Metrics, ProtocolReport
from tests.unit.heads.cards import PRE, SPEC, card


def test_features_training_and_figures_are_set_side_by_side() -> None:
    other = replace(SPEC, tap="fc6", preprocessing=replace(PRE, resize=300))
    a = card("head-1")
    b = card("head-2", other, kind="logreg", versions={"numpy": "3"},
             test=Metrics(images=6, accuracy=0.75))  # fmt: skip
    told = compared(a, b)
    assert [(d.field, d.a, d.b) for d in told.features] == [
        ("tap", "fc7", "fc6"), ("preprocessing.resize", 256, 300),
    ]  # fmt: skip
    assert [(d.field, d.a, d.b) for d in told.training] == [
        ("kind", "svm", "logreg"), ("versions.numpy", "2", "3"),
    ]  # fmt: skip
    assert (told.data, told.fair, told.reasons) == ([], True, [])
    figures = {(pair.side, pair.metric): (pair.a, pair.b, pair.difference) for pair in told.figures}
    assert figures == {("test", "accuracy"): (0.5, 0.75, 0.25), ("train", "accuracy"): (1, 1, 0)}


def test_what_is_unfair_is_said() -> None:
    a = card("head-1")
    cases = {
        "two datasets": card("head-2", dataset="ds-2"),
        "two splits": card("head-2", split={"train_per_class": 2, "seed": 0}),
        "nothing was left to test": card("head-2", test=None),
        "tested on 6 and 5 images": card("head-2", test=Metrics(images=5, accuracy=1.0)),
    }
    for reason, b in cases.items():
        told = compared(a, b)
        assert not told.fair
        assert len(told.reasons) == 1
        assert reason in told.reasons[0]


def test_figures_of_protocols_come_first_and_may_be_missing() -> None:
    report = ProtocolReport(
        protocol="p", split="s", number=1, trained=1, tested=1, unscored=0,
        figures={"map_11pt": 0.5}, table=[],
    )  # fmt: skip
    told = compared(card("head-1", protocol=report), card("head-2"))
    first = told.figures[0]
    assert (first.side, first.metric, first.a, first.b, first.difference) == (
        "protocol", "map_11pt", 0.5, None, None,
    )  # fmt: skip
