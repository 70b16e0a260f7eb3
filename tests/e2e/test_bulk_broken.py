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
    broken = {
        f"{classes[number % len(classes)]}/{name}": image
        for number, (name, image) in enumerate(list(broken_files(3).items())[:BROKEN_FILES])
    }
    for path, image in broken.items():
        (folder / path).write_bytes(image)
    # Without the content cache, which would answer the requests with the job's rows.
    settings = {"weights_dir": shared_data / "weights", "cache_bytes": 0}
    with (
        Service(tmp_path / "data", settings) as service,
        uploaded(service, folder, PARAMS) as whole,
    ):
        found = whole.finish(whole.start(), within_s=1200)
        left_out = {file.path: file.reason for file in whole.dataset.skipped}
        paths = [*found.paths, *(path for path in left_out if path not in found.paths)]
        with Client(service.url, timeout=Timeout(900)) as client:
            files = [folder / path for path in paths]
            asked = client.features(files, on_error="skip", **PARAMS)

    assert len(found.kept) == IMAGES
    assert found.labels == [path.split("/")[0] for path in found.paths]
    # Listed at the upload if its header says it, else with the features; each with its reason.
    listed = {found.paths[number]: message for number, (_, message) in found.errors.items()}
    assert {*listed, *left_out} == broken.keys()
    assert all({**left_out, **listed}.values())

    # One by one: the same rows, and the same reasons for the same files.
    assert [paths[n] for n in asked.kept] == [found.paths[n] for n in found.kept]
    errors = {paths[n]: item.error for n, item in enumerate(asked.items) if item.error}
    assert errors.keys() == broken.keys()
    assert {path: errors[path].message for path in listed} == listed
    kinds = {kind.replace(" ", "-"): code for kind, (_, _, code) in BROKEN.items()}
    for path, error in errors.items():
        assert error.code == kinds[path.split("/")[1].rsplit("-", 1)[0]], path
    for tap, rows in found.rows.items():
        assert asked.fingerprints[tap] == found.fingerprints[tap]
        wanted = asked[tap].reshape(len(rows), -1)
        off = np.linalg.norm(rows - wanted, axis=1)
        assert (off <= SAME * np.linalg.norm(wanted, axis=1)).all(), (tap, off.max())
