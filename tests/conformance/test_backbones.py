"""What every registered backbone must keep to; a new one is picked up by itself."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from offshelf.backbones.interface import BACKBONES
from offshelf.engine.interface import Output
from offshelf.errors import InvalidParameter
from tests.reference.fields import box_of_card, measured_box
from tests.reference.networks import seeded, tiered
from tests.reference.pictures import picture
from tests.reference.plain import TOLERANCE, forward, worst_row_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf.backbones.interface import Tap
    from offshelf.engine.interface import Features, Pixels
    from offshelf.engine.torch_resident import TorchResident

COUNT = 3
# Of a feature's norm, how far those of two images are apart at least.
TELLING = 1e-2


@pytest.fixture(scope="module", params=tiered(BACKBONES.names()))
def resident(request: pytest.FixtureRequest) -> Iterator[TorchResident]:
    yield seeded(BACKBONES.get(request.param))
    gc.collect()  # the graph and its modules are a cycle, and the largest take gigabytes


@pytest.fixture(scope="module")
def batch(resident: TorchResident) -> Pixels:
    side = resident.card.preprocessing.crop
    return np.stack([np.asarray(picture(seed, side, side)) for seed in range(COUNT)])


@pytest.fixture(scope="module")
def outputs(resident: TorchResident) -> list[Output]:
    taps = resident.card.taps
    return [Output(t.name) for t in taps] + [Output(f"{t.name}:pre") for t in taps if t.pre]


@pytest.fixture(scope="module")
def features(
    resident: TorchResident, batch: Pixels, outputs: list[Output]
) -> dict[Output, Features]:
    return forward(resident, batch, outputs)


def test_every_output_has_the_shape_that_the_card_says(
    resident: TorchResident, features: dict[Output, Features]
) -> None:
    for output, rows in features.items():
        _, tap, _, _ = resident.card.resolve_tap(output.tap)
        assert rows.shape == (COUNT, *tap.shape), output
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous


def test_every_output_is_finite_and_depends_on_the_image(features: dict[Output, Features]) -> None:
    for output, rows in features.items():
        assert np.isfinite(rows).all(), output
        apart = np.linalg.norm((rows[0] - rows[1]).astype(float))
        assert apart > TELLING * np.linalg.norm(rows[0].astype(float)), output


def test_a_batch_equals_its_images_one_by_one_in_order(
    resident: TorchResident, batch: Pixels, outputs: list[Output], features: dict[Output, Features]
) -> None:
    singles = [forward(resident, batch[i : i + 1], outputs) for i in range(COUNT)]
    for output, rows in features.items():
        alone = np.concatenate([single[output] for single in singles])
        assert worst_row_error(rows, alone) < TOLERANCE, output
    last = outputs[len(resident.card.taps) - 1]
    backwards = forward(resident, batch[::-1], [last])[last]
    assert worst_row_error(backwards[::-1], features[last]) < TOLERANCE


def test_pre_has_negatives_and_its_activation_is_the_tap(
    resident: TorchResident, features: dict[Output, Features]
) -> None:
    taps = {tap.name: tap for tap in resident.card.taps}
    for output, rows in features.items():
        if not output.tap.endswith(":pre"):
            continue
        name = output.tap.removesuffix(":pre")
        assert (rows < 0).any(), output
        activated = ACTIVATIONS[activation(resident, taps[name])](torch.from_numpy(rows)).numpy()
        assert np.allclose(activated, features[Output(name)], rtol=1e-6, atol=1e-6), output


def activation(resident: TorchResident, tap: Tap) -> str:
    """What a tap's node calls: `relu`, `hardswish`, ..."""
    node, root = resident._traced.node(tap.node), resident._traced.root
    called = root.get_submodule(str(node.target)) if node.op == "call_module" else node.target
    return (type(called) if isinstance(called, torch.nn.Module) else called).__name__.lower()


# By their formulas.
ACTIVATIONS = {
    "relu": lambda x: x.clamp(min=0),
    "relu6": lambda x: x.clamp(0, 6),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "hardswish": lambda x: x * (x + 3).clamp(0, 6) / 6,
    "tanh": lambda x: 1 - 2 / (torch.exp(2 * x) + 1),
}


def test_the_receptive_field_is_the_cards_by_gradients(resident: TorchResident) -> None:
    card = resident.card
    last = card.preprocessing.crop - 1
    for tap in card.taps:
        if tap.receptive_field is None or tap.kind == "tokens" or tap.offset is None:
            continue
        wanted = box_of_card(card, tap)
        if wanted == (0, 0, last, last):  # then a gradient shows nothing
            continue
        # Where it reaches the border it may see less: pools leave rows over that fill no window.
        for found, edge in zip(measured_box(card, tap), wanted, strict=True):
            low, high = (edge, edge) if 0 < edge < last else (0, last)
            assert low <= found <= high, tap


def test_the_card_knows_what_the_tensors_take(resident: TorchResident) -> None:
    if resident.card.nbytes is not None:
        assert resident.card.nbytes == resident.nbytes


def test_a_tap_alone_equals_the_tap_among_all(
    resident: TorchResident, batch: Pixels, features: dict[Output, Features]
) -> None:
    for name in (resident.card.taps[0].name, resident.card.taps[-2].name):
        alone = forward(resident, batch, [Output(name)])[Output(name)]
        assert worst_row_error(alone, features[Output(name)]) < TOLERANCE


def test_running_leaves_the_network_in_eval_mode_and_its_tensors_alone(
    resident: TorchResident, batch: Pixels, outputs: list[Output]
) -> None:
    network = resident._traced.root
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    forward(resident, batch[:1], outputs)
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_every_alias_leads_to_a_tap_and_penultimate_is_one(resident: TorchResident) -> None:
    card = resident.card
    assert "penultimate" in card.aliases
    for alias in card.aliases:
        canonical, tap, pre, _ = card.resolve_tap(alias)
        assert (canonical, pre) == (tap.name, False)


def test_a_node_that_is_a_tap_is_known_by_the_taps_name(resident: TorchResident) -> None:
    for tap in resident.card.taps:
        if tap.is_whole:
            node = resident._traced.name(resident._traced.node(tap.node))
            assert resident.resolve_tap(node)[0] == tap.name


def shape_or_none(resident: TorchResident, tap: str, side: int) -> tuple[int, ...] | None:
    try:
        return resident.shape_at(tap, side)
    except InvalidParameter:
        return None


def test_dense_inputs_are_taken_at_any_size_or_refused_with_the_reason(
    resident: TorchResident, batch: Pixels
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
