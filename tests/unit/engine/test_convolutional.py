from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its usual name
from torchvision import models

from offshelf.backbones.interface import BACKBONES
from offshelf.engine import convolutional
from offshelf.engine.convolutional import AnySize, linear_everywhere, weightless
from offshelf.engine.graph import Traced
from offshelf.engine.interface import Output, WeightsInfo
from offshelf.engine.torch_engine import TorchEngine
from offshelf.engine.torch_resident import TorchResident
from offshelf.errors import InvalidParameter
from offshelf.settings import Settings
from tests.reference.pictures import picture
from tests.reference.plain import TOLERANCE, forward, worst_row_error


def seeded(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
def test_a_linear_layer_everywhere_is_a_convolution(kernel: tuple[int, int], bias: bool) -> None:
    maps, weight = seeded(0, 2, 4, 6, 7), seeded(1, 5, 4 * kernel[0] * kernel[1])
    offset = seeded(2, 5) if bias else None
    want = F.conv2d(maps, weight.view(5, 4, *kernel), offset)
    for laid_out in (maps, maps.contiguous(memory_format=torch.channels_last)):
        got = linear_everywhere(laid_out, weight, offset, *kernel)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=["alexnet", "embednet", "squeezenet1_0"])
def resident(request: pytest.FixtureRequest) -> TorchResident:
    return TorchEngine(Settings(device="cpu")).load(request.param, "random:0")


def test_at_the_networks_own_size_it_is_the_plain_network(resident: TorchResident) -> None:
    side = resident.card.preprocessing.crop
    inputs = resident._inputs(np.array(picture(0, side, side))[np.newaxis])
    taps = [*resident.card.taps]
    nodes = [resident._node(tap.name) for tap in taps]
    twins = [resident._any_size.twin(node) for node in nodes]
    with torch.inference_mode():
        plain = resident._program(tuple(nodes))(inputs)
        convolutional = resident._program(tuple(twins))(inputs)
    for tap, one, other in zip(taps, plain, convolutional, strict=True):
        assert one.numel() == other.numel()
        assert worst_row_error(other.reshape(one.shape).numpy(), one.numpy()) < TOLERANCE, tap.name


def test_linear_taps_become_maps_that_grow_with_the_input(resident: TorchResident) -> None:
    side = resident.card.preprocessing.crop
    for tap in resident.card.taps:
        own = resident.shape_at(tap.name, side)
        assert own[: len(tap.shape)] in (tap.shape, (*tap.shape, 1, 1))
        larger = resident.shape_at(tap.name, 2 * side)
        assert larger[0] == own[0]
        assert all(after > before for before, after in zip(own[1:], larger[1:], strict=True))


def test_each_place_of_a_map_is_the_network_on_its_part_of_the_image() -> None:
    # Without padding a place sees exactly its own crop; strides of 4 in all.
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 4, stride=4)
            self.pool = nn.AdaptiveAvgPool2d(3)
            self.hidden, self.out = nn.Linear(8 * 9, 10), nn.Linear(10, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.flatten(self.pool(F.relu(self.conv(x))), 1)
            return self.out(F.dropout(F.relu(self.hidden(x)), training=self.training))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Small().eval()
    traced = Traced(network)
    last = traced.node("out")
    twin = AnySize(traced, 12).twin(last)
    images = seeded(0, 2, 3, 20, 16)
    with torch.inference_mode():
        (maps,) = traced.program((twin,))(images)
        assert maps.shape == (2, 4, 3, 2)
        for down in range(3):
            for across in range(2):
                crop = images[:, :, 4 * down : 4 * down + 12, 4 * across : 4 * across + 12]
                assert torch.allclose(maps[:, :, down, across], network(crop), atol=1e-5)


def test_a_dense_vector_is_the_pooled_map(resident: TorchResident) -> None:
    side = resident.card.preprocessing.crop
    image = np.array(picture(1, 2 * side, side + 40))[np.newaxis]
    tap = resident.card.resolve_tap("penultimate")[0]
    whole, average, largest = (Output(tap, pool) for pool in ("none", "avg", "max"))
    got = forward(resident, image, [whole, average, largest])
    assert worst_row_error(got[average], got[whole].mean((2, 3))) < TOLERANCE
    assert worst_row_error(got[largest], got[whole].max((2, 3))) < TOLERANCE


def test_too_small_an_input_is_refused_with_what_would_do(resident: TorchResident) -> None:
    last = resident.card.taps[-1].name
    own = resident.card.preprocessing.crop
    with pytest.raises(InvalidParameter, match=f"short sides are to be {own} or more"):
        resident.shape_at(last, 8)


def test_a_network_of_one_size_cannot_and_says_so() -> None:
    traced = Traced(models.vit_b_16(weights=None))
    network = AnySize(traced, 224)
    with pytest.raises(AssertionError):
        network.shape(traced.node("heads.head"), 256)
    with pytest.raises(AssertionError):  # at its own side, but not for an image that is no square
        network.shape(traced.node("heads.head"), 224)


def test_a_weightless_copy_has_the_shapes_and_leaves_the_network_alone() -> None:
    network = models.squeezenet1_0().eval()
    empty = weightless(network)
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    assert not any(tensor.is_meta for tensor in network.state_dict().values())
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert {name: tensor.shape for name, tensor in empty.state_dict().items()} == shapes
    assert not empty.training


def test_what_follows_a_flattened_map_must_work_on_every_place() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 2, 4, stride=4), nn.LayerNorm(18)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x).flatten(1))

    traced = Traced(Normed())
    with pytest.raises(InvalidParameter, match="norm comes after a flattened map"):
        AnySize(traced, 12).twin(traced.node("norm"))


