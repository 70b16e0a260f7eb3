"""A search over features: what is asked for, what is taken, and what becomes of the rest."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

import offshelf_client as sdk
from tests.unit.client.fake_service import head_card, job_body, problem

# Held-out accuracy; the test has another favourite, which nobody may look at.
SCORES = {("fc6", "svm"): 0.7, ("fc6", "logreg"): 0.9, ("fc7", "svm"): 0.9, ("fc7", "logreg"): 0.8}


def trained(body: dict[str, Any], score: float) -> dict[str, Any]:
    points = [
        {"C": 0.1, "mean": score - 0.1, "deviation": 0.01, "folds": [score - 0.1]},
        {"C": 1.0, "mean": score, "deviation": 0.02, "folds": [score]},
    ]
    choice = {
        "metric": "accuracy", "held_out": "5 folds", "path": points, "score": score,
        "by_class": {}, "scores_by_class": {},
    }  # fmt: skip
    name = f"{body['view']}-{body['taps'][0]}-{body['kind']}"
    test = {"images": 4, "accuracy": 1 - score, "mean_class_accuracy": 1 - score, "per_class": {}}
    return head_card(name) | {"kind": body["kind"], "choice": choice, "test": test}


class Trains:
    """A service whose jobs have succeeded when they are made; `fails` is a tap that does not."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.heads: dict[str, dict[str, Any]] = {}
        self.features: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.looked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.split("/")[2:]
        if request.method == "GET" and parts == ["heads"]:
            self.looked.append(request.url.params["name"])
            if " " in self.looked[-1]:
                return problem(422, "invalid_parameter")
            return httpx.Response(200, json={"items": [], "has_more": False, "after": None})
        if request.method == "PUT":
            self.heads[parts[1]] |= json.loads(request.content) | {"version": 1}
        if request.method == "POST":
            body = json.loads(request.content)
            if parts[0] == "feature-sets":
                self.features.append(body)
                made = job_body("f1", "succeeded", kind="feature_set", result={"feature_set": "x"})
                return httpx.Response(202, json=made)
            if body["taps"] == [self.fails]:
                return problem(422, "invalid_parameter")
            card = trained(body, SCORES[body["taps"][0], body["kind"]])
            self.heads[card["id"]] = card | {"asked": body}
            state = "running" if self.fails else "succeeded"
            return httpx.Response(
                202, json=job_body(card["id"], state, result={"head": card["id"]})
            )
        if parts[0] == "jobs":
            if request.method == "DELETE":
                self.cancelled.append(parts[1])
            state = "succeeded" if parts[1] == "f1" else "running"
            return httpx.Response(202, json=job_body(parts[1], state))
        if request.method == "DELETE":
            del self.heads[parts[1]]
            return httpx.Response(204)
        return httpx.Response(200, json=self.heads[parts[1]])


def searching(service: Trains) -> sdk.Client:
    return sdk.Client(transport=httpx.MockTransport(service))


def test_held_out_images_choose_and_the_first_of_equals_is_taken() -> None:
    service = Trains()
    told: list[sdk.Progress] = []
    with searching(service) as client:
        found = client.heads.search(
            "d1", "alexnet", ["fc6", "fc7"], ["svm", "logreg"], split={"number": 1},
            calibrate="temperature", progress=told.append,
        )  # fmt: skip
    assert found.best == sdk.Candidate(
        {"tap": "fc6", "view": "center", "pool": None, "normalize": "l2", "kind": "logreg"},
        1.0, 0.9, 0.02, "center-fc6-logreg",
    )  # fmt: skip
    assert (found.head.id, found.best in found.candidates) == ("center-fc6-logreg", True)
    assert [c.score for c in found.candidates] == [0.7, 0.9, 0.9, 0.8]
    assert list(service.heads) == ["center-fc6-logreg"], "the others are deleted"
    (features,) = service.features
    assert (features["taps"], features["normalize"]) == (["fc6", "fc7"], "l2")
    asked = service.heads["center-fc6-logreg"]["asked"]
    assert asked["C"] == {"choose": "vissl", "folds": 5, "per_class": False, "metric": None}
    assert (asked["calibrate"], asked["split"]) == ("temperature", {"number": 1})
    assert (told[-1].done, told[-1].total, told[-1].unit) == (4, 4, "settings")


def test_every_combination_is_tried_and_may_be_kept() -> None:
    service = Trains()
    with searching(service) as client:
        found = client.heads.search(
            "d1", taps="fc6", views=["center", "warp"], pools=["grid:2", None],
            normalizes=["l2", "power:0.5,l2"], C={"choose": [0.1, 1.0]}, keep=True,
        )  # fmt: skip
    tried = [(c.settings["view"], c.settings["pool"], c.settings["normalize"])
             for c in found.candidates]  # fmt: skip
    assert len(set(tried)) == 8
    assert len(service.features) == 8
    assert set(service.heads) == {"center-fc6-svm", "warp-fc6-svm"}


def test_only_the_best_becomes_a_version_of_the_name() -> None:
    service = Trains()
    with searching(service) as client:
        found = client.heads.search("d1", taps=["fc6", "fc7"], name="flowers", keep=True)
        assert found.head.info.ref == "flowers:1"
        named = {key: card["name"] for key, card in service.heads.items() if card["name"]}
        assert named == {found.head.id: "flowers"}
        assert [card["asked"]["name"] for card in service.heads.values()] == ["", ""]
        features = len(service.features)
        with pytest.raises(sdk.InvalidParameterError):
            client.heads.search("d1", taps=["fc6", "fc7"], name="two words")
    assert len(service.features) == features, "nothing is extracted for a name that cannot be"


def test_what_is_queued_is_cancelled_when_a_training_is_refused() -> None:
    service = Trains(fails="fc7")
    with searching(service) as client, pytest.raises(sdk.InvalidParameterError):
        client.heads.search("d1", taps=["fc6", "fc7"], kinds=["svm"])
    assert service.cancelled == ["center-fc6-svm"]


async def test_the_async_client_searches_too() -> None:
    service = Trains()
    async with sdk.AsyncClient(transport=httpx.MockTransport(service)) as client:
        found = await client.heads.search("d1", taps=["fc6", "fc7"])
    assert found.best.settings["tap"] == "fc7"


def test_a_number_is_no_choice() -> None:
    with searching(Trains()) as client, pytest.raises(TypeError, match="a search chooses C"):
        client.heads.search("d1", taps=["fc6"], C=1.0)
