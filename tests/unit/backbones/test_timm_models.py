"""Cards of timm's models, held against timm's own transforms and forward passes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save

from offshelf.backbones.catalogue import Catalogue
from offshelf.backbones.timm_models import timm_card
from offshelf.backbones.weights import load
from offshelf.core.view import View
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.engine.views import view
from offshelf.errors import InvalidParameter, UnknownName, WeightsMissing
from offshelf.settings import Settings
from tests.reference.pictures import picture
from tests.reference.plain import forward
from tests.unit.backbones.test_download import server
from tests.unit.backbones.test_resuming import Published

if TYPE_CHECKING:
    from pathlib import Path

timm = pytest.importorskip("timm")

SMALL = "timm:test_resnet.r160_in1k"  # a network that timm tests itself with


@pytest.mark.parametrize(
    "name",
    [
        SMALL,
        "timm:resnet50.a1_in1k",
        "timm:efficientnet_b0.ra_in1k",
        "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "timm:regnety_002.pycls_in1k",
    ],
)
def test_pictures_are_made_as_timm_makes_them_to_the_pixel(name: str) -> None:
    card = timm_card(name)
    config = timm.data.resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg(name.removeprefix("timm:")).to_dict()
    )
    transform = timm.data.create_transform(**config)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (config["mean"], config["std"]))
    for seed, size in enumerate([(300, 200), (211, 333), (160, 500), (90, 61), (1000, 700)]):
        image = picture(seed, *size)
        theirs = transform(image).numpy() * std + mean
        (ours,) = view(image, View.parse("center"), card.preprocessing)
        wanted = np.rint(theirs * 255).astype(np.uint8).transpose(1, 2, 0)
        assert np.array_equal(ours[0], wanted)
    assert (card.preprocessing.mean, card.preprocessing.std) == (config["mean"], config["std"])


@pytest.mark.parametrize("name", [SMALL, "timm:mobilenetv3_small_050.lamb_in1k"])
def test_taps_are_what_timm_computes(name: str) -> None:
    resident = TorchEngine(Settings(device="cpu")).load(name, "random:3")
    card = resident.card
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = timm.create_model(name.removeprefix("timm:")).eval()
    side = card.preprocessing.crop
    pixels = np.array(picture(5, side, side))[np.newaxis]
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (card.preprocessing.mean, card.preprocessing.std)
    )
    with torch.inference_mode():
        maps = network.forward_features((x - mean) / std)
        wanted = {
            "logits": network.forward_head(maps),
            "penultimate": network.forward_head(maps, pre_logits=True),
        }
    outputs = {tap: Output(tap) for tap in wanted}
    found = forward(resident, pixels, list(outputs.values()))
    for tap, values in wanted.items():
        theirs = values.numpy()[0]
        (row,) = found[outputs[tap]]
        assert row.shape == theirs.shape == resident.resolve_tap(tap)[1].shape
        assert np.linalg.norm(row - theirs) <= 1e-5 * np.linalg.norm(theirs)


def test_a_card_is_made_once_and_says_what_timm_says() -> None:
    card = Catalogue().get(SMALL)
    assert Catalogue().get(SMALL) is card
    assert (card.name, card.classes) == (SMALL, 1000)
    assert card.weights.licence == "apache-2.0, as timm states it"
    assert card.weights.filename == "timm-test_resnet.r160_in1k.safetensors"
    hub = "https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    assert card.weights.url == hub


def test_weights_come_from_the_directory_or_a_mirror_and_are_recorded(
    tmp_path: Path,
) -> None:
    state = timm.create_model("test_resnet").state_dict()
    body = save(state)
    with server(Published(body=body)) as url:
        settings = Settings(weights_dir=tmp_path, weights_mirror=url)
        first = load(timm_card(SMALL), None, settings)
    again = load(timm_card(SMALL), None, Settings(weights_dir=tmp_path, offline=True))
    assert first.digest == again.digest
    assert (first.source, again.source) == ("download", "directory")
    file = tmp_path / "timm-test_resnet.r160_in1k.safetensors"
    assert file.read_bytes() == body
    record = file.with_name(file.name + ".sha256").read_text()
    assert record == f"{hashlib.sha256(body).hexdigest()}  {file.name}\n"
    file.write_bytes(body + b"x")
    with pytest.raises(WeightsMissing, match="its record"):
        load(timm_card(SMALL), None, settings)


def test_a_name_without_a_tag_takes_no_weights_by_itself() -> None:
    card = timm_card("timm:test_resnet")
    assert card.weights.url == ""
    with pytest.raises(WeightsMissing, match=r"there are timm:test_resnet\.r160"):
        load(card, None, Settings())
    assert load(card, "random:1", Settings()).label == "random:1"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet50.a1_in1kk", r"did you mean timm:resnet50\.a1_in1k"),
        ("timm:resnett50", "did you mean timm:resnet50"),
        ("timm:qqqqqqq", "none is like it"),
        ("timm:", "none is like it"),
    ],
)
def test_names_that_are_not_there_get_close_matches(name: str, said: str) -> None:
    with pytest.raises(UnknownName, match=said):
        Catalogue().get(name)


def test_a_model_that_cannot_be_traced_is_told() -> None:
    with pytest.raises(InvalidParameter, match=r"into taps: torch\.fx cannot trace it"):
        timm_card("timm:test_vit.r160_in1k")


def test_a_model_whose_pictures_are_made_otherwise_is_told() -> None:
    names = timm.list_pretrained()
    squashed = next(n for n in names if timm.get_pretrained_cfg(n).crop_mode == "squash")
    with pytest.raises(InvalidParameter, match="wants crop mode 'squash'; offshelf has the centre"):
        timm_card(f"timm:{squashed}")


def test_a_card_file_may_build_on_a_model_of_timm(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=5)
    torch.save({"model": network.state_dict()}, tmp_path / "x.pth")
    (tmp_path / "mine.toml").write_text(
        'architecture = "timm:test_resnet"\nweights = "x.pth"\nclasses = 5\nkey = "model"\n'
    )
    card = Catalogue(tmp_path).get("mine")
    assert [(tap.name, tap.shape) for tap in card.taps] == [
        ("penultimate", (96,)),
        ("logits", (5,)),
    ]
    loaded = load(card, None, Settings(weights_dir=tmp_path)).network
    assert torch.equal(loaded.state_dict()["fc.weight"], network.state_dict()["fc.weight"])


def test_without_timm_it_is_told_what_to_install() -> None:
    script = (
        "import sys; sys.modules['timm'] = None\n"
        "from offshelf.backbones.catalogue import Catalogue\n"
        "from offshelf.errors import UnknownName\n"
        "catalogue = Catalogue()\n"
        "assert 'alexnet' in catalogue.names()\n"
        "try: catalogue.get('timm:resnet50')\n"
        "except UnknownName as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert "timm is not installed; pip install 'offshelf[timm]'" in done.stdout
