"""The papers' networks: their layers, the arithmetic on them, and how weights are brought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from offshelf.backbones import caffe, chatfield, overfeat
from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.layers import Conv, Full, Norm, Pool, Row
from offshelf.backbones.networks.row import ResponseNorm, RowNetwork
from offshelf.backbones.papers import caffe_card, centred, plain_card
from offshelf.backbones.weights import load
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.errors import WeightsMissing
from offshelf.settings import Settings
from tests.reference import wire
from tests.reference.pictures import picture
from tests.reference.plain import TOLERANCE, forward, worst_row_error

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.backbones.interface import Card

ROWS = {
    "caffe_alexnet": caffe.ALEXNET,
    "caffenet": caffe.CAFFENET,
    **chatfield.ROWS,
    "overfeat_fast": overfeat.FAST,
    "overfeat_accurate": overfeat.ACCURATE,
}


def norm(values: list[float], layer: Norm) -> list[float]:
    column = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
    with torch.inference_mode():
        out: list[float] = ResponseNorm(len(values), layer)(column).flatten().tolist()
    return out


def test_lrn_of_numbers_worked_by_hand() -> None:
    # alpha of 5 over 5 channels: each square counts once. 1 + (9+4+1+1+0) = 16, and 16^3/4 = 8.
    found = norm([3, 2, 1, 1, 0, 100], Norm(alpha=5.0))
    assert found[2] == pytest.approx(1 / 8, rel=1e-6)
    # 2 + (9+4+1) = 16 in every window that has a value, cut off at the edge or not.
    assert norm([3, 2, 1, 0, 0], Norm(k=2.0, alpha=5.0)) == pytest.approx(
        [3 / 8, 2 / 8, 1 / 8, 0, 0]
    )
    # alpha of 10 counts twice: 1 + 2 * (36+4) = 81, and 81^3/4 = 27.
    assert norm([6, 2, 0], Norm(alpha=10.0)) == pytest.approx([6 / 27, 2 / 27, 0])
    # A neighbour three channels away does not count: 1 + 15 = 16 for the first alone.
    assert norm([15**0.5, 0, 0, 7], Norm(alpha=5.0))[0] == pytest.approx(15**0.5 / 8)


@given(
    st.lists(st.floats(-500, 500, width=32), min_size=1, max_size=12),
    st.sampled_from([Norm(), Norm(k=2.0, alpha=5e-4), Norm(size=3)]),
)
def test_lrn_is_torchs_own(values: list[float], layer: Norm) -> None:
    theirs = nn.LocalResponseNorm(layer.size, layer.alpha, 0.75, layer.k)
    want = theirs(torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)).flatten().tolist()
    assert norm(values, layer) == pytest.approx(want, rel=1e-5, abs=1e-30)


def pooled(pool: Pool, side: int) -> torch.Tensor:
    """The pool of 0, 1, 2, ... from left to right, in every row."""
    network = RowNetwork(Row(side, {"pool": pool, "fc": Full(1)}))
    row = torch.arange(float(side)).expand(1, 3, side, side)
    out: torch.Tensor = network.get_submodule("pool")(row)
    return out[0, 0, 0]


def test_pools_round_up_as_worked_by_hand() -> None:
    # Windows 012, 234, and 45 which is cut off; of five pixels the last window is whole.
    assert pooled(Pool(3, 2), 6).tolist() == [2, 4, 5]
    assert pooled(Pool(3, 2), 5).tolist() == [2, 4]
    # Caffe's rule: a window must start inside the image. 01, 23, 4; and none for the pixel after.
    assert pooled(Pool(2, 2), 5).tolist() == [1, 3, 4]
    assert pooled(Pool(3, 3), 7).tolist() == [2, 5, 6]
    # VGG_CNN_S: 109 pixels in threes are 37 windows, and 17 are 6.
    assert (Pool(3, 3).side(109), Pool(3, 3).side(17), Pool(2, 2).side(33)) == (37, 6, 17)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(5, 40))
def test_a_pools_side_is_the_networks(kernel: int, stride: int, side: int) -> None:
    pool = Pool(kernel, min(stride, kernel))
    assert len(pooled(pool, side)) == pool.side(side)


@pytest.mark.parametrize("name", ["caffe_alexnet", "caffenet"])
def test_the_known_table_of_alexnets_fields_strides_and_centres(name: str) -> None:
    taps = {tap.name: tap for tap in BACKBONES.get(name).taps}
    table = {
        "conv1": (11, 4, 5), "pool1": (19, 8, 9), "conv2": (51, 8, 9), "pool2": (67, 16, 17),
        "conv3": (99, 16, 17), "conv4": (131, 16, 17), "conv5": (163, 16, 17),
        "pool5": (195, 32, 33),
    }  # fmt: skip
    for tap, (field, stride, centre) in table.items():
        known = taps[tap]
        assert (known.receptive_field, known.stride, known.offset) == (field, stride, centre), tap
    for tap in ("fc6", "fc7", "logits"):
        known = taps[tap]
        assert (known.receptive_field, known.stride, known.offset) == (355, None, 113)


def test_each_of_the_two_normalises_where_its_prototxt_does() -> None:
    names = {name: [tap.name for tap in BACKBONES.get(name).taps] for name in ROWS}
    assert names["caffe_alexnet"][:6] == ["conv1", "norm1", "pool1", "conv2", "norm2", "pool2"]
    assert names["caffenet"][:6] == ["conv1", "pool1", "norm1", "conv2", "pool2", "norm2"]
    assert "norm2" not in names["cnn_s"]


# Parameters as the layer tables of the papers and prototxts add up, without offshelf's rows.
PARAMETERS = {
    "caffe_alexnet": 60_965_224,
    "caffenet": 60_965_224,
    "decaf": 60_965_224,
    "rcnn_ilsvrc13": 60_965_224 - 800 * 4097,
    "rcnn_voc": 60_965_224 - 979 * 4097,
    "overfeat_fast": 145_920_872,
    "overfeat_accurate": 144_656_488,
}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_the_number_of_parameters_is_the_known_one(name: str) -> None:
    with torch.device("meta"):
        network = BACKBONES.get(name).build()
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


def test_the_names_of_the_weights_are_the_prototxts() -> None:
    layers = [*(f"conv{place}" for place in range(1, 6)), "fc6", "fc7"]
    for name, scores in {
        "caffe_alexnet": "fc8", "caffenet": "fc8", "rcnn_ilsvrc13": "fc-rcnn",
        "rcnn_voc": "fc8_pascal", "cnn_f": "fc8",
    }.items():  # fmt: skip
        card = BACKBONES.get(name)
        with torch.device("meta"):
            names = set(card.build().state_dict())
        wanted = {f"{n}.{part}" for n in [*layers, scores] for part in ("weight", "bias")}
        assert names == wanted | {"mean_image"}
        assert card.resolve_tap(scores)[0] == "logits"
        assert card.resolve_tap("penultimate")[0] == "fc7"


def test_the_papers_own_names_of_decafs_layers() -> None:
    card = BACKBONES.get("decaf")
    assert card.resolve_tap("decaf6:pre")[0] == "fc6:pre"
    assert [card.resolve_tap(f"decaf{n}")[0] for n in (5, 6, 7)] == ["pool5", "fc6", "fc7"]


TINY = Row(
    16, {"conv1": Conv(4, 3), "norm1": Norm(), "pool1": Pool(), "fc6": Full(8), "fc8": Full(5)}
)
MEAN = (120.0, 110.0, 100.0)  # R, G, B


@dataclass
class One:
    """A catalogue of one card."""

    card: Card

    def get(self, name: str) -> Card:
        assert name == self.card.name
        return self.card


def tiny(**options: object) -> Card:
    return caffe_card("tiny", TINY, "none", MEAN, **options)  # type: ignore[arg-type]


def tiny_state() -> dict[str, np.ndarray]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = tiny().build().state_dict()
    return {name: tensor.numpy() for name, tensor in state.items() if name != "mean_image"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(weights_dir=tmp_path, device="cpu")


IMAGE = np.random.default_rng(3).uniform(60, 180, (3, 20, 24)).astype(np.float32)
CROPPED = IMAGE[:, 2:18, 4:20]


def conv1(card: Card, settings: Settings, pixels: np.ndarray) -> np.ndarray:
    """What the card's first convolution gives, before its ReLU, with the weights that are there."""
    resident = TorchEngine(settings, One(card)).load("tiny", None)  # type: ignore[arg-type]
    return forward(resident, pixels, [Output("conv1:pre")])[Output("conv1:pre")]


