"""Taps beyond the card: any node of the graph by its name, laid out and pooled as it is."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from offshelf.backbones.interface import BACKBONES
from offshelf.core.view import View
from offshelf.engine import torch_resident
from offshelf.engine.interface import Output
from offshelf.engine.place import Place
from offshelf.engine.survey import Survey
from offshelf.engine.torch_engine import TorchEngine
from offshelf.errors import InvalidParameter, UnknownName
from offshelf.settings import Settings
from tests.reference.networks import seeded
from tests.reference.pictures import picture
from tests.reference.plain import TOLERANCE, forward, worst_row_error

if TYPE_CHECKING:
    from offshelf.backbones.interface import Build
    from offshelf.engine.interface import Pixels
    from offshelf.engine.torch_resident import TorchResident


def pixels(resident: TorchResident) -> Pixels:
    side = resident.card.preprocessing.crop
    return np.stack([np.asarray(picture(seed, side, side)) for seed in range(2)])


@pytest.fixture(scope="module")
def resnet() -> TorchResident:
    return TorchEngine(Settings(device="cpu")).load("resnet18", "random:0")


@pytest.fixture(scope="module")
def swin() -> TorchResident:
    return TorchEngine(Settings(device="cpu")).load("swin_t", "random:0")


@pytest.fixture(scope="module")
def vit() -> TorchResident:
    return TorchEngine(Settings(device="cpu")).load("vit_b_32", "random:0")


def extracted(name: str, nodes: list[str], inputs: torch.Tensor) -> dict[str, np.ndarray]:
    """What torchvision's own extractor takes from the network of the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = getattr(models, name)(weights=None).eval()
    with torch.inference_mode():
        found = create_feature_extractor(network, return_nodes=nodes)(inputs)
    return {node: values.numpy() for node, values in found.items()}


def test_any_node_equals_torchvisions_own_extractor(resnet: TorchResident) -> None:
    # Of modules too: they stand for the last node in them. `relu_1` is in place in torchvision,
    # so that its extractor must not be asked for what comes before it.
    nodes = ["layer3.1.relu_1", "layer2.0.downsample.1", "layer2.1.bn2", "avgpool", "layer3.0"]
    batch = pixels(resnet)
    outputs = {node: Output(resnet.resolve_tap(node)[0]) for node in nodes}
    found = forward(resnet, batch, list(outputs.values()))
    wanted = extracted("resnet18", nodes, resnet._inputs(batch))
    for node, output in outputs.items():
        assert worst_row_error(found[output], wanted[node]) < TOLERANCE, node
        assert found[output].shape[1:] == resnet.resolve_tap(node)[1].shape


def test_a_node_has_its_geometry_and_its_pre(resnet: TorchResident) -> None:
    name, tap, pre, pool = resnet.resolve_tap("layer3.0.relu:pre")
    assert (name, pre, pool) == ("layer3.0.relu:pre", True, "none")
    assert (tap.shape, tap.stride, tap.receptive_field) == ((256, 14, 14), 16, 115)
    before, after = forward(resnet, pixels(resnet), [Output(name), Output(tap.name)]).values()
    assert (before < 0).any()
    assert np.array_equal(np.maximum(before, 0), after)


def test_a_node_that_is_a_tap_has_the_taps_name_and_so_its_fingerprint(
    resnet: TorchResident,
) -> None:
    for name in ("layer4.1.relu_1", "layer4.1", "layer4", "conv5"):
        assert resnet.resolve_tap(name)[0] == "conv5"
    assert resnet.resolve_tap("layer4.1.relu_1:pre")[0] == "conv5:pre"


def test_what_is_not_there_is_told_with_what_is_like_it(resnet: TorchResident) -> None:
    with pytest.raises(UnknownName, match=r"did you mean .*layer3\.1\.relu_1"):
        resnet.resolve_tap("layer3.1.relu_2")
    with pytest.raises(UnknownName, match="did you mean pool5"):
        resnet.resolve_tap("pool6")
    with pytest.raises(UnknownName, match="there are: conv1, pool1") as told:
        resnet.resolve_tap("zzz")
    assert "relu" not in str(told.value)  # not the whole graph
    with pytest.raises(InvalidParameter, match="the only suffix is ':pre'"):
        resnet.resolve_tap("layer3.0.relu:post")
    with pytest.raises(InvalidParameter, match=r"'layer3\.0\.bn1' .* not an activation"):
        resnet.resolve_tap("layer3.0.bn1:pre")


def test_what_is_no_feature_of_an_image_is_refused_and_told(vit: TorchResident) -> None:
    block = "encoder.layers.encoder_layer_0"
    for node, problem in (
        (f"{block}.self_attention", "several tensors"),
        (f"{block}.eq", "no tensor"),
        ("class_token", "does not depend on the image"),
    ):
        with pytest.raises(InvalidParameter, match=f"gives no feature of an image: .*{problem}"):
            vit.resolve_tap(node)


