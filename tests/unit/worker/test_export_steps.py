"""An export's job: the file is made in a child process, tried, and kept by its content."""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from offshelf.core.batching import Lane
from offshelf.core.jobs import Job, JobState
from offshelf.engine.extractor import Extractor
from offshelf.engine.torch_engine import TorchEngine
from offshelf.errors import FingerprintMismatch, JobCancelled, NotAcceptable, UnknownName
from offshelf.heads import model
from offshelf.heads.model import LinearHead
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from offshelf.store import layout
from offshelf.store.objects import ObjectStore
from offshelf.worker import export_steps
from offshelf.worker.export_steps import ExportSteps
from offshelf.worker.planning import weights_body
from offshelf.worker.training import Trainer
from tests.reference.pictures import encode, picture
from tests.unit.heads.cards import card
from tests.unit.worker.fakes import ListQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

# A child process imports torch, loads a network and exports it.
pytestmark = pytest.mark.timeout(400)

PARAMS = FeatureParams(taps=["penultimate"], normalize="l2")


class OneJob:
    """`queue.interface.Jobs`, as far as the steps of one job use it."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.job = Job("j1", "export", "default", JobState.RUNNING, params, created_s=1.0)
        self.told: list[tuple[JobState, str | None, dict[str, Any]]] = []

    def get(self, job_id: str) -> Job:
        return self.job

    def advance(self, job_id: str, to: JobState, *, stage: str | None = None, result: Any = None):
        self.told.append((to, stage, dict(result or {})))
        return self.job


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(device="cpu", data_dir=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def extractor(settings: Settings) -> Iterator[Extractor]:
    made = Extractor(TorchEngine(settings), settings)
    yield made
    made.close(20)


def trained(extractor: Extractor, store: ObjectStore, **more: Any) -> LinearHead:
    """A head with random weights over the features of embednet, in the store."""
    with extractor.resolve(PARAMS) as plan:
        (spec,) = plan.specs.values()
        told = card("head-1", spec, weights=weights_body(plan.resident.weights), **more)
        D = plan.bytes_per_image // 4
    rng = np.random.default_rng(0)
    made = LinearHead(
        told, rng.normal(size=(3, D)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    )
    model.save(store, made)
    return made


def steps(jobs: OneJob, store: ObjectStore, extractor: Extractor, settings: Settings) -> Any:
    trainer = Trainer(timeout_s=300, scratch=settings.data_dir / "scratch")
    return ExportSteps(jobs, store, extractor, ListQueue(), trainer, settings, lambda: 5.0)


ASKED = {"head": "head-1", "format": "onnx-full", "backbone": "embednet", "weights": None}


def test_the_file_is_made_once_and_agrees_with_the_service(
    extractor: Extractor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, jobs = ObjectStore.open("memory://"), OneJob(ASKED)
    made = trained(extractor, store, kind="logreg")
    steps(jobs, store, extractor, settings).make(jobs.job)
    state, _, result = jobs.told[-1]
    assert (state, result["export"], result["format"]) == (
        JobState.SUCCEEDED, "head-1", "onnx-full",
    )  # fmt: skip
    content = store.get(layout.head_export_file("default", "head-1", result["sha256"]))
    assert hashlib.sha256(content).hexdigest() == result["sha256"]
    assert len(content) == result["size"]
    assert result["deviation"] < 1e-4
    assert {"torch", "onnx", "pillow"} <= set(result["versions"])
    assert os.fsencode(settings.data_dir) not in content  # no path of this machine
    assert not list((settings.data_dir / "scratch").iterdir())

    session = onnxruntime.InferenceSession(content)
    images = [picture(seed, 170, 110) for seed in (1, 2)]
    names = ["scores", "label"]
    scores, labels = session.run(names, {"images": np.stack([np.asarray(i) for i in images])})
    with extractor.resolve(PARAMS) as plan:
        futures = [extractor.submit(encode(image), plan, Lane.BULK) for image in images]
        rows = np.stack([next(iter(future.result(60).values())) for future in futures])
    assert np.allclose(scores, made.scores(rows), atol=1e-5)
    assert labels.tolist() == made.scores(rows).argmax(1).tolist()

    def never(*_: Any) -> None:
        raise AssertionError("it is there already")

    monkeypatch.setattr(Trainer, "run", never)
    steps(jobs, store, extractor, settings).make(jobs.job)
    assert jobs.told[-1] == (state, None, result)
    model.delete(store, made.card)
    assert list(store.keys("owners")) == []


def test_a_cancelled_export_kills_its_child(
    extractor: Extractor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, jobs = ObjectStore.open("memory://"), OneJob(ASKED)
    trained(extractor, store)

    def watch(*_: Any) -> Any:
        def check() -> None:
            raise JobCancelled("no longer wanted")

        return check

    monkeypatch.setattr(export_steps, "watch", watch)
    with pytest.raises(JobCancelled):
        steps(jobs, store, extractor, settings).make(jobs.job)
    assert not [key for key in store.keys("owners") if "exports" in key]
    assert not list((settings.data_dir / "scratch").iterdir())


def test_features_of_other_weights_are_refused_by_name(
    extractor: Extractor, settings: Settings
) -> None:
    store, jobs = ObjectStore.open("memory://"), OneJob(ASKED)
    made = trained(extractor, store)
    spec = {**made.card.spec, "weights_digest": "0" * 64}
    told = made.card.model_copy(update={"id": "head-2", "spec": spec, "fingerprint": "f" * 64})
    model.save(store, LinearHead(told, made.coef, made.intercept))
    jobs.job.params["head"] = "head-2"
    with pytest.raises(FingerprintMismatch, match="weights_digest: 000"):
        steps(jobs, store, extractor, settings).make(jobs.job)


def test_a_head_that_was_deleted_meanwhile_is_unknown(
    extractor: Extractor, settings: Settings
) -> None:
    store, jobs = ObjectStore.open("memory://"), OneJob({**ASKED, "head": "head-9"})
    with pytest.raises(UnknownName, match="head-9"):
        steps(jobs, store, extractor, settings).make(jobs.job)


def test_a_worker_without_onnx_says_what_to_install(
    extractor: Extractor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, jobs = ObjectStore.open("memory://"), OneJob(ASKED)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(NotAcceptable, match=r"needs onnxscript .* pip install 'offshelf\[onnx\]'"):
        steps(jobs, store, extractor, settings).make(jobs.job)
