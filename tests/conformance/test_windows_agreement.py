"""How far features pooled from maps agree with those of the windows themselves, on photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.core.batching import Lane
from offshelf.core.windows import Pyramid
from offshelf.engine.extractor import Extractor
from offshelf.engine.torch_engine import TorchEngine
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

IMAGES = 4


def features(
    extractor: Extractor, images: list[bytes], view: str, backbone: str, tap: str
) -> list[NDArray[np.float32]]:
    """The features (R, D) of each image's windows, of length 1."""
    params = FeatureParams(backbone=backbone, taps=[tap], view=view, pool="avg", normalize="l2")
    with extractor.resolve(params) as plan:
        futures = [extractor.submit_windows(i, plan, Lane.BULK, Pyramid()) for i in images]
        return [future.result(500).features[tap] for future in futures]


@pytest.mark.large
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("backbone", "tap", "view", "least", "own"),
    [
        ("squeezenet1_0", "fire9", "maps:300,600", 0.87, 0.24),
        ("embednet", "conv5", "maps:100,200", 0.88, 0.42),
    ],
)
def test_windows_from_maps_are_near_those_cut_out(
    backbone: str, tap: str, view: str, least: float, own: float, shared_data: Path
) -> None:
    """`least` is the mean cosine, `own` how often a map's window is nearest to its own cut."""
    folder = shared_data / "data" / "voc2012-mini" / "VOCdevkit" / "VOC2012" / "JPEGImages"
    images = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:IMAGES]]
    settings = Settings(device="cpu", weights_dir=shared_data / "weights")
    extractor = Extractor(TorchEngine(settings), settings)
    try:
        exact = features(extractor, images, "squash", backbone, tap)
        dense = features(extractor, images, view, backbone, tap)
    finally:
        extractor.close(60)
    cosines = np.concatenate([(a * b).sum(1) for a, b in zip(exact, dense, strict=True)])
    first = [(b @ a.T).argmax(1) == np.arange(len(a)) for a, b in zip(exact, dense, strict=True)]
    other = [np.roll(a, len(a) // 2, 0) for a in exact]
    chance = np.mean([(a * b).sum(1).mean() for a, b in zip(other, dense, strict=True)])
    nearest = np.concatenate(first).mean()
    print(
        f"{backbone} {tap} {view}: {len(cosines)} windows, cosine {cosines.mean():.3f}, "
        f"5 % below {np.quantile(cosines, 0.05):.3f}, nearest {nearest:.3f}, "
        f"another window {chance:.3f}"
    )
    assert cosines.mean() > least
    assert nearest > own
    assert cosines.mean() > chance + 0.2
