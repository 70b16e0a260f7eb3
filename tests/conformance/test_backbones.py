"""What every registered backbone must keep to; a new one is picked up by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from offshelf.backbones.interface import BACKBONES
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.errors import InvalidParameter
from offshelf.settings import Settings
from tests.reference.pictures import picture
from tests.reference.plain import TOLERANCE, forward, worst_row_error

if TYPE_CHECKING:
    from offshelf.engine.interface import Features, Pixels, Resident

COUNT = 3


@pytest.fixture(scope="module", params=BACKBONES.names())
def resident(request: pytest.FixtureRequest) -> Resident:
    return TorchEngine(Settings(device="cpu")).load(request.param, "random:0")


@pytest.fixture(scope="module")
def batch(resident: Resident) -> Pixels:
    side = resident.card.preprocessing.crop
    return np.stack([np.asarray(picture(seed, side, side)) for seed in range(COUNT)])


@pytest.fixture(scope="module")
def outputs(resident: Resident) -> list[Output]:
    taps = resident.card.taps
    return [Output(t.name) for t in taps] + [Output(f"{t.name}:pre") for t in taps if t.pre]


@pytest.fixture(scope="module")
def features(resident: Resident, batch: Pixels, outputs: list[Output]) -> dict[Output, Features]:
    return forward(resident, batch, outputs)


def test_every_output_has_the_shape_that_the_card_says(
    resident: Resident, features: dict[Output, Features]
) -> None:
    for output, rows in features.items():
        _, tap, _, _ = resident.card.resolve_tap(output.tap)
        assert rows.shape == (COUNT, *tap.shape), output
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous


def test_every_output_is_finite_and_depends_on_the_image(features: dict[Output, Features]) -> None:
    for output, rows in features.items():
        assert np.isfinite(rows).all(), output
        assert not np.array_equal(rows[0], rows[1]), output


def test_a_batch_equals_its_images_one_by_one_in_order(
    resident: Resident, batch: Pixels, outputs: list[Output], features: dict[Output, Features]
) -> None:
    singles = [forward(resident, batch[i : i + 1], outputs) for i in range(COUNT)]
    for output, rows in features.items():
        alone = np.concatenate([single[output] for single in singles])
        assert worst_row_error(rows, alone) < TOLERANCE, output
    last = outputs[len(resident.card.taps) - 1]
    backwards = forward(resident, batch[::-1], [last])[last]
    assert worst_row_error(backwards[::-1], features[last]) < TOLERANCE


def test_pre_has_negatives_and_its_relu_is_the_tap(features: dict[Output, Features]) -> None:
    before = {output: rows for output, rows in features.items() if output.tap.endswith(":pre")}
    assert before
    for output, rows in before.items():
        after = features[Output(output.tap.removesuffix(":pre"))]
        assert (rows < 0).any(), output
        assert np.array_equal(np.maximum(rows, 0), after), output


def test_a_tap_alone_equals_the_tap_among_all(
    resident: Resident, batch: Pixels, features: dict[Output, Features]
) -> None:
    for name in (resident.card.taps[0].name, resident.card.taps[-2].name):
        alone = forward(resident, batch, [Output(name)])[Output(name)]
        assert worst_row_error(alone, features[Output(name)]) < TOLERANCE


def test_running_leaves_the_network_in_eval_mode_and_its_tensors_alone(
    resident: Resident, batch: Pixels, outputs: list[Output]
) -> None:
    network = resident._traced._root
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    forward(resident, batch[:1], outputs)
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_every_alias_leads_to_a_tap_and_penultimate_is_one(resident: Resident) -> None:
    card = resident.card
    assert "penultimate" in card.aliases
    for alias in card.aliases:
        canonical, tap, pre, _ = card.resolve_tap(alias)
        assert (canonical, pre) == (tap.name, False)


def shape_or_none(resident: Resident, tap: str, side: int) -> tuple[int, ...] | None:
    try:
        return resident.shape_at(tap, side)
    except InvalidParameter:
        return None


def test_dense_inputs_are_taken_at_any_size_or_refused_with_the_reason(
    resident: Resident, batch: Pixels
) -> None:
    tap, known, _, _ = resident.card.resolve_tap("penultimate")
    side = resident.card.preprocessing.crop
    shape = shape_or_none(resident, tap, side + 32)
    if shape is None:
        with pytest.raises(InvalidParameter, match=f"its own {side} pixels alone"):
            resident.shape_at(tap, side + 32)
        return
    assert resident.shape_at(tap, side) in (known.shape, (*known.shape, 1, 1))
    output = Output(tap, "avg")
    wide = np.stack([np.asarray(picture(seed, side + 75, side + 32)) for seed in range(2)])
    inputs = [(wide[:1],), (batch[:1], wide[1:]), (batch[1:2],)]
    rows = resident.forward(inputs, [output])[output]
    assert [row.shape for row in rows] == [shape[:1]] * 3
    plain = forward(resident, batch[:2], [output])[output]
    other = forward(resident, wide, [output])[output]
    want = np.stack([other[0], (plain[0] + other[1]) / 2, plain[1]])
    assert worst_row_error(np.stack(list(rows)), want) < TOLERANCE
