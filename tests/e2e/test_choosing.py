"""C chosen over HTTP: what events tell, a cancel in the middle, a worker that is killed there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from offshelf_client import (
    ChooseC,
    Client,
    InvalidParameterError,
    JobCancelledError,
    JobFailedError,
    RandomSplit,
    Timeout,
)
from tests.e2e.pictures import write_digits
from tests.serving import Service, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf_client import Dataset, Job

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

PER_CLASS, CLASSES = 20, 6
IMAGES = PER_CLASS * CLASSES


@pytest.fixture(scope="module")
def digits(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("digits") / "digits"
    write_digits(folder, PER_CLASS, CLASSES)
    return client.datasets.upload(folder, name="digits")


def test_a_choice_is_told_by_fits_and_recorded(client: Client, digits: Dataset) -> None:
    job = client.heads.train(
        digits, tap="pool5", view="warp", normalize="l2", kind="logreg", C=ChooseC("kornblith", 4),
        split=RandomSplit(16), seed=3, calibrate="temperature",
    )  # fmt: skip
    events = [event.data for event in job.events()]
    fits = [data for data in events if data.get("stage") == "choosing C"]
    assert fits
    for data in fits:
        assert (data["total"], data["done"]) == (IMAGES, IMAGES)
        assert set(data["search"]) == {"done", "total", "C", "fold", "score"}
        assert (data["search"]["total"], 1 <= data["search"]["done"] <= 180) == (180, True)
        assert 1 <= data["search"]["fold"] <= 4
    status = job.wait(timeout=120).status
    assert (status.total, status.done, status.failed) == (IMAGES, IMAGES, 0)
    info = job.head().info
    assert info.choice is not None
    assert (info.choice.metric, info.choice.held_out) == ("accuracy", "4 folds")
    assert len(info.choice.path) == 45
    best = max(point.mean or 0 for point in info.choice.path)
    assert info.choice.score == best
    assert next(point.C for point in info.choice.path if point.mean == best) == info.C
    assert info.learning is not None
    assert (info.learning["seed"], info.learning["C"]["choose"]) == (3, "kornblith")
    assert info.calibration is not None
    assert info.calibration.images == 16 * CLASSES
    assert info.calibration.nll_after <= info.calibration.nll_before + 1e-9


def test_a_calibrated_svm_predicts_probabilities(
    client: Client, digits: Dataset, tmp_path: Path
) -> None:
    write_digits(tmp_path, 2, CLASSES)
    files = sorted(tmp_path.rglob("*.png"))
    for method in ("temperature", "platt"):
        job = client.heads.train(
            digits, tap="pool5", view="warp", normalize="l2", C=ChooseC([0.1, 1, 10], 3),
            calibrate=method,
        )  # fmt: skip
        for said in job.wait(timeout=120).head().predict(files):
            assert said.probabilities is not None
            assert sum(said.probabilities.values()) == pytest.approx(1, abs=1e-5)
            assert max(said.scores, key=said.scores.__getitem__) == said.label
            if method == "temperature":
                odds = np.log([*said.probabilities.values()])
                ratio = np.ptp(odds) / np.ptp([*said.scores.values()])
                info = job.head().info.calibration
                assert info is not None
                assert ratio == pytest.approx(1 / (info.temperature or 0), rel=1e-3)


def test_what_does_not_fit_the_data_is_told_before_extraction(
    client: Client, digits: Dataset
) -> None:
    for options, why in (
        ({"C": ChooseC("vissl", 30)}, "30 folds need 30 training images of each class"),
        ({"C": ChooseC("vissl", "val")}, "folds=val needs a split with validation images"),
        ({"class_weight": {"elk": 2.0}}, "class_weight names elk"),
        ({"C": ChooseC("vissl", per_class=True), "kind": "logreg"}, "has one C"),
    ):
        job = client.heads.train(digits, tap="fc6:pre", view="squash", **options)  # type: ignore[arg-type]
        with pytest.raises(JobFailedError, match=why):
            job.wait(timeout=60)
        assert job.refresh().status.done == 0


def test_a_search_over_features_takes_the_best_on_held_out_images(
    client: Client, digits: Dataset
) -> None:
    found = client.heads.search(
        digits, taps=["conv5", "pool5"], kinds=["svm", "logreg"], C=ChooseC([0.1, 1, 10], 3),
        views=["warp"], normalizes=["l2"], split=RandomSplit(16), name="best",
    )  # fmt: skip
    assert len(found.candidates) == 4
    assert found.best.score == max(c.score or 0 for c in found.candidates)
    assert found.head.info.spec["tap"] == found.best.settings["tap"]
    assert found.head.info.ref == "best:1"
    assert [head.id for head in client.heads.list(name="best")] == [found.head.id]
    assert client.heads.get("best").id == found.head.id
    with pytest.raises(InvalidParameterError, match="a head's name"):
        client.heads.search(digits, taps=["no such tap"], name="best of them")


def long_search(client: Client, folder: Path) -> Job:
    """A search of minutes: unscaled features of many dimensions, and very large Cs."""
    write_digits(folder, 100, 10)
    return client.heads.train(
        client.datasets.upload(folder, name="many digits"), tap="conv5", view="warp", pool="none",
        kind="logreg", C=ChooseC([10.0**n for n in range(-6, 13)], folds=20),
    )  # fmt: skip


def choosing(job: Job) -> bool:
    status = job.refresh().status
    assert not status.finished, status
    return status.stage == "choosing C" and status.search is not None


def fitting(service: Service) -> list[psutil.Process]:
    worker = psutil.Process(service.pid_of("worker"))
    return [c for c in worker.children() if "offshelf.heads.fit" in c.cmdline()]


def test_a_cancel_ends_a_search_within_moments(fragile: Service, tmp_path: Path) -> None:
    with Client(fragile.url, timeout=Timeout(60)) as client:
        job = long_search(client, tmp_path / "digits")
        eventually(lambda: choosing(job), "fits are told", 120)
        (child,) = fitting(fragile)
        began_s = time.monotonic()
        job.cancel()
        eventually(lambda: not child.is_running(), "the child is gone", 10)
        print(f"the child was gone {time.monotonic() - began_s:.2f} s after the cancel")
        with pytest.raises(JobCancelledError):
            job.wait(timeout=30)
        assert (job.status.total, job.status.done) == (1000, 1000)
        assert list(client.heads.list()) == []


def test_a_worker_that_is_killed_in_a_search_is_replaced(fragile: Service, tmp_path: Path) -> None:
    write_digits(tmp_path / "digits", 30, 8)
    with Client(fragile.url, timeout=Timeout(60)) as client:
        job = client.heads.train(
            client.datasets.upload(tmp_path / "digits", name="digits"), tap="conv5", view="warp",
            pool="none", kind="logreg", C=ChooseC("kornblith", 10),
        )  # fmt: skip
        eventually(lambda: choosing(job), "fits are told", 120)
        fragile.kill(fragile.pid_of("worker"))
        status = job.wait(timeout=200).status
        assert (status.total, status.done, status.failed) == (240, 240, 0)
        choice = job.head().info.choice
        assert choice is not None
        assert len(choice.path) == 45
        assert [head.id for head in client.heads.list()] == [job.head().id]
