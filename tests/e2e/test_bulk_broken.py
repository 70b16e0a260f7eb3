"""All images of a real data set with broken files among them, in bulk and one by one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from offshelf_client import Client, Timeout
from tests.e2e.bulk import BROKEN, SAME, broken_files, uploaded
from tests.serving import Service

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.large, pytest.mark.timeout(1800)]

IMAGES: Final = 2_094
BROKEN_FILES: Final = 50
PARAMS: Final = {
    "backbone": "squeezenet1_0",
    "taps": ["conv1:pre", "fire9", "logits"],
    "pool": "avg",
}


def test_2094_images_and_50_broken_files(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "caltech101-40"
    shutil.copytree(shared_data / "data" / "caltech101-40", folder, copy_function=shutil.copyfile)
    classes = sorted(path.name for path in folder.iterdir())
    broken = dict(list(broken_files(3).items())[:BROKEN_FILES])
    for number, (name, image) in enumerate(broken.items()):
        (folder / classes[number % len(classes)] / name).write_bytes(image)
    # Without the content cache, which would answer the requests with the job's rows.
    settings = {"weights_dir": shared_data / "weights", "cache_bytes": 0}
    with (
        Service(tmp_path / "data", settings) as service,
        uploaded(service, folder, PARAMS) as whole,
    ):
        found = whole.finish(whole.start(), within_s=1200)
        with Client(service.url, timeout=Timeout(900)) as client:
            files = [folder / path for path in found.paths]
            asked = client.features(files, on_error="skip", **PARAMS)

    assert len(found.paths) == IMAGES + BROKEN_FILES
    assert found.labels == [path.split("/")[0] for path in found.paths]
    assert len(found.kept) == IMAGES
    wrong = {found.paths[number].split("/")[1]: error for number, error in found.errors.items()}
    assert wrong.keys() == broken.keys()
    for kind, (_, _, code) in BROKEN.items():
        ours = [error for file, error in wrong.items() if file.startswith(kind.replace(" ", "-"))]
        assert {found_code for found_code, _ in ours} == {code}, kind
        assert all(message for _, message in ours)

    assert list(asked.kept) == found.kept
    reasons = {n: (i.error.code, i.error.message) for n, i in enumerate(asked.items) if i.error}
    assert reasons == found.errors
    for tap, rows in found.rows.items():
        assert asked.fingerprints[tap] == found.fingerprints[tap]
        wanted = asked[tap].reshape(len(rows), -1)
        off = np.linalg.norm(rows - wanted, axis=1)
        assert (off <= SAME * np.linalg.norm(wanted, axis=1)).all(), (tap, off.max())
