"""Card files over the papers' networks: which tensors they take, which mean, which fingerprint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from offshelf.backbones.brought_card import read_card
from offshelf.backbones.card_file import BadCard
from offshelf.backbones.catalogue import Catalogue
from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.layers import Conv, Full, Norm, Pool, Row
from offshelf.backbones.papers import caffe_card, plain_card
from offshelf.backbones.weights import load
from offshelf.core.view import View
from offshelf.engine.extractor import _spec
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.errors import WeightsMissing
from offshelf.settings import Settings
from tests.reference import wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from offshelf.backbones.interface import Card

REST = {"fc6": Full(8), "fc8": Full(5)}
POOLS_FIRST = Row(16, {"conv1": Conv(4, 3), "pool1": Pool(), "norm1": Norm(), **REST})
NORMS_FIRST = Row(16, {"conv1": Conv(4, 3), "norm1": Norm(), "pool1": Pool(), **REST})
MEAN = (120.0, 110.0, 100.0)  # R, G, B
PIXEL = torch.tensor(MEAN[::-1]).view(3, 1, 1).expand(-1, 16, 16)
IMAGE = np.random.default_rng(3).uniform(60, 180, (3, 20, 24)).astype(np.float32)
CROPPED = torch.from_numpy(IMAGE[:, 2:18, 4:20].copy())

ARCHITECTURES = {
    "pools": caffe_card("pools", POOLS_FIRST, "none", MEAN),
    "norms": caffe_card("norms", NORMS_FIRST, "none", MEAN),
    "turns": caffe_card("turns", POOLS_FIRST, "none", MEAN, flip=True),
    "plain": plain_card("plain", POOLS_FIRST, "none", 118.0, 61.0),
}


def card_of(folder: Path, weights: str, text: str = "", architecture: str = "pools") -> Card:
    path = folder / "mynet.toml"
    path.write_text(f'architecture = "{architecture}"\nweights = "{weights}"\n{text}')
    return read_card(path, ARCHITECTURES.__getitem__)


def tensors() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = ARCHITECTURES["pools"].build().state_dict()
    return {name: tensor for name, tensor in state.items() if name != "mean_image"}


def save(path: Path, state: dict[str, Tensor]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    elif path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[Card], dict[str, Tensor]]:
    settings = Settings(weights_dir=tmp_path, device="cpu")
    return lambda card: load(card, None, settings).network.state_dict()


def assert_same(found: dict[str, Tensor], mean: Tensor) -> None:
    wanted = {**tensors(), "mean_image": mean}
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize("file", ["x.npz", "x.safetensors", "x.pth"])
@pytest.mark.parametrize("mean", ["none", "mean_image", "module.mean_image"])
def test_a_prefix_and_a_drop_choose_and_the_mean_image_stays(
    tmp_path: Path, loaded: Callable[[Card], dict[str, Tensor]], file: str, mean: str
) -> None:
    state = {f"module.{name}": tensor for name, tensor in tensors().items()}
    state |= {"module.queue": torch.ones(2), "other.conv1.weight": torch.ones(1)}
    image = {} if mean == "none" else {mean: CROPPED}
    save(tmp_path / file, state | image)
    card = card_of(tmp_path, file, 'prefix = "module."\ndrop = ["queue"]')
    assert_same(loaded(card), CROPPED if image else PIXEL)


def test_a_mean_image_with_the_prefix_goes_before_one_without_and_can_be_dropped(
    tmp_path: Path, loaded: Callable[[Card], dict[str, Tensor]]
) -> None:
    state = {f"m.{name}": t for name, t in tensors().items()}
    save(tmp_path / "x.npz", state | {"m.mean_image": CROPPED, "mean_image": PIXEL + 1})
    assert_same(loaded(card_of(tmp_path, "x.npz", 'prefix = "m."')), CROPPED)
    card = card_of(tmp_path, "x.npz", 'prefix = "m."\ndrop = ["mean_image"]')
    assert_same(loaded(card), PIXEL)


def test_a_key_and_a_mean_image_beside_the_file(
    tmp_path: Path, loaded: Callable[[Card], dict[str, Tensor]]
) -> None:
    torch.save({"epoch": 1, "state_dict": tensors()}, tmp_path / "x.pth")
    card = card_of(tmp_path, "x.pth", 'key = "state_dict"')
    assert_same(loaded(card), PIXEL)
    (tmp_path / "x.binaryproto").write_bytes(wire.blob(IMAGE[np.newaxis]))
    assert_same(loaded(card), CROPPED)
    save(tmp_path / "x.npz", tensors())
    with pytest.raises(WeightsMissing, match=r"x\.npz has no key 'state_dict'"):
        loaded(card_of(tmp_path, "x.npz", 'key = "state_dict"'))


def test_headless_leaves_the_head_of_a_caffemodel_out(
    tmp_path: Path, loaded: Callable[[Card], dict[str, Tensor]]
) -> None:
    state = {name: tensor.numpy() for name, tensor in tensors().items()}
    (tmp_path / "x.caffemodel").write_bytes(wire.net(state))
    found = loaded(card_of(tmp_path, "x.caffemodel", "headless = true"))
    assert set(found) == {*state, "mean_image"} - {"fc8.weight", "fc8.bias"}
    assert torch.equal(found["mean_image"], PIXEL)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("mean", "[0.5, 0.4, 0.3]", (0.5, 0.4, 0.3)),
        ("std", "[1, 1, 1]", (1.0, 1.0, 1.0)),
        ("channels", "'rgb'", "rgb"),
    ],
)
def test_the_mean_inside_a_network_cannot_be_replaced_outside(
    tmp_path: Path, field: str, text: str, value: object
) -> None:
    given = f"[preprocessing]\n{field} = {text}"
    said = rf"mynet\.toml: field 'preprocessing.{field}' cannot be other .*'mean_image'"
    with pytest.raises(BadCard, match=said):
        card_of(tmp_path, "x.npz", given)
    # A network with no mean in it takes any, and what says the same again is right.
    plain = card_of(tmp_path, "x.npz", given, "plain")
    assert getattr(plain.preprocessing, field) == value
    again = card_of(tmp_path, "x.npz", '[preprocessing]\nchannels = "bgr"\nresize = 20')
    assert again.preprocessing.resize == 20


def test_the_same_tensors_in_another_network_are_other_features(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", tensors())
    settings = Settings(weights_dir=tmp_path, device="cpu")
    specs = {}
    for name in ("pools", "norms", "turns"):
        card = card_of(tmp_path, "x.npz", architecture=name)

        class One:
            get = staticmethod(lambda _, card=card: card)

        resident = TorchEngine(settings, One()).load("mynet", None)  # type: ignore[arg-type]
        specs[name] = _spec(resident, Output("fc6"), View("center"))
    assert specs["pools"].differences(specs["norms"]) == ["architecture: pools != norms"]
    assert specs["pools"].differences(specs["turns"]) == ["architecture: pools != turns"]
    assert len({spec.fingerprint for spec in specs.values()}) == 3


def test_only_a_card_file_names_an_architecture(tmp_path: Path) -> None:
    assert {BACKBONES.get(name).architecture for name in BACKBONES.names()} == {""}
    (tmp_path / "mine.toml").write_text('architecture = "caffenet"\nweights = "x.npz"')
    assert Catalogue(tmp_path).get("mine").architecture == "caffenet"