def direct(planes: np.ndarray) -> np.ndarray:
    """The same of inputs (N, 3, 16, 16) as the network gets them, straight from the weights."""
    state = {name: torch.from_numpy(array) for name, array in tiny_state().items()}
    inputs = torch.from_numpy(planes.astype(np.float32))
    return nn.functional.conv2d(inputs, state["conv1.weight"], state["conv1.bias"]).numpy()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.stack([np.asarray(picture(seed, 16, 16)) for seed in range(2)])


def planes(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2).astype(np.float64)


def test_the_mean_pixel_is_subtracted_where_nobody_brought_an_image(
    settings: Settings, pixels: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "tiny.caffemodel").write_bytes(wire.net(tiny_state()))
    want = direct(planes(pixels)[:, ::-1] - np.array(MEAN)[::-1].reshape(3, 1, 1))
    assert worst_row_error(conv1(tiny(), settings, pixels), want) < TOLERANCE


def test_a_mean_image_beside_the_file_or_in_it_is_subtracted_and_counts_in_the_digest(
    settings: Settings, pixels: np.ndarray, tmp_path: Path
) -> None:
    state, file = tiny_state(), tmp_path / "tiny.caffemodel"
    file.write_bytes(wire.net(state))
    digests = [load(tiny(), None, settings).digest]
    (tmp_path / "tiny.binaryproto").write_bytes(wire.blob(IMAGE[np.newaxis]))
    digests.append(load(tiny(), None, settings).digest)
    want = direct(planes(pixels)[:, ::-1] - CROPPED)
    assert worst_row_error(conv1(tiny(), settings, pixels), want) < TOLERANCE
    file.unlink()
    np.savez(tmp_path / "tiny.npz", **state, mean_image=IMAGE)
    digests.append(load(tiny(), None, settings).digest)
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    cropped = torch.from_numpy(CROPPED.copy())
    save_file({**tensors, "mean_image": cropped}, tmp_path / "tiny.safetensors")
    digests.append(load(tiny(), None, settings).digest)
    assert digests[0] != digests[1] == digests[2] == digests[3]


