"""The cards say what is true of the networks, by arithmetic over the real graphs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torchvision import models

from offshelf.backbones.imagenet import NETWORKS
from offshelf.backbones.interface import BACKBONES, Alias, Card, Tap, arranged_shape, register
from offshelf.engine.graph import Traced
from offshelf.engine.survey import Survey
from offshelf.errors import InvalidParameter, UnknownName
from tests.reference.networks import LARGE

if TYPE_CHECKING:
    from offshelf.backbones.interface import PublishedWeights

# Networks of convolutions, pools and sums alone, whose geometry `Geometry` can work out.
PLAIN = ("alexnet", "embednet", "resnet18", "resnet50", "squeezenet1_0", "squeezenet1_1", "vgg11",
         "vgg16", "vgg19_bn", "wide_resnet50_2")  # fmt: skip
PUBLISHED = [
    member
    for name in models.list_models(module=models)
    for member in models.get_model_weights(name)
    if member.meta["categories"]
]
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish)


@pytest.fixture(params=PLAIN)
def card(request: pytest.FixtureRequest) -> Card:
    return BACKBONES.get(request.param)


class Geometry:
    """(stride, receptive field) of every node, from kernels and strides alone (Dumoulin's sums)."""

    def __init__(self, network: nn.Module, side: int) -> None:
        self.traced = Traced(network)
        self.graph = self.traced._graph
        self.root = self.traced.root
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
        module = traced.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        assert tap.pre == isinstance(module, ACTIVATIONS), tap


def test_the_known_table_of_receptive_fields() -> None:
    # Araujo et al., "Computing receptive fields of convolutional neural networks".
    # fmt: off
    table = {
        "alexnet": {"conv1": (11, 4), "pool1": (19, 8), "conv2": (51, 8), "pool2": (67, 16),
                    "conv3": (99, 16), "conv4": (131, 16), "conv5": (163, 16),
                    "pool5": (195, 32), "fc6": (355, None)},
        "vgg16": {"conv1_2": (5, 1), "pool1": (6, 2), "conv2_2": (14, 2), "pool2": (16, 4),
                  "conv3_3": (40, 4), "pool3": (44, 8), "conv4_3": (92, 8), "pool4": (100, 16),
                  "conv5_3": (196, 16), "pool5": (212, 32), "fc6": (404, None)},
        "vgg19": {"conv3_4": (48, 4), "conv4_4": (116, 8), "conv5_4": (252, 16),
                  "pool5": (268, 32), "fc6": (460, None)},
        "resnet50": {"conv5": (427, 32), "pool5": (619, None)},
    }
    # fmt: on
    for backbone, rows in table.items():
        taps = {tap.name: tap for tap in BACKBONES.get(backbone).taps}
        for name, (field, stride) in rows.items():
            assert (taps[name].receptive_field, taps[name].stride) == (field, stride)
    offsets = {tap.name: tap.offset for tap in BACKBONES.get("alexnet").taps}
    assert [offsets[n] for n in ("conv1", "conv2", "conv5", "pool5")] == [3, 7, 15, 31]


def test_there_is_a_card_for_every_classifier_of_torchvision_and_no_other() -> None:
    assert set(models.list_models(module=models)) == set(NETWORKS)
    assert set(NETWORKS) <= set(BACKBONES.names())
    assert len(NETWORKS) == 80


def test_every_published_set_of_weights_has_its_card() -> None:
    cards = [BACKBONES.get(name) for name in NETWORKS]
    ours = {(card.name, w) for card in cards for w in (card.weights.name, *card.others)}
    assert ours == {(_network(member), member.name) for member in PUBLISHED}
    # What is left out: convolutions of VGG-16 without numbers for fc6, fc7 and the classes.
    everything = [m for n in NETWORKS for m in models.get_model_weights(n)]
    assert set(everything) - set(PUBLISHED) == {models.VGG16_Weights.IMAGENET1K_FEATURES}


def _network(member: models.WeightsEnum) -> str:
    return next(n for n in NETWORKS if models.get_model_weights(n) is type(member))


@pytest.mark.parametrize("member", PUBLISHED, ids=str)
def test_published_weights_are_as_torchvision_says(member: models.WeightsEnum) -> None:
    card = BACKBONES.get(_network(member)).with_weights(member.name)
    ours: PublishedWeights = card.weights
    assert (ours.name, ours.url) == (member.name, member.url)
    assert f"-{ours.sha256_prefix}.pth" in member.url
    assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{10}", ours.sha256_prefix)
    assert ours.top1 == member.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert card.classes == len(member.meta["categories"]) == card.taps[-1].shape[0]
    preset, pre = member.transforms(), card.preprocessing
    assert (preset.resize_size, preset.crop_size) == ([pre.resize], [pre.crop])
    assert (tuple(preset.mean), tuple(preset.std)) == (pre.mean, pre.std)
    assert preset.interpolation.value == pre.interpolation
    assert "non-commercial" in ours.licence
    assert ("CC-BY-NC 4.0" in ours.licence) == ("SWAG" in str(member.meta.get("license")))


def test_the_first_weights_are_pinned_and_never_todays_default() -> None:
    for name in NETWORKS:
        card, first = BACKBONES.get(name), next(iter(models.get_model_weights(name)))
        assert card.pinned
        assert not any(other.pinned for other in card.others.values())
        if name in ("regnet_y_128gf", "vit_h_14"):
            assert card.weights.name == "IMAGENET1K_SWAG_LINEAR_V1"
        else:
            assert card.weights.name == first.name == "IMAGENET1K_V1"


def test_another_size_of_input_has_shapes_of_its_own() -> None:
    small = BACKBONES.get("vit_b_16")
    large = small.with_weights("IMAGENET1K_SWAG_E2E_V1")
    assert (small.preprocessing.crop, large.preprocessing.crop) == (224, 384)
    shapes = [{tap.name: tap.shape for tap in card.taps} for card in (small, large)]
    assert [s["tokens"] for s in shapes] == [(197, 768), (577, 768)]
    assert [s["patches"] for s in shapes] == [(768, 14, 14), (768, 24, 24)]
    with torch.device("meta"):
        assert large.build().encoder.pos_embedding.shape == (1, 577, 768)


QUICK = ("regnet_y_16gf", "resnet50", "vit_b_16")
VARIANTS = [
    pytest.param(name, weights, marks=() if name in QUICK else LARGE)
    for name in BACKBONES.names()
    for weights in BACKBONES.get(name).others
]


@pytest.mark.parametrize(("name", "weights"), VARIANTS)
def test_every_variant_gives_the_dimensions_that_its_card_says(name: str, weights: str) -> None:
    card = BACKBONES.get(name).with_weights(weights)
    side = card.preprocessing.crop
    # The skeleton's sizes come of nothing but the network's own code: it knows no card.
    survey = Survey(card.build, side)
    for tap in card.taps:
        found = survey[tap.node]
        shape = found.shape if tap.is_whole else arranged_shape(tap.layout, found.shape)
        assert shape == tap.shape, tap
        assert found.layout == tap.layout or not tap.is_whole
    assert card.taps[-1].shape == (card.classes,)
    assert survey.nbytes == card.nbytes


def test_names_are_the_fields() -> None:
    wanted = {
        "alexnet": "conv1 conv2 conv3 conv4 conv5 pool5 fc6 fc7",
        "vgg11": "conv1_1 conv3_2 conv5_2 conv5 pool5 fc6 fc7",
        "vgg19_bn": "conv1_1 conv3_4 conv5_4 conv5 pool5 fc6 fc7",
        "googlenet": "conv1 inception3a inception4e inception5b pool5",
        "inception_v3": "Conv2d_1a_3x3 Mixed_5b Mixed_6e Mixed_7c",
        "resnext50_32x4d": "conv1 layer1 layer2 layer3 layer4 conv5 pool5",
        "squeezenet1_1": "fire2 fire3 fire4 fire5 fire6 fire7 fire8 fire9 conv10",
        "densenet201": "conv1 block1 transition1 block4 pool5",
        "mobilenet_v2": "conv1 stage1 stage7 conv_last pool",
        "mobilenet_v3_large": "conv1 stage1 stage6 conv_last pool fc",
        "mnasnet1_3": "conv1 stage1 stage7 conv_last pool",
        "shufflenet_v2_x2_0": "conv1 stage2 stage3 stage4 conv5 pool5",
        "efficientnet_b7": "conv1 stage1 stage7 conv_last pool",
        "efficientnet_v2_s": "conv1 stage1 stage6 conv_last pool",
        "convnext_large": "stem stage1 stage4 pool",
        "regnet_y_32gf": "stem stage1 stage4 block4 pool",
        "vit_h_14": "embedding block1 block32 tokens patches cls",
        "swin_v2_b": "stem stage1 stage4 norm pool",
        "maxvit_t": "stem stage1 stage4 pool fc",
    }
    for name, taps in wanted.items():
        assert set(taps.split()) <= set(BACKBONES.get(name).tap_names()), name
    every = [BACKBONES.get(name) for name in BACKBONES.names()]
    assert all(card.taps[-1].name == "logits" for card in every)
    assert all("penultimate" in card.tap_names() for card in every)


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
