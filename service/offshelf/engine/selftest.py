"""Whether a backbone gives here, now, what it should: each check with its figure and tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tensors

from offshelf.core.geometry import fit_short
from offshelf.core.view import View
from offshelf.engine.canary import canary_pixels
from offshelf.engine.goldens import TAP, TOLERANCE, golden, project
from offshelf.engine.interface import Output
from offshelf.engine.views import view
from offshelf.schemas.health import SelfCheck, SelfTestReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from offshelf.core.spec import Preprocessing
    from offshelf.engine.extractor import Extractor
    from offshelf.engine.interface import Engine, Features, Pixels, Resident

BATCHES: Final = (2, 3, 8, 16)
BATCH_TOLERANCE: Final = 1e-5  # of a row's norm, as in the conformance suite
DEVICE_TOLERANCE: Final = 1e-4  # of a row's norm: sums in another order, through a whole network
# Features of an image that a tensor resizer made smaller instead of Pillow, both antialiased.
RESIZE_TOLERANCE: Final = 0.005
PICTURE_SIZE: Final = (500, 375)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Runs the checks through an extractor, in batches with everybody else's work.

    `reference` makes an engine on the CPU, for a device that is none.
    """

    extractor: Extractor
    device: str
    reference: Callable[[], Engine]

    def run(self, backbone: str | None, weights: str | None, timeout_s: float) -> SelfTestReport:
        """Load the backbone, and try it; raises what `Extractor.hold` raises."""
        with self.extractor.hold(backbone, weights) as hold:
            resident = hold.resident
            probe = _Probe(self.extractor, resident, timeout_s)
            checks = [
                _golden(resident, probe),
                _repeats(probe),
                _batches(probe),
                _activation(probe),
                self._device(resident, probe),
                _resize(probe),
            ]
        return SelfTestReport(
            backbone=resident.card.name,
            weights=resident.weights.label,
            weights_digest=resident.weights.digest,
            device=self.device,
            passed=all(check.status != "failed" for check in checks),
            checks=checks,
        )

    def _device(self, resident: Resident, probe: _Probe) -> SelfCheck:
        """The features of this device against the CPU's."""
        name = "cpu_against_device"
        if self.device == "cpu":
            return SelfCheck(name=name, status="skipped", detail="this worker's device is the CPU")
        there = self.reference().load(resident.card.name, resident.weights.asked)
        wanted = there.forward([(probe.canary,)], [probe.output])[probe.output][0]
        error = _distance(probe.features(probe.canary), wanted)
        return _check(name, error, DEVICE_TOLERANCE, f"{self.device} against cpu")


class _Probe:
    """A backbone to be asked for features of inputs."""

    def __init__(self, extractor: Extractor, resident: Resident, timeout_s: float) -> None:
        self._extractor = extractor
        self._timeout_s = timeout_s
        self.resident = resident
        self.preprocessing: Final[Preprocessing] = resident.card.preprocessing
        self.canary: Final = canary_pixels(resident.card)
        tap, _, _, pool = resident.resolve_tap(TAP)
        self.output: Final = Output(tap, pool, merge="stack")

    def features(self, inputs: Pixels, output: Output | None = None) -> Features:
        """The features (k, ...) of k inputs that go through the network together."""
        wanted = output or self.output
        return self._extractor.probe(self.resident, inputs, wanted, self._timeout_s)


def _golden(resident: Resident, probe: _Probe) -> SelfCheck:
    """The features against those that were recorded for these weights."""
    name, weights = "golden", resident.weights
    known = golden(resident.card.name, weights.asked)
    if known is None or known.digest != weights.digest:
        why = "no features are on record for these weights"
        if known is not None and weights.is_random:
            why = "this version of torch draws other random weights than those on record"
        return SelfCheck(name=name, status="skipped", detail=f"{why} ({weights.digest[:12]})")
    moved = np.abs(project(probe.features(probe.canary)[0]) - np.array(known.numbers)).max()
    return _check(name, float(moved), TOLERANCE, "largest move of a projection")


def _repeats(probe: _Probe) -> SelfCheck:
    """The same image twice."""
    error = _distance(probe.features(probe.canary), probe.features(probe.canary))
    return _check("repeat", error, BATCH_TOLERANCE, "the same input twice")


