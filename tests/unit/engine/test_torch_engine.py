from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torchvision import transforms

from offshelf.engine import finishing, torch_resident
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.errors import InvalidParameter, UnknownName, WeightsMissing
from offshelf.settings import Settings
from tests.reference.pictures import picture
from tests.reference.plain import TOLERANCE, forward, worst_row_error

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.engine.interface import Pixels
    from offshelf.engine.torch_resident import TorchResident


@pytest.fixture(scope="module")
def resident() -> TorchResident:
    return TorchEngine(Settings(device="cpu")).load("squeezenet1_0", "random:3")


@pytest.fixture(scope="module")
def batch() -> Pixels:
    return np.stack([np.asarray(picture(seed, 224, 224)) for seed in range(2)])


def test_the_input_is_exactly_totensor_and_normalize(
    resident: TorchResident, batch: Pixels
) -> None:
    pre = resident.card.preprocessing
    usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize(pre.mean, pre.std)])
    want = torch.stack([usual(image) for image in batch])
    assert torch.equal(resident._inputs(batch), want)


def test_a_network_that_wants_bgr_gets_the_same_values_in_that_order(batch: Pixels) -> None:
    resident = TorchEngine(Settings(device="cpu")).load("cnn_f", "random:0")
    pre = resident.card.preprocessing
    assert pre.channels == "bgr"
    usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize(pre.mean, pre.std)])
    want = torch.stack([usual(image) for image in batch])[:, [2, 1, 0]]
    assert torch.equal(resident._inputs(batch), want)
    blue_first = batch[:, :, :, ::-1].transpose(0, 3, 1, 2) - np.array(
        [[[[103.939]], [[116.779]], [[123.68]]]]
    )
    assert np.allclose(resident._inputs(batch).numpy(), blue_first, atol=1e-3)


def test_pooling_and_normalisation_are_what_the_spec_says(
    resident: TorchResident, batch: Pixels
) -> None:
    maps = torch.from_numpy(forward(resident, batch, [Output("fire9")])[Output("fire9")])
    want = {
        Output("fire9", "avg"): maps.mean((2, 3)),
        Output("fire9", "max"): maps.amax((2, 3)),
        Output("fire9", "grid:2"): F.adaptive_max_pool2d(maps, 2).flatten(1),
        Output("fire9", "grid:3:avg"): F.adaptive_avg_pool2d(maps, 3).flatten(1),
        Output("fire9", "avg", "l2"): F.normalize(maps.mean((2, 3))),
        Output("fire9", "none", "l2"): F.normalize(maps.flatten(1)).view_as(maps),
    }
    got = forward(resident, batch, list(want))
    for output, features in want.items():
        assert worst_row_error(got[output], features.numpy()) < TOLERANCE, output


def test_a_pyramid_is_its_grids_one_after_the_other(resident: TorchResident, batch: Pixels) -> None:
    maps = torch.from_numpy(forward(resident, batch, [Output("fire9")])[Output("fire9")])
    levels = [F.adaptive_max_pool2d(maps, cells).flatten(1) for cells in (1, 2, 5)]
    means = [F.adaptive_avg_pool2d(maps, cells).flatten(1) for cells in (1, 3)]
    want = {
        Output("fire9", "pyramid:1,2,5"): torch.cat(levels, 1),
        Output("fire9", "pyramid:1,3:avg"): torch.cat(means, 1),
    }
    got = forward(resident, batch, list(want))
    for output, features in want.items():
        assert worst_row_error(got[output], features.numpy()) < TOLERANCE, output


def test_cells_of_a_grid_are_innermost(resident: TorchResident, batch: Pixels) -> None:
    outputs = [Output("fire9", "grid:2"), Output("fire9", "max")]
    cells, whole = forward(resident, batch, outputs).values()
    assert np.allclose(cells.reshape(2, 512, 4).max(axis=2), whole)


def test_a_row_of_zeros_stays_zero_under_l2() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    normalised = finishing.normalise("l2", rows)
    assert normalised.tolist() == [[0, 0], pytest.approx([0.6, 0.8])]


@pytest.mark.parametrize("how", ["power:0.5", "power:0", "power:3", "l2,power:2", "power:0.5,l2"])
def test_powers_keep_the_sign_and_zeros_stay_zeros(how: str) -> None:
    rows = np.array([[0.0, 0.0, 0.0], [-4.0, 0.0, 3.0]], np.float32)
    want = rows.astype(np.float64)
    for step in how.split(","):
        if step == "l2":
            want[1] /= np.linalg.norm(want[1])
        else:
            power = float(step.removeprefix("power:"))
            want = np.where(want == 0, 0.0, np.sign(want) * np.abs(want) ** power)
    got = finishing.normalise(how, torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_order_of_power_and_l2_matters() -> None:
    rows = torch.tensor([[4.0, -1.0]])
    one, other = (finishing.normalise(how, rows) for how in ("power:2,l2", "l2,power:2"))
    assert not torch.allclose(one, other)
    assert torch.linalg.vector_norm(one).item() == pytest.approx(1)


def test_whitening_maps_each_feature_of_a_stack_for_itself() -> None:
    random = np.random.default_rng(0)
    stacks = random.normal(size=(2, 3, 4, 1, 1)).astype(np.float32)
    mean, matrix = random.normal(size=4).astype(np.float32), random.normal(size=(2, 4))
    known = {"d" * 64: (torch.from_numpy(mean), torch.from_numpy(matrix.astype(np.float32)))}
    got = finishing.normalise(f"whiten:{'d' * 64},l2", torch.from_numpy(stacks), 2, known)
    want = (stacks.reshape(2, 3, 4) - mean) @ matrix.T
    want /= np.linalg.norm(want, axis=-1, keepdims=True)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=1e-6)