def test_channels_last_maps_are_handed_out_as_maps(swin: TorchResident) -> None:
    batch = pixels(swin)
    wanted = extracted("swin_t", ["features.3"], swin._inputs(batch))["features.3"]
    assert wanted.shape == (2, 28, 28, 192)
    outputs = [Output("stage2"), Output("stage2", "avg"), Output("stage2", "grid:2")]
    maps, means, cells = forward(swin, batch, outputs).values()
    assert worst_row_error(maps, wanted.transpose(0, 3, 1, 2)) < TOLERANCE
    assert worst_row_error(means, wanted.mean((1, 2))) < TOLERANCE
    quarters = wanted.reshape(2, 2, 14, 2, 14, 192).max((2, 4)).transpose(0, 3, 1, 2)
    assert worst_row_error(cells, quarters.reshape(2, -1)) < TOLERANCE
    # The same for a node that the card does not name.
    _, tap, _, _ = swin.resolve_tap("features.3.0.mlp.1")
    assert (tap.shape, tap.layout, tap.stride, tap.pre) == ((768, 28, 28), "channels_last", 8, True)


def test_tokens_are_pooled_over_tokens_with_the_class_token(vit: TorchResident) -> None:
    batch = pixels(vit)
    node = "encoder.ln"
    wanted = extracted("vit_b_32", [node], vit._inputs(batch))[node]
    outputs = [
        Output("tokens"), Output("tokens", "avg"), Output("tokens", "max"), Output("cls"),
        Output("patches"), Output("patches", "avg"), Output("patches", "grid:7"),
    ]  # fmt: skip
    found = forward(vit, batch, outputs)
    patches = wanted[:, 1:].transpose(0, 2, 1)
    truth = [
        wanted, wanted.mean(1), wanted.max(1), wanted[:, 0],
        patches.reshape(2, 768, 7, 7), patches.mean(2), patches.reshape(2, -1),
    ]  # fmt: skip
    for output, rows in zip(outputs, truth, strict=True):
        assert worst_row_error(found[output], rows) < TOLERANCE, output


def test_pooling_that_makes_no_sense_is_refused(vit: TorchResident) -> None:
    def place(tap: str) -> Place:
        return Place.of(vit, tap, View.parse("center"))

    def values(tap: str, pool: str) -> int:
        return place(tap).values(Output(tap, place(tap).pooling(pool)), inputs=1)

    with pytest.raises(InvalidParameter, match="needs a map, and tap 'block3' is 50 tokens"):
        place("block3").pooling("grid:2")
    assert place("cls").pooling("grid:2") == "none"  # pooling is not for vectors
    assert values("block3", "avg") == 768
    assert values("block3", "none") == 50 * 768
    assert values("patches", "grid:2") == 4 * 768


def test_what_is_neither_map_nor_tokens_is_handed_out_but_not_pooled() -> None:
    resident = seeded(BACKBONES.get("maxvit_t"))
    node = "blocks.3.layers.1.layers.window_attention.partition_op.reshape_1"
    name, tap, _, _ = resident.resolve_tap(node)
    assert (name, tap.kind, tap.shape) == (node, "other", (1, 49, 512))
    (rows,) = forward(resident, pixels(resident)[:1], [Output(node)]).values()
    assert rows.shape == (1, 1, 49, 512)
    with pytest.raises(InvalidParameter, match="neither a map nor tokens"):
        Place.of(resident, node, View.parse("center")).pooling("avg")


@pytest.mark.parametrize(
    ("backbone", "node", "what"),
    [
        ("shufflenet_v2_x0_5", "stage2.0.view", r"of shape \(2, 24, 28, 28\)"),
        ("vit_b_32", "block3", "50 tokens"),
    ],
)
def test_what_a_dense_view_cannot_give_is_refused_with_what_would_do(
    backbone: str, node: str, what: str
) -> None:
    resident = TorchEngine(Settings(device="cpu")).load(backbone, "random:0")
    with pytest.raises(InvalidParameter, match=f"{what}.* under a dense view: take a tap that"):
        Place.of(resident, node, View.parse("dense:256,300"))
    assert Place.of(resident, node, View.parse("center")).kind in ("other", "tokens")


def test_a_survey_does_not_hold_up_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = TorchEngine(Settings(device="cpu")).load("squeezenet1_1", "random:0")
    begun, go_on = threading.Event(), threading.Event()

    def slow(build: Build, side: int) -> Survey:
        begun.set()
        assert go_on.wait(60)
        return Survey(build, side)

    monkeypatch.setattr(torch_resident, "Survey", slow)
    with ThreadPoolExecutor(2) as pool:
        try:
            asked = pool.submit(resident.resolve_tap, "features.3.squeeze")
            assert begun.wait(60)
            run = pool.submit(forward, resident, pixels(resident), [Output("fire9", "avg")])
            assert len(run.result(timeout=60)) == 1
            assert not asked.done()
        finally:
            go_on.set()
        assert asked.result(timeout=60)[1].shape == (16, 55, 55)