def _batches(probe: _Probe) -> SelfCheck:
    """Images alone against the same ones in batches."""
    side = probe.preprocessing.crop
    images = np.stack([_picture((side, side), seed) for seed in range(max(BATCHES))])
    alone = np.concatenate([probe.features(images[i : i + 1]) for i in range(len(images))])
    worst = max(_distance(probe.features(images[:size]), alone[:size]) for size in BATCHES)
    sizes = ", ".join(map(str, BATCHES))
    return _check("batch_sizes", worst, BATCH_TOLERANCE, f"batches of {sizes} against 1")


def _activation(probe: _Probe) -> SelfCheck:
    """What comes before a ReLU has negatives, and is what the ReLU was given."""
    name = "before_and_after_the_relu"
    tap = next((tap for tap in reversed(probe.resident.card.taps) if tap.pre), None)
    if tap is None:
        return SelfCheck(name=name, status="skipped", detail="no tap is an activation")
    before, after = (
        probe.features(probe.canary, Output(f"{tap.name}{suffix}", merge="stack"))
        for suffix in (":pre", "")
    )
    if not (before < 0).any():
        return SelfCheck(name=name, status="failed", detail=f"{tap.name}:pre has no negatives")
    if np.array_equal(before, after):
        return SelfCheck(name=name, status="failed", detail=f"{tap.name}:pre is {tap.name}")
    if after[before < 0].any():
        return SelfCheck(name=name, status="passed", detail=f"{tap.name} is no ReLU; they differ")
    # What a ReLU, and one that stops at 6, leaves as it is.
    kept = (before >= 0) & (before <= 6)
    error = float(np.abs(after[kept] - before[kept]).max(initial=0.0))
    return _check(name, error, 0.0, f"{tap.name} where {tap.name}:pre is not negative")


def _resize(probe: _Probe) -> SelfCheck:
    """Pillow's antialiased resize, which is used, against a tensor resizer's."""
    pre = probe.preprocessing
    picture = Image.fromarray(_picture(PICTURE_SIZE))
    (ours,) = view(picture, View.parse("center"), pre)
    theirs = _by_tensor(picture, pre)
    levels = int(np.abs(ours.astype(int) - theirs).max())
    error = _distance(probe.features(ours), probe.features(theirs))
    return _check(
        "pil_against_tensor_resize", error, RESIZE_TOLERANCE, f"pixels differ by up to {levels}"
    )


def _by_tensor(picture: Image.Image, pre: Preprocessing) -> Pixels:
    """The centre view of a picture (1, crop, crop, 3), resized as a tensor."""
    width, height = fit_short(*picture.size, pre.resize)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    mode = InterpolationMode(pre.interpolation)
    resized = tensors.resize(pixels, [height, width], interpolation=mode, antialias=True)
    cut = tensors.center_crop(resized, [pre.crop]).permute(1, 2, 0).contiguous().unsqueeze(0)
    found: Pixels = cut.numpy()
    return found


def _picture(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """A picture of smooth colours and fine texture (H, W, 3), the same everywhere."""
    width, height = size
    down, across = np.mgrid[:height, :width]
    waves = [
        np.sin(across / (5 + 3 * channel + seed)) + np.cos(down / (7 + channel) + seed)
        for channel in range(3)
    ]
    texture = (across * 7 + down * 13 + seed * 5) % 11 - 5
    smooth = 128 + 50 * np.stack(waves, axis=-1) + 3 * texture[..., np.newaxis]
    pixels: NDArray[np.uint8] = np.clip(smooth, 0, 255).astype(np.uint8)
    return pixels


def _distance(got: Features, wanted: Features) -> float:
    """The largest distance of a row from what it should be, as a part of that row's norm."""
    flat = wanted.reshape(len(wanted), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    return float((np.linalg.norm(got.reshape(flat.shape) - flat, axis=1) / norms).max())


def _check(name: str, measured: float, tolerance: float, detail: str) -> SelfCheck:
    return SelfCheck(
        name=name,
        # Not `>`: a NaN is no pass.
        status="passed" if measured <= tolerance else "failed",
        measured=measured,
        tolerance=tolerance,
        detail=detail,
    )
