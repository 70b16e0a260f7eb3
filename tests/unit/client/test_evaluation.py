"""What the SDK makes of reports that the service wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

import offshelf_client as sdk
from offshelf.heads.evaluation.record import Evaluation
from offshelf.heads.evaluation.report import build
from offshelf.schemas.heads import Head
from offshelf.schemas.reports import LowShotCurve, LowShotPoint, Spread
from tests.unit.client.fake_service import FakeService, head_card, job_body, problem

if TYPE_CHECKING:
    from pathlib import Path

CURVE = LowShotCurve(
    draws=2, seed=3, sampling="some way", C=1.0, warnings=["w"],
    points=[
        LowShotPoint(
            shots=4, figures={"accuracy": Spread(mean=0.5, deviation=0.1, values=[0.4, 0.6])}
        )
    ],
)  # fmt: skip


def report_body(evaluation: Evaluation | None, **card: Any) -> dict[str, Any]:
    """A report as the server shows it."""
    head = Head(**head_card() | card)
    return build(head, evaluation, None).model_dump(mode="json")


def of_classes() -> Evaluation:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 30)
    scores = (rng.normal(size=(30, 2)) + np.eye(2)[truth]).astype(np.float32)
    return Evaluation("d1", scores, truth, np.arange(30), CURVE)


def of_labels() -> Evaluation:
    rng = np.random.default_rng(0)
    truth = rng.choice([-1, 0, 1], size=(30, 2))
    scores = (rng.normal(size=(30, 2)) + truth).astype(np.float32)
    return Evaluation("d1", scores, truth, np.arange(30))


def service(report: dict[str, Any]) -> FakeService:
    def told(request: httpx.Request) -> httpx.Response:
        if request.headers["accept"] == "text/html":
            return httpx.Response(200, html="<p>h\u00e9ad</p>")
        return httpx.Response(200, json=report)

    return FakeService(
        routes={
            ("GET", "/v1/heads/h1"): lambda _: httpx.Response(200, json=head_card()),
            ("GET", "/v1/heads/h1/report"): told,
            ("POST", "/v1/heads"): lambda _: httpx.Response(202, json=job_body()),
        }
    )


def evaluated(report: dict[str, Any]) -> sdk.Evaluation:
    with sdk.Client(transport=service(report).transport) as client:
        return client.heads.get("h1").evaluation()


def test_every_figure_of_a_test_arrives() -> None:
    made = of_classes()
    report = report_body(made, kind="logreg")
    found, test = evaluated(report), report["test"]
    assert found.confusion is not None
    assert found.confusion.tolist() == test["confusion"]
    for name in ("images", "accuracy", "mean_class_accuracy"):
        assert getattr(found, name) == test[name]
    assert found.interval == tuple(test["interval"])
    assert found.top_k == {1: test["accuracy"]}
    assert [row.name for row in found.classes] == ["a", "b"]
    assert found.classes[0] == sdk.ClassFigures(**test["classes"][0])
    assert found.hardest == tuple(sdk.Miss(**miss) for miss in test["hardest"])
    assert found.hardest
    assert found.reliability is not None
    assert found.reliability.ece == report["reliability"]["ece"]
    assert sum(row.count for row in found.reliability.bins) == 30
    assert found.low_shot == sdk.LowShotCurve(
        2, 3, "some way", 1.0,
        (sdk.LowShotPoint(4, {"accuracy": sdk.Spread(0.5, 0.1, (0.4, 0.6))}),), ("w",),
    )  # fmt: skip
    assert (found.tested, found.unscored, found.dataset) == (30, 0, None)


def test_labels_have_precisions_and_extremes() -> None:
    report = report_body(of_labels(), multi_label=True)
    found = evaluated(report)
    assert (found.accuracy, found.confusion, found.interval) == (None, None, None)
    assert found.map_11pt == report["test"]["map_11pt"]
    assert found.labels[1] == sdk.LabelFigures(**report["test"]["labels"][1])
    first = report["test"]["extremes"][0]
    assert found.extremes[0].worst_positives[0] == sdk.Ranked(**first["worst_positives"][0])
    assert found.extremes[0].best_negatives[0].rank == first["best_negatives"][0]["rank"]


def test_a_head_without_a_test_says_why() -> None:
    found = evaluated(report_body(None))
    assert "without a test side" in found.test_missing
    assert (found.images, found.accuracy, found.classes, found.low_shot) == (0, None, (), None)
    samples = replace(of_labels(), truth=np.zeros((30, 2), np.int64))
    assert "not published" in evaluated(report_body(samples)).test_missing


def test_other_answers_are_told_as_such() -> None:
    with pytest.raises(sdk.UnexpectedAnswer, match="report on a head"):
        evaluated({"head": {}})
    fake = FakeService(
        routes={
            ("GET", "/v1/heads/h1"): lambda _: httpx.Response(200, json=head_card()),
            ("GET", "/v1/heads/h1/report"): lambda _: problem(404, "unknown_name"),
        }
    )
    with (
        sdk.Client(transport=fake.transport) as client,
        pytest.raises(sdk.UnknownNameError),
    ):
        client.heads.get("h1").evaluation()


async def test_the_page_is_given_and_written(tmp_path: Path) -> None:
    fake = service(report_body(of_classes()))
    async with sdk.AsyncClient(transport=fake.transport) as client:
        head = await client.heads.get("h1")
        assert await head.report_html() == "<p>h\u00e9ad</p>"
        await head.report_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "<p>h\u00e9ad</p>"


def test_a_low_shot_curve_is_asked_for() -> None:
    fake = service({})
    with sdk.Client(transport=fake.transport) as client:
        client.heads.train("d1", low_shot=sdk.LowShot((1, 4), draws=3))
        client.heads.train("d1", low_shot={"shots": [2]})
        client.heads.train("d1")
    bodies = [json.loads(request.content) for request in fake.requests]
    assert bodies[0]["low_shot"] == {"shots": [1, 4], "draws": 3, "seed": 0}
    assert bodies[1]["low_shot"] == {"shots": [2]}
    assert "low_shot" not in bodies[2]
