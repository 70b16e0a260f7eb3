"""A backbone that is right passes; each way of being wrong fails its own check."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from torchvision.transforms.v2 import functional as tensors

from offshelf.engine import goldens, selftest
from offshelf.engine.extractor import Extractor
from offshelf.engine.goldens import Golden, golden, key, project
from offshelf.engine.selftest import SelfTest
from offshelf.engine.torch_engine import TorchEngine
from offshelf.engine.torch_resident import TorchResident
from offshelf.errors import UnknownName, WorkerError
from offshelf.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from offshelf.engine.interface import Features, Inputs, Output
    from offshelf.schemas.health import SelfCheck

SETTINGS = Settings(device="cpu")
NAMES = {
    "golden",
    "repeat",
    "batch_sizes",
    "before_and_after_the_relu",
    "cpu_against_device",
    "pil_against_tensor_resize",
}


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    made = Extractor(TorchEngine(SETTINGS), SETTINGS)
    yield made
    made.close(5)


def run(
    extractor: Extractor, device: str = "cpu", reference: Callable[[], Any] | None = None
) -> dict[str, SelfCheck]:
    tester = SelfTest(extractor, device, reference or (lambda: TorchEngine(SETTINGS)))
    report = tester.run("embednet", None, 30)
    assert report.passed == all(check.status != "failed" for check in report.checks)
    return {check.name: check for check in report.checks}


def failed(checks: dict[str, SelfCheck]) -> set[str]:
    return {name for name, check in checks.items() if check.status == "failed"}


def bend(
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[Sequence[Inputs], Output, list[Features]], list[Features]],
) -> None:
    """Let every forward pass go through `how`."""
    honest = TorchResident.forward

    def forward(
        self: TorchResident, batch: Sequence[Inputs], outputs: Sequence[Output]
    ) -> dict[Output, list[Features]]:
        found = honest(self, batch, outputs)
        return {output: how(batch, output, list(rows)) for output, rows in found.items()}

    monkeypatch.setattr(TorchResident, "forward", forward)


def test_a_backbone_that_is_right_passes_every_check(extractor: Extractor) -> None:
    checks = run(extractor)
    assert set(checks) == NAMES
    assert {name for name, check in checks.items() if check.status == "skipped"} == {
        "cpu_against_device"
    }
    assert failed(checks) == set()
    for name in NAMES - {"cpu_against_device"}:
        check = checks[name]
        assert check.measured is not None
        assert check.tolerance is not None
        assert check.measured <= check.tolerance, name


def test_another_device_is_held_against_the_cpu(extractor: Extractor) -> None:
    check = run(extractor, device="cuda:0")["cpu_against_device"]
    assert (check.status, check.detail) == ("passed", "cuda:0 against cpu")


def test_a_device_that_differs_from_the_cpu_fails(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def load(self, backbone: str, weights: str | None) -> TorchResident:
            return TorchEngine(SETTINGS).load(backbone, "random:1")

    assert failed(run(extractor, "cuda:0", Other)) == {"cpu_against_device"}


def test_features_that_moved_fail_the_golden_check(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(_batch: object, _output: object, rows: list[Features]) -> list[Features]:
        return [np.roll(row, 1, axis=-1) for row in rows]

    bend(monkeypatch, moved)
    assert failed(run(extractor)) == {"golden"}


def test_features_that_depend_on_the_batch_fail(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drifting(batch: Any, _output: object, rows: list[Features]) -> list[Features]:
        return [row * (1 + 1e-4 * (len(batch[0][0]) > 1)) for row in rows]

    bend(monkeypatch, drifting)
    assert failed(run(extractor)) == {"batch_sizes"}


def test_features_that_differ_from_run_to_run_fail(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = iter(range(10_000))

    def noisy(_batch: object, _output: object, rows: list[Features]) -> list[Features]:
        return [row * (1 + 1e-3 * next(runs)) for row in rows]

    bend(monkeypatch, noisy)
    assert {"repeat", "batch_sizes"} <= failed(run(extractor))


def test_an_activation_that_overwrote_what_was_before_it_fails(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwritten(_batch: object, output: Any, rows: list[Features]) -> list[Features]:
        return [np.maximum(row, 0) if output.tap.endswith(":pre") else row for row in rows]

    bend(monkeypatch, overwritten)
    check = run(extractor)["before_and_after_the_relu"]
    assert (check.status, "no negatives" in check.detail) == ("failed", True)


def test_a_resizer_without_antialiasing_fails(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = tensors.resize

    def aliased(pixels: torch.Tensor, size: list[int], **more: Any) -> torch.Tensor:
        return honest(pixels, size, **{**more, "antialias": False})

    monkeypatch.setattr(selftest.tensors, "resize", aliased)
    assert failed(run(extractor)) == {"pil_against_tensor_resize"}


def test_weights_that_are_not_on_record_are_skipped_with_the_reason(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = golden("embednet", None)
    assert known is not None
    monkeypatch.setattr(selftest, "golden", lambda *_: replace(known, digest="0" * 64))
    check = run(extractor)["golden"]
    assert (check.status, "no features are on record" in check.detail) == ("skipped", True)


def test_what_cannot_be_loaded_is_raised(extractor: Extractor) -> None:
    with pytest.raises(UnknownName, match="did you mean embednet"):
        SelfTest(extractor, "cpu", lambda: TorchEngine(SETTINGS)).run("embednett", None, 30)


def test_a_device_that_hangs_is_told(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkerError, match="no answer from the device"):
        SelfTest(extractor, "cpu", lambda: TorchEngine(SETTINGS)).run("embednet", None, 0.0)


def test_a_projection_notices_nearly_any_change() -> None:
    random = np.random.default_rng(0)
    vector = random.normal(size=4096).astype(np.float32)
    first = project(vector)
    assert first.shape == (goldens.NUMBERS,)
    np.testing.assert_allclose(project(3 * vector), first, atol=1e-6)
    for changed in (vector[::-1], np.maximum(vector, 0), vector + 0.1, np.roll(vector, 1)):
        assert np.abs(project(changed) - first).max() > 10 * goldens.TOLERANCE
    assert np.isfinite(project(np.zeros(5, np.float32))).all()


def test_every_registered_backbone_is_on_record() -> None:
    from offshelf.backbones.interface import BACKBONES

    missing = [name for name in BACKBONES.names() if golden(name, "random:0") is None]
    assert missing == []
    assert isinstance(golden("embednet", None), Golden)
    assert key("embednet", None) == "embednet own"
