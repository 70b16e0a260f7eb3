"""Caffe's files, written by hand on the wire, are read in all their generations."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offshelf.backbones.caffemodel import MAX_BYTES, read_caffemodel, read_mean_image
from offshelf.errors import WeightsMissing
from tests.reference import wire

if TYPE_CHECKING:
    from pathlib import Path

GENERATIONS = ("V0", "V1", "new")
PACKINGS = ("packed", "chunks", "unpacked", "double", "unpacked double")


def made(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def small_net() -> dict[str, np.ndarray]:
    return {
        "conv1.weight": made((4, 3, 2, 2), 1), "conv1.bias": made((4,), 2),
        "fc-rcnn.weight": made((5, 7), 3), "fc-rcnn.bias": made((5,), 4),
    }  # fmt: skip


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caffe")


def check(found: dict[str, torch.Tensor], state: dict[str, np.ndarray]) -> None:
    assert list(found) == list(state)
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32
        assert tensor.shape == state[name].shape, name
        assert np.array_equal(tensor.numpy(), state[name]), name


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("shape", ["legacy", "new"])
def test_every_generation_gives_the_tensors_that_went_in(
    folder: Path, generation: wire.Generation, packing: wire.Packing, shape: wire.Shape
) -> None:
    state = small_net()
    file = written(folder / "net.caffemodel", wire.net(state, generation, packing, shape))
    check(read_caffemodel(file), state)


sides = st.integers(1, 4)


@given(
    filters=st.tuples(sides, sides, sides, sides),
    matrix=st.tuples(sides, sides),
    generation=st.sampled_from(GENERATIONS),
    packing=st.sampled_from(PACKINGS),
    shape=st.sampled_from(["legacy", "new"]),
)
def test_any_shapes_survive_with_ones_in_them(
    folder: Path,
    filters: tuple[int, ...],
    matrix: tuple[int, ...],
    generation: wire.Generation,
    packing: wire.Packing,
    shape: wire.Shape,
) -> None:
    state = {
        "a.weight": made(filters), "a.bias": made(filters[:1]),
        "b.weight": made(matrix), "b.bias": made(matrix[:1]),
    }  # fmt: skip
    file = written(folder / "any.caffemodel", wire.net(state, generation, packing, shape))
    check(read_caffemodel(file), state)


def test_the_tensors_are_ones_own_to_write_on(folder: Path) -> None:
    file = written(folder / "own.caffemodel", wire.net(small_net()))
    bias = read_caffemodel(file)["conv1.bias"]
    bias += 1
    assert np.array_equal(bias.numpy(), small_net()["conv1.bias"] + 1)


def test_more_blobs_than_two_go_by_their_number(folder: Path) -> None:
    blobs = [wire.blob(made((3,), seed)) for seed in range(3)]
    file = written(folder / "bn.caffemodel", wire.layer("bn", blobs, "new"))
    found = read_caffemodel(file)
    assert list(found) == ["bn.weight", "bn.bias", "bn.2"]
    assert np.array_equal(found["bn.2"].numpy(), made((3,), 2))


def test_a_file_that_is_cut_anywhere_is_refused_or_lacks_whole_tensors(folder: Path) -> None:
    state = small_net()
    whole = wire.net(state, "new")
    refused = 0
    for length in range(len(whole)):
        file = written(folder / "cut.caffemodel", whole[:length])
        try:
            found = read_caffemodel(file)
        except WeightsMissing:
            refused += 1
            continue
        assert set(found) < set(state)
        check(found, {name: state[name] for name in found})
    assert refused > len(whole) - 5  # all but the ends of layers


@given(st.data())
def test_a_damaged_file_gives_tensors_or_the_one_error(folder: Path, data: st.DataObject) -> None:
    whole = bytearray(wire.net(small_net(), data.draw(st.sampled_from(GENERATIONS))))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    file = written(folder / "damaged.caffemodel", bytes(whole))
    with contextlib.suppress(WeightsMissing):
        assert all(tensor.dtype == torch.float32 for tensor in read_caffemodel(file).values())


FIVE = made((5,))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no layer with weights"),
        (wire.layer("relu", []), "no layer with weights"),
        (b"\x89HDF\r\n\x1a\n and so on", "HDF5"),
        (b'name: "AlexNet"\nlayer { name: "conv1" }', "cannot be parsed"),
        (b"\xff" * 40, "cannot be parsed"),
        (
            wire.layer("fc", [wire.integer(1, 2) + wire.integer(4, 3)]),
            r"fc\.weight has the shape \(2, 0, 0, 3\)",
        ),
        (
            wire.layer("fc", [wire.delimited(7, wire.delimited(1, wire.varint(-6)))]),
            r"fc\.weight has the shape \(-6,\)",
        ),
        (
            wire.layer("fc", [wire.delimited(7, wire.delimited(1, wire.varint(6)))
                              + wire.numbers(FIVE, "packed")]),
            r"fc\.weight has 5 numbers, not 6",
        ),
        (
            wire.layer("fc", [wire.delimited(7, wire.delimited(1, wire.varint(1 << 60)))
                              + wire.numbers(FIVE, "packed")]),
            "has 5 numbers, not 1152921504606846976",
        ),
        (
            wire.layer("fc", [wire.integer(1, 5) + wire.integer(2, 1) + wire.integer(3, 1)
                              + wire.integer(4, 1) + wire.delimited(5, b"seven b")]),
            "its numbers are cut off",
        ),
        (wire.layer("fc", [wire.blob(FIVE)]) * 2, "two layers named 'fc'"),
        (
            wire.delimited(100, wire.delimited(1, b"\xff") + wire.delimited(7, wire.blob(FIVE))),
            "a layer's name is",
        ),
    ],
)  # fmt: skip
def test_what_is_no_net_is_refused_and_told_why(folder: Path, content: bytes, why: str) -> None:
    file = written(folder / "wrong.caffemodel", content)
    with pytest.raises(WeightsMissing, match=why) as told:
        read_caffemodel(file)
    assert str(file) in str(told.value)


def test_a_file_beyond_what_a_message_may_have_is_not_read(folder: Path) -> None:
    file = written(folder / "huge.caffemodel", b"")
    os.truncate(file, MAX_BYTES + 1)  # a hole: it takes no room
    with pytest.raises(WeightsMissing, match="at most 2147483647"):
        read_caffemodel(file)


@pytest.mark.parametrize("shape", ["legacy", "new"])
def test_a_mean_image_is_channels_height_and_width(folder: Path, shape: wire.Shape) -> None:
    image = made((3, 5, 6))
    file = written(folder / "mean.binaryproto", wire.blob(image[np.newaxis], shape=shape))
    assert np.array_equal(read_mean_image(file).numpy(), image)


@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (5, 6)])
def test_another_blob_is_no_mean_image(folder: Path, shape: tuple[int, ...]) -> None:
    file = written(folder / "mean.binaryproto", wire.blob(made(shape), shape="new"))
    with pytest.raises(WeightsMissing, match="no mean image"):
        read_mean_image(file)


def test_a_large_file_takes_a_bounded_multiple_of_its_size(folder: Path) -> None:
    state = {
        "fc6.weight": made((4096, 2304)), "fc6.bias": made((4096,)),
        "fc7.weight": made((4096, 1536)), "fc7.bias": made((4096,)),
    }  # fmt: skip
    file = written(folder / "large.caffemodel", wire.net(state))
    script = (
        "import sys, resource, torch\n"
        "from pathlib import Path\n"
        "from offshelf.backbones.caffemodel import read_caffemodel, _classes\n"
        "_classes()\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = used(); kept = read_caffemodel(Path(sys.argv[1])); print(used() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 3.5 * file.stat().st_size
    file.unlink()