def test_images_of_several_sizes_and_counts_come_back_in_order(resident: TorchResident) -> None:
    shapes = [(224, 224), (224, 300), (260, 230), (224, 300), (224, 224)]
    images = [np.array(picture(n, wide, high)) for n, (high, wide) in enumerate(shapes)]
    batch = [
        (np.stack([images[0], images[0][:, ::-1]]),),
        (images[1][np.newaxis], images[2][np.newaxis]),
        (images[3][np.newaxis], images[4][np.newaxis]),
    ]
    output = Output("fire9", "avg", "none", "stack")
    together = resident.forward(batch, [output])[output]
    flat = [image for inputs in batch for stack in inputs for image in stack]
    alone = [forward(resident, image[np.newaxis], [output])[output][0, 0] for image in flat]
    assert [rows.shape for rows in together] == [(2, 512)] * 3
    assert worst_row_error(np.concatenate(list(together)), np.stack(alone)) < TOLERANCE


def test_nothing_beyond_the_deepest_tap_is_run(resident: TorchResident) -> None:
    program = resident._program((resident._node("fire2"),))
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_module"}
    assert "features.3.expand3x3" in targets
    assert not any(target.startswith(("features.4", "classifier")) for target in targets)


def test_programs_are_kept_but_not_without_bound(
    resident: TorchResident, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = resident._node
    assert resident._program((node("fire2"),)) is resident._program((node("fire2"),))
    monkeypatch.setattr(torch_resident, "MAX_PROGRAMS", 3)
    resident._programs.clear()
    for tap in ("fire2", "fire3", "fire2", "fire4", "fire5"):
        resident._program((node(tap),))
    kept = [names[0] for names in resident._programs]
    assert kept == [node("fire2"), node("fire4"), node("fire5")]


@pytest.mark.parametrize(
    "batch_",
    [np.zeros((1, 224, 224, 3), np.float32), np.zeros((1, 3, 224, 224), np.uint8)],
)
def test_what_is_no_batch_is_refused(resident: TorchResident, batch_: np.ndarray) -> None:
    with pytest.raises(InvalidParameter, match=r"uint8 of \(N, 224, 224, 3\)"):
        forward(resident, batch_, [Output("logits")])


def test_the_engine_says_what_it_is_and_what_it_runs(resident: TorchResident) -> None:
    engine = TorchEngine(Settings(device="cpu"))
    assert (engine.name, engine.device) == ("torch", "cpu")
    assert resident.weights.is_random
    assert resident.weights.label == "random:3"


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "mps", "xpu:0", ""])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(InvalidParameter, match="device"):
        TorchEngine(Settings(device=device))


def test_auto_is_a_device_that_is_here() -> None:
    device = TorchEngine(Settings(device="auto")).device
    assert device == ("cuda:0" if torch.cuda.is_available() else "cpu")


def test_unknown_names_and_missing_weights_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    engine = TorchEngine(Settings(device="cpu", weights_mirror="http://127.0.0.1:9/nowhere"))
    with pytest.raises(UnknownName, match="did you mean alexnet"):
        engine.load("alexnett", None)
    with pytest.raises(WeightsMissing, match=r"alexnet-owt-7be5be79\.pth"):
        engine.load("alexnet", None)
    with pytest.raises(UnknownName, match="there are: IMAGENET1K_V1, random:<seed>"):
        engine.load("alexnet", "best")
    with pytest.raises(InvalidParameter, match="random:<seed>"):
        engine.load("alexnet", "random:x")


# Of a projection, so that another CPU's rounding does not matter.
PINNED = {
    "squeezenet1_0": ("fire9", -0.025725),
    "resnet50": ("pool5", -0.332928),
    "alexnet": ("fc7", -0.178521),
    "cnn_f": ("fc7", 0.608768),
}


@pytest.mark.parametrize("backbone", sorted(PINNED))
def test_seeded_features_are_the_same_everywhere(backbone: str, batch: Pixels) -> None:
    tap, pinned = PINNED[backbone]
    network = TorchEngine(Settings(device="cpu")).load(backbone, "random:0")
    (features,) = forward(network, batch[:1], [Output(tap, "none", "l2")]).values()
    waves = np.cos(np.arange(features.size))
    assert float(waves @ features.ravel().astype(float)) == pytest.approx(pinned, abs=1e-4)
