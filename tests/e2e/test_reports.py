"""Reports of real trainings: figures that predictions over HTTP confirm, the page, a cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from offshelf_client import Client, ExplicitSplit, JobCancelledError, LowShot, RandomSplit
from tests.e2e.pictures import write_digits
from tests.serving import Service, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf_client import Dataset

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("digits")
    write_digits(made, per_class=12, classes=4)
    return made


@pytest.fixture(scope="module")
def digits(client: Client, folder: Path) -> Dataset:
    return client.datasets.upload(folder, name="four <digits>")


def test_a_report_is_what_predictions_say(client: Client, digits: Dataset, folder: Path) -> None:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.png"))
    train, test = paths[::2], paths[1::2]
    job = client.heads.train(
        digits, kind="logreg", C=10.0, normalize="l2", split=ExplicitSplit(train, test),
        low_shot=LowShot((1, 3), draws=2),
    )  # fmt: skip
    head = job.wait(timeout=180).head()
    found = head.evaluation()
    said = head.predict([folder / path for path in test])
    truth = [path.partition("/")[0] for path in test]
    right = np.array([one.label == label for one, label in zip(said, truth, strict=True)])
    assert (found.images, found.accuracy) == (len(test), pytest.approx(right.mean()))
    assert found.confusion is not None
    assert found.confusion.sum() == len(test)
    assert np.trace(found.confusion) == right.sum()
    wrong = {path for path, ok in zip(test, right, strict=True) if not ok}
    assert {miss.path for miss in found.hardest} == wrong
    assert found.reliability is not None
    sure = [max(one.scores.values()) for one in said]
    for row in found.reliability.bins:
        inside = [value for value in sure if row.low + 1e-5 < value <= row.high - 1e-5]
        assert row.count >= len(inside)
    assert found.low_shot is not None
    assert [point.shots for point in found.low_shot.points] == [1, 3]
    assert all(len(p.figures["accuracy"].values) == 2 for p in found.low_shot.points)
    page = head.report_html()
    assert page.count("data:image/jpeg") == len(wrong)
    assert "four &lt;digits&gt;" in page
    assert "Low-shot curve" in page
    head.delete()


def test_a_low_shot_curve_can_be_cancelled(client: Client, digits: Dataset) -> None:
    job = client.heads.train(
        digits,
        kind="logreg",
        split=RandomSplit(10),
        low_shot=LowShot((1, 2, 3, 4, 5, 6), draws=100),
    )
    eventually(lambda: "low-shot" in job.refresh().status.stage, "the curve is being drawn")
    job.cancel()
    with pytest.raises(JobCancelledError):
        job.wait(timeout=60)


def test_too_many_shots_are_refused_before_anything_is_extracted(
    service: Service, digits: Dataset
) -> None:
    body = {"dataset": digits.id, "split": {"train_per_class": 5}, "low_shot": {"shots": [6]}}
    job = httpx.post(f"{service.url}/v1/heads", json=body).json()

    def ended() -> dict[str, object] | None:
        now = httpx.get(f"{service.url}/v1/jobs/{job['id']}").json()
        return now if now["state"] in ("failed", "succeeded") else None

    now = eventually(ended, "the job ends")
    assert now is not None
    assert now["state"] == "failed"
    assert "enough for 5" in str(now["error"])
    assert now["done"] == 0
