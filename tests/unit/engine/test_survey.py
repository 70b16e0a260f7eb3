"""The survey's arithmetic, on networks small enough to do it by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from offshelf.backbones.interface import BACKBONES
from offshelf.engine.survey import Survey


class Odd(nn.Module):
    """Every rule that the published networks do not already show, a node each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=2, dilation=2)
        self.tall = nn.Conv2d(4, 4, (5, 1), padding=(2, 0))
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.gate = nn.Conv2d(4, 4, 1)
        self.norm = nn.LayerNorm(4)
        self.everywhere = nn.GroupNorm(2, 4)
        self.dense = nn.Linear(4 * 8 * 8, 5)
        self.table = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.conv(x)
        tall = self.tall(x)
        pooled = self.pool(x)
        squeezed = x * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()
        turned = self.norm(x.permute(0, 2, 3, 1))
        halves = x.chunk(2, dim=1)
        rows = torch.cat([x, x], 2)
        channels = torch.cat([x, tall], 1)
        mixed = self.everywhere(pooled)
        dense = self.dense(pooled.flatten(1))
        whole = x.mean((2, 3))
        counted = x.argmax(1)
        folded = x.reshape(-1, 4)
        scaled = whole * self.table
        return (
            tall, pooled, squeezed, turned, halves[1], rows, channels, mixed, dense, whole,
            counted, folded, scaled,
        )  # fmt: skip


@pytest.fixture(scope="module")
def survey() -> Survey:
    return Survey(Odd, 32)


@pytest.mark.parametrize(
    ("node", "shape", "stride", "field", "offset"),
    [
        ("x", (3, 32, 32), 1, 1, 0.0),
        ("conv", (4, 16, 16), 2, 5, 0.0),  # 2 * (3 - 1) + 1
        ("tall", (4, 16, 16), 2, 13, 0.0),  # the larger side: 5 + 4 * 2
        ("pool", (4, 8, 8), 4, 9, 2.0),  # 5 + 2 * 2; no padding, so 2 further in
        ("mul", (4, 16, 16), 2, None, None),  # squeeze and excitation: a grid, but all of it seen
        ("getitem", (2, 16, 16), 2, 5, 0.0),
        ("cat", (4, 32, 16), 1, None, None),  # rows of two: no place is one place
        ("cat_1", (8, 16, 16), 2, 13, 0.0),
        ("everywhere", (4, 8, 8), 4, None, None),
        ("dense", (5,), None, 37, 16.0),  # 9 + 7 * 4
        ("mean", (4,), None, 35, 15.0),  # 5 + 15 * 2
        ("mul_1", (4,), None, 35, 15.0),
    ],
)
def test_nodes(
    survey: Survey,
    node: str,
    shape: tuple[int, ...],
    stride: int | None,
    field: int | None,
    offset: float | None,
) -> None:
    found = survey[node]
    assert (found.shape, found.receptive_field, found.offset) == (shape, field, offset)
    if node != "cat":
        assert found.stride == stride
    assert not found.problem


def test_channels_last_are_told_and_turned(survey: Survey) -> None:
    found = survey["norm"]
    assert (found.layout, found.shape) == ("channels_last", (4, 16, 16))
    assert (found.stride, found.receptive_field) == (2, 5)


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ("chunk", "several tensors"),
        ("argmax", "values are int64"),
        ("reshape", "first axis is not that of the images"),
        ("table", "does not depend on the image"),
    ],
)
def test_what_is_no_feature_says_why(survey: Survey, node: str, problem: str) -> None:
    assert problem in survey[node].problem


def test_bytes_are_those_of_the_tensors(survey: Survey) -> None:
    network = Odd()
    assert survey.nbytes == sum(t.nbytes for t in network.state_dict().values())


def test_a_node_that_is_not_there_is_no_node(survey: Survey) -> None:
    with pytest.raises(KeyError):
        survey["conv7"]


class Called(nn.Module):
    """Convolutions whose padding has a name, and such as are called."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(2, 1))
        self.valid = nn.Conv2d(4, 4, 3, padding="valid")
        self.register_buffer("band", torch.ones(4, 4, 3, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.valid(self.same(x))
        called = F.conv2d(torch.square(x), self.band, None, 2, 1)
        made = x.mean((2, 3))[:, :, None, None].reshape(1, -1, 1, 1)
        return called, F.conv2d(called, self.band, padding="same").rsqrt(), x * made.sum()


@pytest.mark.parametrize(
    ("node", "shape", "stride", "field"),
    [
        ("same", (4, 32, 32), 1, 7),  # 2 * 3 + 1 down
        ("valid", (4, 30, 30), 1, 9),
        ("conv2d", (4, 15, 15), 2, 11),
        ("rsqrt", (4, 15, 15), 2, 15),
        ("mul", (4, 30, 30), 1, None),
    ],
)
def test_convolutions_by_call_and_by_padding_of_a_name(
    node: str, shape: tuple[int, ...], stride: int, field: int | None
) -> None:
    found = Survey(Called, 32)[node]
    assert (found.shape, found.stride, found.receptive_field) == (shape, stride, field)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_the_padding_of_same_begins_where_torchs_does() -> None:
    # An even kernel: one pixel before and two behind, so unit 0 has its centre at 0.5.
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 1, 4, padding="same"))

    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    build()(x)[0, 0, 4, 4].backward()
    seen = x.grad[0, 0, 4].nonzero().flatten().tolist()
    assert seen == [3, 4, 5, 6]
    found = Survey(build, 8)["0"]
    assert (found.receptive_field, found.offset) == (4, (seen[0] + seen[-1]) / 2 - 4)


@pytest.mark.parametrize("name", ["caffenet", "caffe_alexnet", "cnn_f"])
def test_caffes_normalisation_leaves_the_field_as_its_layers_say(name: str) -> None:
    card = BACKBONES.get(name)
    survey = Survey(card.build, card.preprocessing.crop)
    for tap in card.taps:
        found = survey[tap.node]
        assert (found.shape, found.stride) == (tap.shape, tap.stride), tap
        assert found.receptive_field == tap.receptive_field, tap