def test_a_network_of_the_other_way_up_gets_image_and_mean_as_it_learnt_them(
    settings: Settings, pixels: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "tiny.npz", **tiny_state(), mean_image=IMAGE)
    card = tiny(channels="rgb", flip=True)
    want = direct(planes(pixels)[:, :, ::-1] - CROPPED)
    assert worst_row_error(conv1(card, settings, pixels), want) < TOLERANCE


def test_a_network_without_a_mean_image_divides_by_its_deviation(
    settings: Settings, pixels: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "tiny.npz", **tiny_state())
    card = plain_card("tiny", TINY, "none", 118.0, 61.0)
    want = direct((planes(pixels) - 118) / 61)
    assert worst_row_error(conv1(card, settings, pixels), want) < TOLERANCE


def test_brought_files_are_refused_with_reasons(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"tiny\.safetensors or tiny\.caffemodel or tiny\.npz"):
        load(tiny(), None, settings)
    file = tmp_path / "tiny.caffemodel"
    other = {name.replace("fc8", "fc8_flickr"): array for name, array in tiny_state().items()}
    file.write_bytes(wire.net(other))
    with pytest.raises(WeightsMissing, match=r"missing: fc8\.bias.*unexpected: fc8_flickr\.bias"):
        load(tiny(), None, settings)
    file.write_bytes(wire.net(tiny_state())[:-3])
    with pytest.raises(WeightsMissing, match=r"tiny\.caffemodel is damaged, cut off"):
        load(tiny(), None, settings)
    file.unlink()
    np.savez(tmp_path / "tiny.npz", weight=np.array([{}], dtype=object))
    with pytest.raises(WeightsMissing, match=r"tiny\.npz cannot be read.*allow_pickle"):
        load(tiny(), None, settings)


@pytest.mark.parametrize("shape", [(3, 15, 16), (16, 16), (1, 16, 16), (16, 16, 3)])
def test_a_mean_image_that_cannot_be_cropped_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WeightsMissing, match=r"should be \(3, height, width\) of at least 16 x 16"):
        centred(torch.zeros(shape), 16)
