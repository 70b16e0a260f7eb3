"""The cards say what is true of the networks, by arithmetic over the real graphs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torchvision import models

from offshelf.backbones.interface import BACKBONES, Alias, Card, Tap, register
from offshelf.engine.graph import Traced
from offshelf.errors import InvalidParameter, UnknownName

if TYPE_CHECKING:
    from offshelf.backbones.interface import PublishedWeights

TORCHVISION = {
    "alexnet": models.AlexNet_Weights,
    "vgg16": models.VGG16_Weights,
    "resnet50": models.ResNet50_Weights,
    "squeezenet1_0": models.SqueezeNet1_0_Weights,
}
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish)


@pytest.fixture(params=BACKBONES.names())
def card(request: pytest.FixtureRequest) -> Card:
    return BACKBONES.get(request.param)


class Geometry:
    """(stride, receptive field) of every node, from kernels and strides alone (Dumoulin's sums)."""

    def __init__(self, network: nn.Module, side: int) -> None:
        self.traced = Traced(network)
        self.graph = self.traced._graph
        self.root = self.traced._root
        module = fx.GraphModule(self.root, self.graph)
        ShapeProp(module).propagate(torch.empty(1, 3, side, side, device="meta"))
        self.known: dict[fx.Node, tuple[int, int]] = {}
        for node in self.graph.nodes:
            if node.op != "output":
                self.known[node] = self.of(node)

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(node.meta["tensor_meta"].shape[1:])

    def of(self, node: fx.Node) -> tuple[int, int]:
        if node.op in ("placeholder", "get_attr"):
            return 1, 1
        before = [self.known[n] for n in node.all_input_nodes]
        jump, field = max(j for j, _ in before), max(f for _, f in before)
        if node.op != "call_module":
            return jump, field  # sums, concatenations and flattening
        kernel, stride = self.window(self.root.get_submodule(str(node.target)), node)
        return jump * stride, field + (kernel - 1) * jump

    def window(self, module: nn.Module, node: fx.Node) -> tuple[int, int]:
        if isinstance(module, nn.Conv2d):
            return module.kernel_size[0], module.stride[0]
        if isinstance(module, nn.MaxPool2d):
            return int(module.kernel_size), int(module.stride)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            side, out = self.shape(node.all_input_nodes[0])[-1], self.shape(node)[-1]
            assert out in (1, side)
            return (side if out == 1 else 1), 1
        if isinstance(module, nn.Linear):
            return self.map_side(node.all_input_nodes[0]), 1
        return 1, 1

    def map_side(self, node: fx.Node) -> int:
        """The side of the map that this vector is the flattening of; 1 for any other vector."""
        while len(self.shape(node)) == 1:
            module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, nn.Linear):
                return 1
            node = node.all_input_nodes[0]
        return self.shape(node)[-1]


def test_shapes_strides_and_receptive_fields_are_those_of_the_graph(card: Card) -> None:
    with torch.device("meta"):
        geometry = Geometry(card.build(), card.preprocessing.crop)
    for tap in card.taps:
        node = geometry.traced.node(tap.node)
        stride, field = geometry.known[node]
        assert geometry.shape(node) == tap.shape, tap
        assert (tap.stride, tap.receptive_field) == (stride if tap.is_map else None, field), tap


def test_a_tap_has_a_pre_exactly_if_it_is_an_activation(card: Card) -> None:
    with torch.device("meta"):
        traced = Traced(card.build())
    for tap in card.taps:
        node = traced.node(tap.node)
        module = traced._root.get_submodule(str(node.target)) if node.op == "call_module" else None
        assert tap.pre == isinstance(module, ACTIVATIONS), tap


def test_the_known_table_of_receptive_fields() -> None:
    # Araujo et al., "Computing receptive fields of convolutional neural networks".
    table = {
        "alexnet": {"conv2": (51, 8), "conv5": (163, 16), "pool5": (195, 32), "fc6": (355, None)},
        "vgg16": {"conv3_3": (40, 4), "conv5_3": (196, 16), "pool5": (212, 32), "fc6": (404, None)},
        "resnet50": {"conv5": (427, 32)},
    }
    for backbone, rows in table.items():
        taps = {tap.name: tap for tap in BACKBONES.get(backbone).taps}
        for name, (field, stride) in rows.items():
            assert (taps[name].receptive_field, taps[name].stride) == (field, stride)


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_published_weights_are_torchvisions_first(name: str) -> None:
    card, theirs = BACKBONES.get(name), TORCHVISION[name].IMAGENET1K_V1
    ours: PublishedWeights = card.weights
    assert (ours.name, ours.url) == (theirs.name, theirs.url)
    assert ours.filename == theirs.url.rsplit("/", 1)[-1]
    assert f"-{ours.sha256_prefix}.pth" in theirs.url
    assert len(ours.sha256_prefix) == 8
    assert ours.top1 == theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert card.classes == len(theirs.meta["categories"])
    preset, pre = theirs.transforms(), card.preprocessing
    assert (preset.resize_size, preset.crop_size) == ([pre.resize], [pre.crop])
    assert (tuple(preset.mean), tuple(preset.std)) == (pre.mean, pre.std)
    assert preset.interpolation.value == pre.interpolation
    assert "non-commercial" in ours.licence


def test_names_are_the_fields() -> None:
    taps = {name: BACKBONES.get(name).tap_names() for name in TORCHVISION}
    for name in ("alexnet", "vgg16"):
        wanted = {"conv1", "conv2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "logits"}
        assert wanted <= set(taps[name])
    assert {f"fire{i}" for i in range(2, 10)} <= set(taps["squeezenet1_0"])
    assert {f"layer{i}" for i in range(1, 5)} <= set(taps["resnet50"])
    assert all("penultimate" in names and "logits" in names for names in taps.values())


def test_resolving_follows_aliases_and_keeps_pre() -> None:
    vgg, squeezenet = BACKBONES.get("vgg16"), BACKBONES.get("squeezenet1_0")
    canonical, tap, pre, pool = vgg.resolve_tap("conv5:pre")
    assert (canonical, tap.name, pre, pool) == ("conv5_3:pre", "conv5_3", True, "none")
    canonical, _, pre, pool = squeezenet.resolve_tap("penultimate")
    assert (canonical, pre, pool) == ("fire9", False, "avg")
    with pytest.raises(UnknownName, match="did you mean fc7"):
        vgg.resolve_tap("fc77")
    with pytest.raises(InvalidParameter, match="no ':pre'"):
        squeezenet.resolve_tap("fire9:pre")


def test_a_name_cannot_be_taken_twice() -> None:
    card = BACKBONES.get("alexnet")
    with pytest.raises(ValueError, match="registered twice"):
        register(card)
    twice = Card(
        "new", card.build, (Tap("a", "a", (1,)),), card.preprocessing, card.weights,
        {"a": Alias("a")},
    )  # fmt: skip
    with pytest.raises(ValueError, match="named twice"):
        register(twice)


def test_cards_and_listing_need_no_torch() -> None:
    script = (
        "import sys; sys.modules.update(torch=None, torchvision=None)\n"
        "from offshelf.backbones.interface import BACKBONES\n"
        "from offshelf.backbones.weights import locate\n"
        "from offshelf.settings import Settings\n"
        "for name in BACKBONES.names(): locate(BACKBONES.get(name), Settings())\n"
        "print(*BACKBONES.names())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == BACKBONES.names()
