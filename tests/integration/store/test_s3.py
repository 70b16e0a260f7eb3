"""The store and sources of datasets over a server that speaks S3, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import numpy as np
import pytest

from offshelf.core.jobs import JobState
from offshelf.datasets import records
from offshelf.datasets.importing import Wanted, import_dataset
from offshelf.datasets.interface import ImportLimits
from offshelf.datasets.reading import ImageReader
from offshelf.datasets.sources import Sources
from offshelf.errors import DependencyError, InvalidImage, InvalidParameter, UnknownName
from offshelf.heads.features import load_feature_set, read_shards
from offshelf.store import objects
from offshelf.store.objects import ObjectStore
from tests.integration.queue.conftest import server_url, url  # noqa: F401  # fixtures
from tests.integration.queue.test_registering import ENDED, Registering
from tests.unit.pictures import picture
from tests.unit.worker.fakes import features_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("moto")
pytestmark = pytest.mark.processes

LIMITS = ImportLimits(max_bytes=1 << 20, max_files=100, max_image_bytes=1000)
# A server that says where it listens; moto's own command does not say which port it was given.
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    with server:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.stdin.close()
        server.wait(30)


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, found through the usual variables."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with urlopen(Request(f"{endpoint}/moto-api/reset", method="POST")):
        pass
    with urlopen(Request(f"{endpoint}/pictures", method="PUT")):
        pass
    return "s3://pictures"


def fill(bucket: str, **images: bytes) -> None:
    store = ObjectStore.open(f"{bucket}/in/pets")
    for path, image in images.items():
        assert store.put_new(path.replace("_", "/") + ".png", image)


def test_the_store_keeps_its_promises(bucket: str, tmp_path: Path) -> None:
    store = ObjectStore.open(f"{bucket}/data")
    assert store.put_new("a/b", b"one")
    assert not store.put_new("a/b", b"two")
    assert store.get("a/b") == b"one"
    assert (store.exists("a/b"), store.exists("a/c")) == (True, False)
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    assert store.put_new("c", file)
    assert sorted(store.keys("")) == ["a/b", "c"]
    assert list(store.keys("a")) == ["a/b"]
    assert dict(store.sizes("")) == {"a/b": 3, "c": 100}
    assert store.get_at_most("c", 100) == b"x" * 100
    assert store.get_at_most("c", 99) is None
    store.delete("a/b")
    store.delete("a/b")
    with pytest.raises(UnknownName, match="'a/b' in the store"):
        store.get("a/b")


def test_of_many_who_write_at_once_one_wins(bucket: str) -> None:
    store = ObjectStore.open(f"{bucket}/data")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.put_new("taken", b"%d" % n), range(8)))
    assert won.count(True) == 1
    assert store.get("taken") == b"%d" % won.index(True)


def test_a_bucket_that_is_not_there_is_told(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(objects.S3_RETRY, "max_retries", 0)
    with pytest.raises((DependencyError, UnknownName)):
        ObjectStore.open("s3://nothing/here").put_new("a", b"x")


@pytest.mark.parametrize("copied", [False, True])
def test_a_prefix_becomes_a_dataset(copied: bool, bucket: str) -> None:
    fill(bucket, cat_1=picture("c"), dog_1=picture("d"), dog_2=b"no image")
    sources, store = Sources([f"{bucket}/in"]), ObjectStore.open(f"{bucket}/data")
    where = f"{bucket}/in/pets"
    wanted = Wanted("default", "pets", 1.0, source=where, copied=copied)
    head, new = import_dataset(store, sources.open(where), wanted, LIMITS)
    assert new
    assert head.counts == {"cat": 1, "dog": 1}
    assert [file.path for file in head.skipped] == ["dog/2.png"]
    assert len(list(store.keys("blobs"))) == (2 if copied else 0)
    first, second = records.load(store, "default", head.id).items
    assert first.source == ("" if copied else f"{bucket}/in/pets/cat/1.png")
    reader = ImageReader(store, sources)
    assert (reader.read(first), reader.read(second)) == (picture("c"), picture("d"))
    ObjectStore.open(f"{bucket}/in/pets").delete("cat/1.png")
    if copied:
        assert reader.read(first) == picture("c")
    else:
        with pytest.raises(InvalidImage, match="changed since it was registered: the object is g"):
            reader.read(first)


def test_nothing_beside_the_prefix_is_read(bucket: str) -> None:
    fill(bucket, cat_1=picture("c"))
    ObjectStore.open(f"{bucket}/in").put_new("pets-2/cat/9.png", picture("other"))
    members = Sources([bucket]).open(f"{bucket}/in/pets").members()
    assert [member.path for member in members] == ["cat/1.png"]
    with pytest.raises(InvalidParameter, match="nothing under"):
        list(Sources([bucket]).open(f"{bucket}/in/pet").members())


def test_features_of_a_prefix_through_a_worker_whose_store_is_in_a_bucket(
    bucket: str,
    url: str,  # noqa: F811
) -> None:
    fill(bucket, **{f"{name}_{n}": picture(f"{name}{n}") for name in ("a", "b") for n in range(6)})
    store = ObjectStore.open(f"{bucket}/data")
    rig = Registering(url, f"{bucket}/in", store)
    rig.worker.start()
    try:
        job_id = rig.post("dataset", source=f"{bucket}/in/pets")
        assert rig.wait(job_id, *ENDED) is JobState.SUCCEEDED
        dataset = rig.jobs.get(job_id).result["dataset"]
        job_id = rig.post("feature_set", dataset=dataset, taps=["fc7", "conv5"])
        assert rig.wait(job_id, *ENDED) is JobState.SUCCEEDED
        job = rig.jobs.get(job_id)
    finally:
        rig.close()
    assert (job.total, job.done, job.failed) == (12, 12, 0)
    features = load_feature_set(store, "default", job.result["feature_set"])
    shards = list(read_shards(store, dataset, features.fingerprints["fc7"], features.shards))
    rows = np.concatenate([shard.rows for shard in shards])
    images = [picture(f"{name}{n}") for name in ("a", "b") for n in range(6)]
    np.testing.assert_array_equal(rows, [features_of(image, "fc7") for image in images])
    assert features.kept == list(range(12))
