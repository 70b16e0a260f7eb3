"""Datasets that are registered where they are, through a real service."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import offshelf_client as sdk
from tests.e2e.pictures import write_digits
from tests.serving import Service
from tests.unit.pictures import DOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


def test_a_folder_of_the_service_s_machine_is_read_where_it_is(tmp_path: Path) -> None:
    root = tmp_path / "allowed"
    write_digits(root / "digits", 3)
    broken = {"empty.png": b"", "text.png": b"no image", "cut.png": DOT[:20]}
    (first, *_) = sorted((root / "digits").iterdir())
    for name, data in broken.items():
        (first / name).write_bytes(data)
    settings = {"dataset_sources": str(root)}
    with (
        Service(tmp_path / "data", settings) as service,
        sdk.Client(service.url) as client,
    ):
        with pytest.raises(sdk.InvalidParameterError, match="OFFSHELF_DATASET_SOURCES"):
            client.datasets.register(str(tmp_path))
        there = client.datasets.register(str(root / "digits")).dataset()
        assert (there.copied, there.layout, there.version) == (False, "folder", 1)
        assert {file.path for file in there.skipped} == {f"{first.name}/{name}" for name in broken}
        uploaded = client.datasets.upload(root / "digits", name="same")
        assert uploaded == there
        job = client.feature_sets.create(there, taps="fc6").wait()
        assert (job.status.done, job.status.failed) == (there.total, 0)
        shutil.rmtree(root / "digits")
        with pytest.raises(sdk.JobFailedError, match="there is no folder"):
            client.datasets.register(str(root / "digits")).dataset()
        with pytest.raises(sdk.InUseError):
            client.datasets.delete(there)
        client.datasets.delete(there, feature_sets=True)
        assert client.datasets.list() == []


def test_a_report_shows_pictures_that_were_never_copied(tmp_path: Path) -> None:
    """One image is in the test under a wrong label, so it is an error to be shown."""
    root = tmp_path / "digits"
    write_digits(root, 3, 2)
    first, second = sorted(folder.name for folder in root.iterdir())
    train = sorted(str(file.relative_to(root)) for file in root.rglob("*.png"))
    shutil.copy(root / train[0], root / second / "wrong.png")
    split = sdk.ExplicitSplit(train=tuple(train), test=(f"{second}/wrong.png",))
    with (
        Service(tmp_path / "data", {"dataset_sources": str(tmp_path)}) as service,
        sdk.Client(service.url) as client,
    ):
        there = client.datasets.register(str(root)).dataset()
        job = client.heads.train(there, tap="pool5", view="warp", normalize="l2", split=split)
        head = job.wait(timeout=120).head()
        (miss,) = head.evaluation().hardest
        assert (miss.path, miss.truth, miss.predicted) == (f"{second}/wrong.png", second, first)
        assert "data:image/jpeg;base64," in head.report_html()
        (root / second / "wrong.png").unlink()
        page = head.report_html()
        assert "data:image/jpeg;base64," not in page
        assert "the file is gone" in page
