"""Heads by name over HTTP, and taken away: the exported files against the service itself."""

from __future__ import annotations

import runpy
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from offshelf_client import Client, InvalidParameterError, RandomSplit, UnknownNameError
from tests.e2e.pictures import write_digits
from tests.reference.pictures import picture
from tests.unit.heads.test_exports import alone

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from offshelf_client import Dataset, Head, Prediction

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

SPLIT = RandomSplit(10, test_per_class=5)


@pytest.fixture(scope="module")
def dataset(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("digits") / "digits"
    write_digits(folder, 20)
    return client.datasets.upload(folder)


@pytest.fixture(scope="module")
def heads(client: Client, dataset: Dataset) -> list[Head]:
    """Two versions of one name, calibrated each its way, the second over whitened features."""
    made = client.feature_sets.create(dataset, taps="penultimate", normalize="l2").wait()
    fitted = client.transforms.fit(made.result["feature_set"], dimensions=20).wait()
    chain = f"l2,{fitted.result['step']},l2"
    jobs = [
        client.heads.train(
            dataset, name="digits", kind=kind, split=SPLIT, normalize=normalize, calibrate=how
        )
        for kind, normalize, how in (("svm", "l2", "platt"), ("logreg", chain, "temperature"))
    ]
    return [job.wait(timeout=300).head() for job in jobs]


def test_heads_are_versions_of_their_name(client: Client, heads: list[Head]) -> None:
    assert sorted(head.info.version or 0 for head in heads) == [1, 2]
    for head in heads:
        assert client.heads.get(head.info.ref).id == head.id
    assert client.heads.get("digits").info.version == 2
    listed = client.heads.list(name="digits", kind="svm")
    assert [head.id for head in listed] == [heads[0].id]
    heads[0].tag("plain")
    assert client.heads.get("digits:plain").id == heads[0].id
    assert client.heads.get("digits:plain").info.tags == ("plain",)
    heads[0].untag("plain")
    with pytest.raises(UnknownNameError, match="plain"):
        client.heads.get("digits:plain")


def test_two_heads_are_compared(client: Client, heads: list[Head]) -> None:
    told = client.heads.compare(heads[0].info.ref, heads[1].id)
    assert told.fair
    assert [one.field for one in told.features] == ["normalisation"]
    assert "kind" in [one.field for one in told.training]
    assert told.data == ()
    pairs = {(pair.side, pair.metric): pair for pair in told.figures}
    accuracy = pairs["test", "accuracy"]
    for figure, head in ((accuracy.a, heads[0]), (accuracy.b, heads[1])):
        assert head.report.test is not None
        assert figure == head.report.test.accuracy


def test_an_exported_file_says_what_the_service_says(heads: list[Head], tmp_path: Path) -> None:
    images = [picture(seed, *size) for seed, size in enumerate([(90, 70), (75, 210), (300, 200)])]
    for head in heads:
        path = head.export("onnx-full", tmp_path / "head.onnx", timeout=600)
        session = onnxruntime.InferenceSession(str(path))
        for image, said in zip(images, head.predict(images), strict=True):
            pixels = np.asarray(image)[np.newaxis]
            names = ["scores", "label", "probabilities"]
            scores, label, sure = session.run(names, {"images": pixels})
            assert np.allclose(scores[0], list(said.scores.values()), atol=1e-4)
            assert np.allclose(sure[0], list(chances(said)), atol=1e-4)
            assert head.classes[label[0]] == said.label


def test_files_that_take_features_say_what_the_service_says(
    client: Client, heads: list[Head], tmp_path: Path
) -> None:
    """The Python folder and the ONNX head, labels and calibrated probabilities."""
    images = [picture(seed, 90, 70) for seed in range(4)]
    for head in heads:
        folder = tmp_path / head.id
        folder.mkdir()
        with zipfile.ZipFile(head.export("python", folder / "h.zip")) as archive:
            archive.extractall(folder)
        chain = head.info.spec["normalisation"]
        X = client.features(images, taps="penultimate", normalize=chain)["penultimate"]
        np.save(folder / "X.npy", X)
        said = head.predict(images)
        done = alone(folder, folder / "X.npy")
        assert done.returncode == 0, done.stderr
        labels = [line.split("\t")[0] for line in done.stdout.splitlines()]
        assert labels == [one.label for one in said]
        expected = [list(chances(one)) for one in said]
        assert np.allclose(np.sum(expected, axis=1), 1, atol=1e-5)
        script = runpy.run_path(str(folder / "head.py"))
        sure = script["Head"].load(folder).probabilities(X)
        assert np.allclose(sure, expected, atol=1e-4)
        session = onnxruntime.InferenceSession(str(head.export("onnx", folder / "head.onnx")))
        (sure,) = session.run(["probabilities"], {"features": X.reshape(len(X), -1)})
        assert np.allclose(sure, expected, atol=1e-4)


def chances(said: Prediction) -> Iterable[float]:
    assert said.probabilities is not None
    return said.probabilities.values()


def test_what_has_no_onnx_form_is_refused(client: Client, dataset: Dataset) -> None:
    job = client.heads.train(dataset, name="dense", view="dense:72", split=SPLIT)
    head = job.wait(timeout=300).head()
    with pytest.raises(InvalidParameterError, match="dense has no ONNX form"):
        head.export("onnx-full", "never.onnx")
    with pytest.raises(InvalidParameterError, match="a head's name"):
        client.heads.train(dataset, name="two words")