def test_views_of_the_size_keep_the_batch_apart_from_the_map() -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 2, 4, stride=4), nn.Linear(18, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return self.out(x.view(x.size(0), -1))

    traced = Traced(Viewed())
    network = AnySize(traced, 12)
    assert network.shape(traced.node("out"), 12) == (5, 1, 1)
    assert network.shape(traced.node("out"), 20) == (5, 3, 3)


def centred_network(image: bool) -> TorchResident:
    """CaffeNet's seeded weights, with a mean image or with the mean pixel everywhere."""
    card = BACKBONES.get("caffenet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = card.build().eval()
    if image:
        network.get_buffer("mean_image")[:, :100] += 1 / 255
    return TorchResident(
        card, WeightsInfo("random", "random:0", "0" * 64, "none"), network, torch.device("cpu")
    )


def test_a_mean_that_is_one_pixel_goes_with_every_size() -> None:
    resident = centred_network(image=False)
    assert resident.shape_at("fc7", 227) == (4096, 1, 1)
    assert resident.shape_at("fc7", 256) == (4096, 2, 2)  # 7 x 7 at pool5
    assert resident.shape_at("conv5", 300) == (256, 18, 18)  # 73 from conv1, then 36 and 18
    large = np.array(picture(0, 227 + 64, 227))
    (maps,) = forward(resident, large[np.newaxis], [Output("fc7")]).values()
    assert maps.shape == (1, 4096, 1, 3)  # a step of 32 pixels
    (own,) = forward(resident, large[np.newaxis, :, :227], [Output("fc7")]).values()
    # Its convolutions pad with zeros where the larger image goes on: alike, but not the same.
    assert np.corrcoef(maps[0, :, 0, 0], own[0])[0, 1] > 0.9


def test_a_mean_image_has_one_size_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    resident = centred_network(image=True)
    for side in (200, 227, 256):
        with pytest.raises(InvalidParameter, match=r"all views but dense .*a mean image of 227 x"):
            resident.shape_at("fc7", side)
    assert capfd.readouterr().err == ""
    (plain,) = forward(
        resident, np.array(picture(0, 227, 227))[np.newaxis], [Output("fc7")]
    ).values()
    assert plain.shape == (1, 4096)


def test_a_refusal_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    resident = TorchEngine(Settings(device="cpu")).load("vit_b_32", "random:0")
    with pytest.raises(InvalidParameter, match="all views but dense"):
        resident.shape_at("cls", 256)
    assert capfd.readouterr().err == ""


def test_who_finds_a_shape_does_not_hold_up_who_asks_for_a_twin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced = Traced(models.squeezenet1_1(weights=None))
    network, node = AnySize(traced, 224), traced.node("features")
    begun, go_on = threading.Event(), threading.Event()

    def slow(program: object, high: int, wide: int) -> tuple[int, ...]:
        begun.set()
        assert go_on.wait(60)
        return (1, high, wide)

    monkeypatch.setattr(convolutional, "_shape", slow)
    with ThreadPoolExecutor(2) as pool:
        try:
            asked = pool.submit(network.shape, node, 256)
            assert begun.wait(60)
            assert pool.submit(network.twin, node).result(timeout=60).op == "call_function"
            assert not asked.done()
        finally:
            go_on.set()
        assert asked.result(timeout=60) == (1, 256, 256)
