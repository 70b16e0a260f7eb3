"""Files in the formats that torchvision published over the years are read, each by its quirks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.weights import digest, load
from offshelf.errors import WeightsMissing
from offshelf.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from offshelf.backbones.weights import Loaded


def state_of(name: str, **options: object) -> dict[str, torch.Tensor]:
    """The seeded state dict of torchvision's network, with the metadata that torch saves."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = getattr(models, name)(weights=None, **options)
        for buffer_name, buffer in network.named_buffers():
            if buffer_name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    state: dict[str, torch.Tensor] = network.state_dict()
    return state


def read(folder: Path, name: str, state: Mapping[str, torch.Tensor]) -> Loaded:
    card = BACKBONES.get(name)
    torch.save(state, folder / card.weights.filename)
    return load(card, None, Settings(weights_dir=folder))


def holds(loaded: Loaded, state: Mapping[str, torch.Tensor]) -> None:
    """Every tensor of the network is that of the state dict, by the names of today."""
    ours = loaded.network.state_dict()
    assert not any(tensor.is_meta for tensor in ours.values())
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.items())


def test_densenets_file_has_dots_in_its_layers_names(tmp_path: Path) -> None:
    state = state_of("densenet121")
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])\.")
    published = {
        pattern.sub(r"\1.\2.", name): tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    old = "features.denseblock1.denselayer1.norm.1.weight"
    assert old in published
    assert old not in state
    holds(read(tmp_path, "densenet121", published), state)


@pytest.mark.parametrize(
    ("name", "prefixes"), [("googlenet", ("aux1.", "aux2.")), ("inception_v3", ("AuxLogits.",))]
)
def test_auxiliary_heads_of_the_file_are_left_out(
    name: str, prefixes: tuple[str, ...], tmp_path: Path
) -> None:
    state = state_of(name, init_weights=False, aux_logits=True, transform_input=True)
    assert all(any(n.startswith(prefix) for n in state) for prefix in prefixes)
    loaded = read(tmp_path, name, state)
    assert loaded.network.transform_input is True
    assert not any(n.startswith(prefixes) for n in loaded.network.state_dict())
    holds(loaded, state)


def test_vits_file_numbers_the_perceptrons_layers(tmp_path: Path) -> None:
    state = state_of("vit_b_32")
    published = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): tensor
        for name, tensor in state.items()
    }
    assert "encoder.layers.encoder_layer_0.mlp.linear_1.weight" in published
    holds(read(tmp_path, "vit_b_32", published), state)


def test_mnasnet_is_read_with_and_without_its_version(tmp_path: Path) -> None:
    state = state_of("mnasnet0_5")
    loaded = read(tmp_path, "mnasnet0_5", state)
    holds(loaded, state)
    # safetensors keeps no metadata; torchvision itself refuses a state dict without a version.
    folder = tmp_path / "bare"
    folder.mkdir()
    save_file(dict(state), folder / "mnasnet0_5.safetensors")
    bare = load(BACKBONES.get("mnasnet0_5"), None, Settings(weights_dir=folder))
    assert digest(bare.network) == loaded.digest


def test_mnasnets_first_version_is_another_network_and_is_refused(tmp_path: Path) -> None:
    state = state_of("mnasnet0_5")
    state["layers.0.weight"] = torch.zeros(32, 3, 3, 3)  # its stem had 32 channels at any width
    with pytest.raises(WeightsMissing, match=r"another shape: layers\.0\.weight is \(32,"):
        read(tmp_path, "mnasnet0_5", state)


@pytest.mark.parametrize("name", ["regnet_y_400mf", "swin_t", "swin_v2_t", "efficientnet_b0"])
def test_networks_that_compute_on_their_way_are_filled(name: str, tmp_path: Path) -> None:
    # RegNet computes its widths with tensors, Swin its tables of relative positions.
    state = state_of(name)
    holds(read(tmp_path, name, state), state)


def test_other_published_weights_are_found_by_their_names(tmp_path: Path) -> None:
    card = BACKBONES.get("mobilenet_v2").with_weights("IMAGENET1K_V2")
    state = state_of("mobilenet_v2")
    torch.save(state, tmp_path / "mobilenet_v2-7ebf99e0.pth")
    holds(load(card, None, Settings(weights_dir=tmp_path)), state)
    save_file(dict(state), tmp_path / "mobilenet_v2.IMAGENET1K_V2.safetensors")
    assert load(card, None, Settings(weights_dir=tmp_path)).label.endswith(".safetensors")
