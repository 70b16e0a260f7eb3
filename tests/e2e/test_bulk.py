"""Features of whole datasets: nothing is computed twice, and fixed batches give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.numpy

from offshelf_client import Client, Job, Timeout, UnknownNameError
from tests.e2e.pictures import write_digits
from tests.serving import Service, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

FEATURES = {"backbone": "squeezenet1_0", "weights": "random:0", "pool": "avg"}
SMALL = {"shard_images": 8, "heartbeat_timeout_s": 3, "maintenance_chance": 1_000_000}


@pytest.fixture(scope="module")
def bulk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small shards, which the tests of this module share."""
    with Service(tmp_path_factory.mktemp("bulk") / "data", SMALL) as running:
        yield running


@pytest.fixture
def client(bulk: Service) -> Iterator[Client]:
    with Client(bulk.url, timeout=Timeout(60)) as connected:
        yield connected


def ended(job: Job) -> tuple[str, int, int]:
    """The id of the set, and how many rows were reused and computed."""
    status = job.wait(timeout=120).status
    assert status.done + status.failed == status.total
    result = status.result
    assert (status.reused, status.computed) == (result["reused"], result["computed"])
    return result["feature_set"], result["reused"], result["computed"]


def shards(service: Service) -> dict[str, bytes]:
    """Every shard of the service's store, by its name."""
    root = service.data_dir / "store" / "features"
    files = sorted(root.rglob("*.safetensors"))
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def test_the_same_set_is_there_at_once_and_a_new_version_takes_its_rows(
    client: Client, tmp_path: Path
) -> None:
    folder = tmp_path / "digits"
    write_digits(folder, 5, 4)
    first = client.datasets.upload(folder)
    made, reused, computed = ended(client.feature_sets.create(first, taps=["fire9"], **FEATURES))
    assert (reused, computed) == (0, 20)
    again = client.feature_sets.create(first, taps=["fire9"], **FEATURES)
    assert ended(again) == (made, 20, 0)
    write_digits(folder, 6, 5)  # the 20 of before and 10 more
    second = client.datasets.upload(folder)
    other, reused, computed = ended(client.feature_sets.create(second, taps=["fire9"], **FEATURES))
    assert other != made
    assert (reused, computed) == (20, 10)


def test_a_repeated_image_comes_from_the_cache_with_the_same_bits(
    client: Client, bulk: Service, tmp_path: Path
) -> None:
    files = write_digits(tmp_path / "digits", 2, 2)
    first = client.features(files, taps=["fire5", "logits"], **FEATURES)

    def all_hits() -> bool:
        before = bulk.metrics().get("offshelf_cache_total", 0.0)
        again = client.features(files, taps=["fire5", "logits"], **FEATURES)
        for tap in first:
            np.testing.assert_array_equal(first[tap], again[tap])
        return hits(bulk) >= len(files) and bulk.metrics()["offshelf_cache_total"] >= before

    eventually(all_hits, "the features were written, and found")


def hits(service: Service) -> float:
    import httpx

    text = httpx.get(f"{service.url}/metrics", timeout=10).text
    lines = [line for line in text.splitlines() if 'offshelf_cache_total{outcome="hit"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_a_deterministic_set_that_was_cancelled_has_the_bytes_of_another_run(
    client: Client, bulk: Service, tmp_path: Path
) -> None:
    (first, *_) = write_digits(tmp_path / "digits", 24, 5)
    (tmp_path / "digits" / "0" / "broken.png").write_bytes(first.read_bytes()[:80])
    options = {"taps": ["fire5", "fire9"], "deterministic": True, **FEATURES}
    dataset = client.datasets.upload(tmp_path / "digits")
    job = client.feature_sets.create(dataset, **options)
    eventually(lambda: job.refresh().status.done > 0, "some shards are done")
    job.cancel()
    eventually(lambda: job.refresh().status.finished, "the job is cancelled")
    before = shards(bulk)
    _, reused, computed = ended(client.feature_sets.create(dataset, **options))
    assert reused > 0
    assert reused + computed == 120
    mine = {name: data for name, data in shards(bulk).items() if name.startswith(dataset.id)}
    assert all(mine[name] == data for name, data in before.items() if name in mine)
    with (
        Service(tmp_path / "other", SMALL) as other,
        Client(other.url, timeout=Timeout(60)) as there,
    ):
        _, reused, computed = ended(
            there.feature_sets.create(there.datasets.upload(tmp_path / "digits"), **options)
        )
        assert (reused, computed) == (0, 120)
        assert shards(other) == mine


def test_a_set_can_be_deleted_and_shares_its_shards(
    client: Client, bulk: Service, tmp_path: Path
) -> None:
    write_digits(tmp_path / "digits", 3, 3)
    dataset = client.datasets.upload(tmp_path / "digits")
    one, *_ = ended(client.feature_sets.create(dataset, taps=["fire9"], **FEATURES))
    both, *_ = ended(client.feature_sets.create(dataset, taps=["fire9", "fire5"], **FEATURES))
    fingerprints = client.feature_sets.get(both).fingerprints
    client.feature_sets.delete(both)
    left = {name.split("/")[1] for name in shards(bulk) if name.startswith(dataset.id)}
    assert left == {fingerprints["fire9"]}
    client.feature_sets.delete(one)
    assert not [name for name in shards(bulk) if name.startswith(dataset.id)]
    with pytest.raises(UnknownNameError):
        client.feature_sets.get(one)
    made, reused, computed = ended(client.feature_sets.create(dataset, taps=["fire9"], **FEATURES))
    assert made == one
    assert reused + computed == 9


def test_features_of_a_job_are_those_of_a_request(
    client: Client, bulk: Service, tmp_path: Path
) -> None:
    files = write_digits(tmp_path / "digits", 4, 3)
    dataset = client.datasets.upload(tmp_path / "digits")
    taps = ["fire8"]
    made, *_ = ended(client.feature_sets.create(dataset, taps=taps, **FEATURES))
    direct = client.features(files, taps=taps, **FEATURES)["fire8"]
    fingerprint = client.feature_sets.get(made).fingerprints["fire8"]
    mine = [data for name, data in shards(bulk).items() if fingerprint in name]
    rows = np.concatenate([safetensors.numpy.load(data)["rows"] for data in mine])
    gap = np.linalg.norm(rows - direct, axis=1) / np.linalg.norm(direct, axis=1)
    assert gap.max() < 1e-5
