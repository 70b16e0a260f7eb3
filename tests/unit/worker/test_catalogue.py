"""What a worker says of the weights that it has is true of the file that is there."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from offshelf.backbones import weights
from offshelf.backbones.catalogue import Catalogue
from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.weights import BROUGHT_LICENCE, Location
from offshelf.bootstrap import _catalogue
from offshelf.schemas.backbones import BackboneList
from offshelf.settings import Settings
from offshelf.worker.catalogue import describe
from tests.unit.worker.fakes import FakeResident

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.backbones.interface import Card

CONTENT = b"published weights"
BASE = BACKBONES.get("squeezenet1_0")
PREFIX = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def card(tmp_path: Path) -> Card:
    packaged = tmp_path / "packaged.safetensors"
    return replace(
        BASE, weights=replace(BASE.weights, sha256_prefix=PREFIX, top1=0.5, packaged=packaged)
    )


def told(card: Card, place: Location | None) -> dict[str, Any]:
    (body,) = describe([card], lambda _: place, "alexnet")
    return body.weights


def test_what_is_not_there_is_what_is_published(card: Card) -> None:
    found = told(card, None)
    assert (found["present"], found["source"], found["name"]) == (False, None, card.weights.name)


def test_the_published_file_has_the_published_name(card: Card, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(CONTENT)
    found = told(card, Location("directory", tmp_path / "w.pth"))
    assert (found["name"], found["licence"]) == (card.weights.name, card.weights.licence)
    assert (found["top1"], found["source"]) == (0.5, "directory")


def test_another_file_goes_by_its_own_name_and_claims_nothing(card: Card, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"my own")
    found = told(card, Location("directory", tmp_path / "mine.pth"))
    assert (found["name"], found["licence"]) == ("mine.pth", BROUGHT_LICENCE)
    assert (found["url"], found["sha256_prefix"], found["top1"]) == (None, None, None)


def test_no_path_of_this_machine_is_published(card: Card, tmp_path: Path) -> None:
    (tmp_path / "packaged.safetensors").write_bytes(CONTENT)
    for place in (None, Location("package", tmp_path / "packaged.safetensors")):
        assert str(tmp_path) not in repr(told(card, place))


def test_a_file_is_hashed_again_only_when_it_has_changed(
    card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    honest = hashlib.file_digest
    monkeypatch.setattr(
        weights.hashlib, "file_digest", lambda *args: hashed.append(1) or honest(*args)
    )
    path = tmp_path / "once.pth"
    path.write_bytes(CONTENT)
    for _ in range(3):
        assert told(card, Location("directory", path))["name"] == card.weights.name
    assert len(hashed) == 1
    path.write_bytes(b"another")
    os.utime(path, ns=(1, 1))
    assert told(card, Location("directory", path))["name"] == "once.pth"
    assert len(hashed) == 2


def test_every_published_set_of_weights_is_told_with_whether_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    card = BACKBONES.get("vit_b_16")
    here = tmp_path / "vit_b_16.IMAGENET1K_SWAG_E2E_V1.safetensors"
    here.write_bytes(b"")
    (body,) = describe(
        [card], lambda c: weights.locate(c, Settings(weights_dir=tmp_path)), "alexnet"
    )
    assert [(v.name, v.present, v.preprocessing["crop"]) for v in body.variants] == [
        ("IMAGENET1K_V1", False, 224),
        ("IMAGENET1K_SWAG_E2E_V1", True, 384),
        ("IMAGENET1K_SWAG_LINEAR_V1", False, 224),
    ]
    assert [v.top1 for v in body.variants] == [81.072, 85.304, 81.886]
    assert "CC-BY-NC 4.0" in body.variants[1].licence
    assert body.nbytes == card.nbytes == 346_270_624
    kinds = {tap.name: tap.kind for tap in body.taps}
    assert kinds["block12"] == "tokens"
    assert (kinds["patches"], kinds["cls"]) == ("map", "vector")


def test_a_brought_network_tells_its_classes_and_its_own_terms(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'architecture = "squeezenet1_0"\nweights = "sub/mine.pth"\nclasses = ["a", "b"]\n'
        'licence = "MIT"\n'
    )
    brought = Catalogue(tmp_path).get("mine")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.pth").write_bytes(CONTENT)
    place = Location("directory", tmp_path / "sub" / "mine.pth")
    (body,) = describe([brought], lambda _: place, "alexnet")
    assert (body.classes, body.class_names) == (2, ["a", "b"])
    assert (body.weights["name"], body.weights["licence"]) == ("sub/mine.pth", "MIT")
    assert (body.weights["present"], body.weights["url"]) == (True, None)
    assert str(tmp_path) not in repr(body)


def test_what_is_loaded_is_published_though_no_catalogue_lists_it(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    resident = FakeResident(card=catalogue.get("timm:resnet18"))
    settings = Settings(weights_dir=tmp_path)
    bodies = _catalogue(catalogue, settings, [resident])  # type: ignore[list-item]
    told = BackboneList.validate_json(BackboneList.dump_json(bodies))
    (found,) = [body for body in told if body.name == "timm:resnet18"]
    assert [tap.name for tap in found.taps] == [tap.name for tap in resident.card.taps]
    assert "timm:resnet18" not in {body.name for body in _catalogue(catalogue, settings, [])}
