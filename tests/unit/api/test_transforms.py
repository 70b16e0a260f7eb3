"""/v1/transforms: jobs, cards, deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offshelf.heads import whitening
from offshelf.store import layout
from tests.unit.api.test_feature_sets import stored as stored_features
from tests.unit.heads.test_whitening import card_of
from tests.unit.heads.test_whitening import stored as stored_whitening

if TYPE_CHECKING:
    import httpx

    from tests.unit.api.conftest import Ports


async def test_a_fit_is_a_job_on_a_feature_set(http: httpx.AsyncClient, ports: Ports) -> None:
    stored_features(ports, "f1")
    answer = await http.post("/v1/transforms", json={"feature_set": "f1", "dimensions": 2})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["params"]["dimensions"]) == ("transform", 2)
    assert ports.job_queue.submitted == [job["id"]]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"feature_set": "f9", "dimensions": 2}, 404, "no feature set 'f9'"),
        ({"feature_set": "f1", "dimensions": 2, "tap": "fc6"}, 422, "has the taps fc7; not 'fc6'"),
        ({"feature_set": "f1", "dimensions": 0}, 422, "dimensions"),
        ({"feature_set": "f1", "dimensions": 2, "epsilon": -1}, 422, "epsilon"),
        ({"feature_set": "f1"}, 422, "dimensions"),
    ],
)
async def test_a_fit_that_cannot_be_is_refused_at_once(
    http: httpx.AsyncClient, ports: Ports, body: dict[str, object], status: int, says: str
) -> None:
    stored_features(ports, "f1")
    answer = await http.post("/v1/transforms", json=body)
    assert answer.status_code == status
    assert says in answer.text


async def test_transforms_are_listed_shown_and_deleted(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    _, made = stored_whitening()
    whitening.save(ports.store, made, card_of(made))
    (listed,) = (await http.get("/v1/transforms")).json()["items"]
    shown = (await http.get(f"/v1/transforms/{made.digest}")).json()
    assert listed == shown == card_of(made).model_dump(mode="json")
    assert (await http.delete(f"/v1/transforms/{made.digest}")).status_code == 204
    assert (await http.get(f"/v1/transforms/{made.digest}")).status_code == 404
    assert (await http.delete(f"/v1/transforms/{made.digest}")).status_code == 404
    assert not ports.store.exists(layout.whitening(made.digest))


async def test_views_and_normalisations_are_canonical_before_they_are_sent(
    http: httpx.AsyncClient, ports: Ports
) -> None:
    from tests.unit.api.fakes import files

    form = {"taps": "fc7", "view": "center+mirror+rotate:350", "normalize": "power:0.50,l2"}
    answer = await http.post("/v1/features", files=files(b"a"), data=form)
    assert answer.status_code == 200
    sent = ports.interactive.asked[0].params
    assert (sent["view"], sent["normalize"]) == ("center+rotate:-10+mirror", "power:0.5,l2")


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("view", "tencrop", "view: view 'tencrop': no view 'tencrop'; did you mean ten_crop"),
        ("normalize", "l1", "is not one of none (alone), l2, power:P"),
        ("merge", "sum", "'mean', 'concat' or 'stack'"),
    ],
)
async def test_bad_texts_are_refused_by_the_api(
    http: httpx.AsyncClient, field: str, text: str, says: str
) -> None:
    from tests.unit.api.fakes import files

    answer = await http.post("/v1/features", files=files(b"a"), data={field: text})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
