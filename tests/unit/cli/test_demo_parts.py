"""What the demo stands on: digits as files, the service's split, a service in a process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from offshelf import bootstrap, demo
from offshelf.commands import digits, own_service
from offshelf.errors import DependencyError
from offshelf.heads import splits
from offshelf.queue import embedded
from offshelf.schemas import datasets, heads
from offshelf.settings import Settings
from offshelf_client import RandomSplit

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.write(tmp_path_factory.mktemp("digits"))


def test_there_is_a_file_for_each_of_1797_digits(written: digits.Digits) -> None:
    assert len(written.files) == 1797
    assert all(file.is_file() for file in written.files)
    assert [int(file.parent.name) for file in written.files] == written.labels.tolist()


def test_enlarged_file_holds_the_digit(written: digits.Digits) -> None:
    with Image.open(written.files[123]) as image:
        assert image.size == (64, 64)
        small = np.asarray(image)[::8, ::8]
    np.testing.assert_array_equal(np.rint(small / 255 * 16).ravel(), written.pixels[123])


def test_files_that_are_there_are_not_written_again(written: digits.Digits) -> None:
    before = written.files[0].stat().st_mtime_ns
    digits.write(written.files[0].parents[1])
    assert written.files[0].stat().st_mtime_ns == before


def test_split_is_the_one_that_the_service_makes(written: digits.Digits) -> None:
    train, test = digits.split(written, RandomSplit(40, seed=3))
    wanted = heads.RandomSplit(train_per_class=40, seed=3)
    paths = [f"{file.parent.name}/{file.name}" for file in written.files]
    items = [
        datasets.DatasetItem(path=path, label=str(label), sha256="0", bytes=1)
        for path, label in zip(paths, written.labels.tolist(), strict=True)
    ]
    dataset = datasets.Dataset(
        id="d1", owner="default", name="", created_s=0, classes=list("0123456789"), items=items
    )
    theirs = splits.split_items(dataset, wanted)
    assert (tuple(train), tuple(test)) == (theirs.train, theirs.test)
    assert (len(train), len(test)) == (400, 1397)


def test_pixels_alone_do_well(written: digits.Digits) -> None:
    for kind in demo.KINDS:
        assert 0.85 < digits.accuracy_of_pixels(written, demo.SPLIT, kind) < 1


def test_free_port_can_be_listened_on() -> None:
    assert 1024 <= own_service.free_port() <= 65535


def test_service_that_ends_at_once_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSHELF_LOG_LEVEL", "chatty")
    log = tmp_path / "service.log"
    with (
        pytest.raises(DependencyError, match="log_level"),
        own_service.own_service(tmp_path / "data", log),
    ):
        raise AssertionError("it cannot have started")


def test_process_that_does_not_stop_is_killed_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_service, "STOP_S", 0.5)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: None); "
        "print(1, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    process.stdout.close()
    (tmp_path / "log").write_text("stubborn")
    with pytest.raises(DependencyError, match="stubborn"):
        own_service.stop(process, tmp_path / "log")
    assert process.poll() == -9


def test_a_service_of_ones_own_is_given_all_the_time_that_it_may_take_to_stop() -> None:
    settings = Settings()
    worker_s = settings.drain_s + bootstrap.WORKER_GRACE_S
    assert worker_s + bootstrap.API_GRACE_S + embedded.STOP_TIMEOUT_S < own_service.STOP_S
    assert settings.drain_s == own_service.DRAIN_S
    assert "OFFSHELF_DRAIN_S" in own_service.FOREIGN
