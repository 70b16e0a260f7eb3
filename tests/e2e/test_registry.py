"""Heads by name over HTTP, and taken away: the exported files against the service itself."""

from __future__ import annotations

import io
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
    from pathlib import Path

    from offshelf_client import Dataset, Head

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

SPLIT = RandomSplit(10, test_per_class=5)


@pytest.fixture(scope="module")
def dataset(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("digits") / "digits"
    write_digits(folder, 20)
    return client.datasets.upload(folder)


@pytest.fixture(scope="module")
def heads(client: Client, dataset: Dataset) -> list[Head]:
    """Two versions of one name, the second over whitened features."""
    made = client.feature_sets.create(dataset, taps="penultimate", normalize="l2").wait()
    fitted = client.transforms.fit(made.result["feature_set"], dimensions=20).wait()
    chain = f"l2,{fitted.result['step']},l2"
    jobs = [
        client.heads.train(dataset, name="digits", kind=kind, split=SPLIT, normalize=normalize)
        for kind, normalize in (("svm", "l2"), ("logreg", chain))
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
            scores, label = session.run(["scores", "label"], {"images": pixels})
            assert np.allclose(scores[0], list(said.scores.values()), atol=1e-4)
            assert head.classes[label[0]] == said.label


def test_a_python_folder_says_what_the_service_says(
    client: Client, heads: list[Head], tmp_path: Path
) -> None:
    head = heads[0]
    with zipfile.ZipFile(io.BytesIO(head.export("python", tmp_path / "h.zip").read_bytes())) as zf:
        zf.extractall(tmp_path)
    images = [picture(seed, 90, 70) for seed in range(4)]
    features = client.features(images, taps="penultimate", normalize="l2")
    np.save(tmp_path / "X.npy", features["penultimate"])
    done = alone(tmp_path, tmp_path / "X.npy")
    assert done.returncode == 0, done.stderr
    labels = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert labels == [said.label for said in head.predict(images)]


def test_what_has_no_onnx_form_is_refused(client: Client, dataset: Dataset) -> None:
    job = client.heads.train(dataset, name="dense", view="dense:72", split=SPLIT)
    head = job.wait(timeout=300).head()
    with pytest.raises(InvalidParameterError, match="dense has no ONNX form"):
        head.export("onnx-full", "never.onnx")
    with pytest.raises(InvalidParameterError, match="a head's name"):
        client.heads.train(dataset, name="two words")
