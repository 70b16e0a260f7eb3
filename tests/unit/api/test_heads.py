"""/v1/heads: cards, deletion, and predictions that equal the linear model on the features."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from offshelf.heads import model
from offshelf.heads.model import LinearHead
from offshelf.schemas.heads import Head, Metrics
from offshelf.schemas.learning import Calibration
from offshelf.store import layout
from tests.unit.api.fakes import WEIGHTS, files, spec_of, values_of

if TYPE_CHECKING:
    import httpx

    from tests.unit.api.conftest import Ports

PARAMS = {"backbone": "alexnet", "view": "warp", "pool": "max", "normalize": "l2"}
CLASSES = ["ant", "bee", "cow"]


def head(
    head_id: str, kind: Literal["svm", "logreg"] = "svm", *, random: bool = False
) -> LinearHead:
    rng = np.random.default_rng(7)
    spec = spec_of(PARAMS, "fc7:pre")
    metrics = Metrics(images=3, accuracy=1.0, mean_class_accuracy=1.0, per_class={})
    label = {"label": "random:3", "random": True} if random else {}
    card = Head(
        id=head_id,
        owner="default",
        name="",
        kind=kind,
        C=1.0,
        classes=CLASSES,
        spec=spec.to_dict(),
        fingerprint=spec.fingerprint,
        weights=WEIGHTS.model_copy(update=label),
        dataset="ds-1",
        split=None,
        train=metrics,
        test=None,
        created_s=1.0,
        versions={},
    )
    coef = rng.normal(size=(3, 6)).astype(np.float32)
    return LinearHead(card, coef, rng.normal(size=3).astype(np.float32))


async def test_svm_margins_are_those_of_the_features(http: httpx.AsyncClient, ports: Ports) -> None:
    svm = head("h1")
    model.save(ports.store, svm)
    answer = await http.post("/v1/heads/h1/predict", files=files(b"a", b"bad", b"b"))
    told = answer.json()
    assert answer.status_code == 200
    assert (told["head"], told["fingerprint"]) == ("h1", svm.card.fingerprint)
    assert told["weights"] == WEIGHTS.model_dump()
    for index, image in ((0, b"a"), (2, b"b")):
        expected = svm.coef @ values_of(image, "fc7:pre") + svm.intercept
        scores = told["predictions"][index]["scores"]
        assert np.allclose([scores[name] for name in CLASSES], expected, rtol=1e-5, atol=1e-6)
        assert told["predictions"][index]["label"] == CLASSES[int(expected.argmax())]
    assert told["predictions"][1]["status"] == "error"
    assert told["predictions"][1]["error"]["code"] == "invalid_image"
    assert told["predictions"][1]["scores"] is None


async def test_logistic_scores_are_probabilities(http: httpx.AsyncClient, ports: Ports) -> None:
    logreg = head("h1", "logreg")
    model.save(ports.store, logreg)
    answer = await http.post("/v1/heads/h1/predict", files=files(b"a"))
    logits = logreg.coef @ values_of(b"a", "fc7:pre") + logreg.intercept
    expected = np.exp(logits) / np.exp(logits).sum()
    scores = answer.json()["predictions"][0]["scores"]
    assert np.allclose(list(scores.values()), expected, atol=1e-6)


async def test_a_calibrated_svm_has_probabilities_beside_its_margins(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    svm = head("h1")
    figures = dict.fromkeys(("ece_before", "ece_after", "nll_before", "nll_after"), 0.0)
    calibration = Calibration(
        method="temperature", temperature=0.5, held_out="5 folds", images=9, **figures
    )
    card = svm.card.model_copy(update={"calibration": calibration})
    model.save(ports.store, LinearHead(card, svm.coef, svm.intercept))
    model.save(ports.store, head("h2"))
    told, plain = [
        (await http.post(f"/v1/heads/{name}/predict", files=files(b"a"))).json()["predictions"][0]
        for name in ("h1", "h2")
    ]
    margins = svm.coef @ values_of(b"a", "fc7:pre") + svm.intercept
    assert np.allclose(list(told["scores"].values()), margins, rtol=1e-5, atol=1e-6)
    expected = np.exp(2 * margins) / np.exp(2 * margins).sum()
    assert np.allclose([told["probabilities"][name] for name in CLASSES], expected, atol=1e-6)
    assert plain["probabilities"] is None


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"C": {"choose": "forty"}}, "kornblith"),
        ({"C": {"choose": "vissl", "folds": "test"}}, "val"),
        ({"kind": "nearest-mean", "C": {"choose": "vissl"}}, "has no use for a choice of C"),
        ({"dropout": 1.5}, "less than 1"),
        ({"calibrate": "isotonic"}, "temperature"),
    ],
)
async def test_a_training_that_nobody_could_mean_is_refused_at_once(
    wanted: dict[str, Any], why: str, http: httpx.AsyncClient
) -> None:
    answer = await http.post("/v1/heads", json={"dataset": "ds-1", **wanted})
    assert answer.status_code == 422
    assert why in json.dumps(answer.json())


@pytest.mark.parametrize(("random", "weights"), [(False, None), (True, "random:3")])
async def test_features_are_asked_with_the_head_s_own_spec(
    random: bool, weights: str | None, http: httpx.AsyncClient, ports: Ports
) -> None:
    model.save(ports.store, head("h1", random=random))
    await http.post("/v1/heads/h1/predict", files=files(b"a"))
    asked = ports.interactive.asked[0].params
    assert asked == {**PARAMS, "taps": ["fc7:pre"], "weights": weights, "merge": "mean"}


async def test_features_of_other_weights_are_refused(http: httpx.AsyncClient, ports: Ports) -> None:
    model.save(ports.store, head("h1"))
    ports.interactive.digests[b"a"] = "0" * 64
    answer = await http.post("/v1/heads/h1/predict", files=files(b"a"))
    assert (answer.status_code, answer.json()["code"]) == (409, "fingerprint_mismatch")
    assert "weights_digest" in answer.json()["detail"]


async def test_parameters_are_refused_where_the_head_knows_them(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    model.save(ports.store, head("h1"))
    answer = await http.post("/v1/heads/h1/predict?view=center", files=files(b"a"))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "view")


async def test_a_head_of_several_regions_does_not_take_whole_images(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    parts = head("h1")
    card = parts.card.model_copy(update={"regions": ["body", "head"]})
    model.save(ports.store, LinearHead(card, parts.coef, parts.intercept))
    answer = await http.post("/v1/heads/h1/predict", files=files(b"a"))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert "the regions body, head of each image" in answer.json()["detail"]
    assert ports.interactive.asked == []


async def test_predictions_are_computed_off_the_event_loop(
    http: httpx.AsyncClient, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(ports.store, head("h1"))
    threads: list[threading.Thread] = []
    honest = LinearHead.scores

    def scores(self: LinearHead, X: Any) -> Any:
        threads.append(threading.current_thread())
        return honest(self, X)

    monkeypatch.setattr(LinearHead, "scores", scores)
    assert (await http.post("/v1/heads/h1/predict", files=files(b"a"))).status_code == 200
    assert threads
    assert threading.main_thread() not in threads


async def test_weights_are_read_once_and_a_deleted_head_is_not_served(
    http: httpx.AsyncClient, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(ports.store, head("h1"))
    read: list[str] = []
    honest = ports.store.get

    def get(key: str) -> bytes:
        read.append(key)
        return honest(key)

    monkeypatch.setattr(ports.store, "get", get)
    for _ in range(3):
        assert (await http.post("/v1/heads/h1/predict", files=files(b"a"))).status_code == 200
    assert read.count(layout.head_weights("default", "h1")) == 1
    await http.delete("/v1/heads/h1")
    assert (await http.post("/v1/heads/h1/predict", files=files(b"a"))).status_code == 404


async def test_heads_are_listed_shown_and_deleted(http: httpx.AsyncClient, ports: Ports) -> None:
    for head_id in ("h2", "h1", "h3"):
        model.save(ports.store, head(head_id))
    first = (await http.get("/v1/heads?limit=2")).json()
    assert [card["id"] for card in first["items"]] == ["h1", "h2"]
    rest = (await http.get("/v1/heads", params={"after": first["after"]})).json()
    assert [card["id"] for card in rest["items"]] == ["h3"]
    assert (await http.get("/v1/heads/h1")).json() == first["items"][0]
    assert (await http.delete("/v1/heads/h1")).status_code == 204
    assert (await http.get("/v1/heads/h1")).status_code == 404
    assert (await http.post("/v1/heads/h1/predict", files=files(b"a"))).status_code == 404
    assert not ports.store.exists(layout.head_weights("default", "h1"))
