"""`offshelf weights list`, `pull`, `verify` over files and a server of the test's own."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.records import record, record_of
from tests.unit.backbones.test_download import files, server
from tests.unit.backbones.test_resuming import Published
from tests.unit.cli.test_cli import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SQUEEZENET = BACKBONES.get("squeezenet1_0")
OFFICIAL = SQUEEZENET.weights.filename


@pytest.fixture(scope="module")
def body() -> bytes:
    """A weights file of squeezenet1_0, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        file = io.BytesIO()
        torch.save(SQUEEZENET.build().state_dict(), file)
    return file.getvalue()


@pytest.fixture
def published(body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """A mirror that has the file, whose hash the card then has; folders of one's own."""
    card = replace(
        SQUEEZENET,
        weights=replace(SQUEEZENET.weights, sha256_prefix=hashlib.sha256(body).hexdigest()[:8]),
    )
    monkeypatch.setitem(BACKBONES._things, "squeezenet1_0", card)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with server(found := Published(body=body)) as url:
        monkeypatch.setenv("OFFSHELF_WEIGHTS_MIRROR", url)
        yield found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFFSHELF_WEIGHTS_DIR", str(tmp_path / "weights"))
    return tmp_path / "weights"


def rows(*arguments: str, status: int = 0) -> dict[str, dict[str, Any]]:
    result = run("weights", *arguments, "--json")
    assert result.exit_code == status, result.output
    return {row["backbone"]: row for row in json.loads(result.stdout)}


def test_pull_brings_the_file_its_record_and_its_licence(
    published: Published, folder: Path, body: bytes
) -> None:
    result = run("weights", "pull", "squeezenet1_0")
    assert result.exit_code == 0, result.output
    sha256 = hashlib.sha256(body).hexdigest()
    assert f"squeezenet1_0 IMAGENET1K_V1: {SQUEEZENET.weights.licence}\n" in result.stdout
    arrived = f"squeezenet1_0 IMAGENET1K_V1: downloaded, {folder / OFFICIAL} (sha256 {sha256})\n"
    assert result.stdout.endswith(arrived)
    assert files(folder) == [OFFICIAL, OFFICIAL + ".sha256"]
    row = rows("pull", "squeezenet1_0")["squeezenet1_0"]
    assert (row["state"], row["sha256"], row["bytes"]) == ("present", sha256, len(body))
    assert len(published.asked) == 1


def test_pull_without_a_folder_goes_to_torchs_cache(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OFFSHELF_WEIGHTS_DIR", raising=False)
    row = rows("pull", "squeezenet1_0")["squeezenet1_0"]
    assert row["file"] == str(tmp_path / "torch" / "hub" / "checkpoints" / OFFICIAL)
    assert row["source"] == "hub-cache"


def test_pull_tells_what_fails_and_goes_on(published: Published, folder: Path) -> None:
    result = run("weights", "pull", "embednett", "alexnet", "squeezenet1_0")
    assert result.exit_code == 1
    assert "error: embednett: no backbone named 'embednett'; did you mean embednet" in result.stderr
    assert "error: alexnet: no weights for alexnet: the download failed" in result.stderr
    assert (folder / OFFICIAL).is_file()
    result = run("weights", "pull", "squeezenet1_0", "--weights", "IMAGENET1K_V9")
    assert result.exit_code == 1
    assert "no weights of squeezenet1_0 named 'IMAGENET1K_V9'" in result.stderr


def test_pull_wants_names_or_all(folder: Path) -> None:
    assert run("weights", "pull").exit_code == 2
    assert run("weights", "pull", "alexnet", "--all").exit_code == 2


def test_pull_all_takes_what_is_published(
    published: Published, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {n: BACKBONES.get(n) for n in ("squeezenet1_0", "embednet")}
    other = replace(
        own["squeezenet1_0"],
        weights=replace(own["squeezenet1_0"].weights, name="V2", url="https://x/v2.pth"),
        pinned=False,
    )
    own["squeezenet1_0"] = replace(own["squeezenet1_0"], others={"V2": other})
    monkeypatch.setattr(BACKBONES, "_things", own)
    found = rows("pull", "--all")
    assert set(found) == {"squeezenet1_0"}
    assert found["squeezenet1_0"]["weights"] == "IMAGENET1K_V1"
    assert rows("pull", "--all", "--weights", "V2")["squeezenet1_0"]["weights"] == "V2"
    assert rows("pull", "squeezenet1_0", "--weights", "V2")["squeezenet1_0"]["state"] == "present"
    assert {"v2.pth", OFFICIAL} <= set(files(folder))


def test_nothing_is_pulled_offline(
    published: Published, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSHELF_OFFLINE", "1")
    result = run("weights", "pull", "squeezenet1_0")
    assert result.exit_code == 1
    assert "OFFSHELF_OFFLINE is set, so nothing is downloaded" in result.stderr
    assert published.asked == []


def test_verify_tells_sound_from_damaged(published: Published, folder: Path, body: bytes) -> None:
    rows("pull", "squeezenet1_0")
    assert rows("verify", "squeezenet1_0")["squeezenet1_0"]["status"] == "ok"
    damaged = bytearray(body)
    damaged[len(body) // 2] ^= 1
    (folder / OFFICIAL).write_bytes(damaged)
    verdict = rows("verify", status=1)["squeezenet1_0"]
    assert verdict["status"] == "damaged"
    for digest in (hashlib.sha256(damaged).hexdigest(), hashlib.sha256(body).hexdigest()):
        assert digest in verdict["detail"]
    record_of(folder / OFFICIAL).unlink()
    verdict = rows("verify", "squeezenet1_0", status=1)["squeezenet1_0"]
    assert "its name says" in verdict["detail"]
    result = run("weights", "verify", "squeezenet1_0")
    assert result.stdout.startswith("damaged       squeezenet1_0 " + OFFICIAL)
    assert "its name says" in rows("pull", "squeezenet1_0", status=1)["squeezenet1_0"]["error"]


def test_verify_reads_the_file_as_a_network(
    published: Published, folder: Path, body: bytes
) -> None:
    folder.mkdir()
    own = folder / "alexnet.safetensors"
    own.write_bytes(body)
    record(own, hashlib.sha256(body).hexdigest())
    assert "cannot be read as weights" in rows("verify", status=1)["alexnet"]["detail"]
    own.unlink()
    (folder / BACKBONES.get("alexnet").weights.filename).write_bytes(body)
    record(folder / BACKBONES.get("alexnet").weights.filename, hashlib.sha256(body).hexdigest())
    assert "does not hold the weights of alexnet" in rows("verify", status=1)["alexnet"]["detail"]


def test_verify_records_what_is_sound_when_asked_to(
    published: Published, folder: Path, body: bytes
) -> None:
    folder.mkdir()
    (folder / "mine.pth").write_bytes(body)
    (folder / "mine.toml").write_text('architecture = "squeezenet1_0"\nweights = "mine.pth"\n')
    assert rows("verify")["mine"]["status"] == "not recorded"
    assert rows("verify", "--record")["mine"]["status"] == "ok"
    assert rows("list")["mine"]["sha256"] == hashlib.sha256(body).hexdigest()
    assert not any("embednet" in name for name in files(folder))


def test_verify_of_what_is_not_here(published: Published, folder: Path) -> None:
    found = rows("verify")
    assert {row["status"] for row in found.values()} == {"ok"}
    assert set(found) == {"embednet"}
    assert rows("verify", "alexnet", status=1)["alexnet"]["status"] == "missing"
    assert run("weights", "verify", "alexnett").exit_code == 1


def test_bad_card_files_are_listed_and_verified(published: Published, folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.toml").write_text("weights = 3")
    assert "the field 'architecture' is missing" in rows("list")["mine"]["problem"]
    assert rows("verify", status=1)["mine"]["status"] == "bad card"
    assert rows("verify", "mine", status=1)["mine"]["status"] == "bad card"
    assert rows("verify", "embednet")["embednet"]["status"] == "ok"
    result = run("weights", "list")
    assert "bad: the card file" in result.stderr
    assert result.exit_code == 0


def test_list_shows_what_is_here_or_all(published: Published, folder: Path, body: bytes) -> None:
    rows("pull", "squeezenet1_0")
    found = rows("list")
    assert set(found) == {"embednet", "squeezenet1_0"}
    row = found["squeezenet1_0"]
    assert (row["weights"], row["source"]) == ("IMAGENET1K_V1", "directory")
    assert (row["bytes"], row["licence"]) == (len(body), SQUEEZENET.weights.licence)
    assert set(rows("list", "--all")) == set(BACKBONES.names())
    lines = run("weights", "list").stdout.splitlines()
    assert lines[0].split() == ["backbone", "weights", "source", "MB", "sha256", "licence", "file"]
    assert lines[-1].endswith("more are not here; --all lists them")
