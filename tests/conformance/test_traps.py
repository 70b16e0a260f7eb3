"""The traps of others that concern features: each is a test here, named after it.

Where each was found is in its docstring, as project#issue.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torchvision import models, transforms
from torchvision.transforms import functional as TF  # noqa: N812  # its usual name

from offshelf.backbones.imagenet import PRESET
from offshelf.core.batching import Lane
from offshelf.core.spec import FeatureSpec, Preprocessing
from offshelf.core.view import View
from offshelf.engine.decode import Limits, decode
from offshelf.engine.extractor import Extractor
from offshelf.engine.interface import Output
from offshelf.engine.torch_engine import TorchEngine
from offshelf.engine.views import view
from offshelf.errors import InvalidImage, InvalidParameter
from offshelf.heads import onnx_full
from offshelf.heads.model import LinearHead
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from tests.reference.pictures import encode, picture
from tests.reference.plain import forward
from tests.unit.heads.cards import card

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf.engine.torch_resident import TorchResident

SPEC = FeatureSpec("alexnet", "0" * 64, "fc7", "center", PRESET)
VIEWS = ("center", "warp", "squash", "ten_crop", "multi_scale:224,300", "dense:224", "razavian")


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    settings = Settings(device="cpu", default_backbone="embednet")
    made = Extractor(TorchEngine(settings), settings)
    yield made
    made.close(20)


def test_in_place_relu_overwrites_the_pre_activation() -> None:
    """A hook before an in-place ReLU sees what is after it (thingsvision#44, captum#156).

    The trap is shown with torchvision's own network, then that ours is not in it.
    """
    network = TorchEngine(Settings(device="cpu")).load("alexnet", "random:0")
    image = np.array(picture(0, 224, 224))[np.newaxis]
    seen: list[torch.Tensor] = []
    trapped = models.alexnet(weights=None).eval()
    trapped.load_state_dict(network._traced.root.state_dict())
    trapped.classifier[4].register_forward_hook(lambda *parts: seen.append(parts[2]))
    with torch.inference_mode():
        trapped(network._inputs(image))
    assert (seen[0] >= 0).all()  # by now it is what the ReLU wrote
    got = forward(network, image, [Output("fc7:pre"), Output("fc7")])
    before, after = got[Output("fc7:pre")], got[Output("fc7")]
    assert (before < 0).any()
    assert np.array_equal(np.maximum(before, 0), after)
    assert np.allclose(after, seen[0].numpy(), atol=1e-5)
    # Alone, where nothing needs its pre-activation, the ReLU may write in place: same numbers.
    assert np.allclose(forward(network, image, [Output("fc7")])[Output("fc7")], after, atol=1e-6)


def test_cache_key_of_the_image_height_alone(extractor: Extractor) -> None:
    """infinity's image key is built from the image's height: here content decides, and only it.

    Images are stored and found by the sha256 of their bytes; two of one height never meet.
    """
    images = [encode(picture(seed, 100, 80)) for seed in (1, 2)]
    assert len({hashlib.sha256(image).hexdigest() for image in images}) == 2
    plan = extractor.resolve(FeatureParams(taps=["fc7"]))
    rows = [extractor.submit(image, plan, Lane.BULK).result(60)["fc7"] for image in images]
    assert not np.allclose(rows[0], rows[1])


def test_cache_key_that_leaves_out_what_changes_the_feature() -> None:
    """CLIP_benchmark's omits normalisation, precision and split: ours leaves out nothing.

    Each field of the spec and of its preprocessing, whatever fields there will be, changes the
    fingerprint; so a new one cannot be forgotten. The split is no part of a feature: features
    are of a whole data set, and heads keep their split.
    """
    seen = {SPEC.fingerprint}
    for field in fields(FeatureSpec):
        if field.name != "preprocessing":
            seen.add(replace(SPEC, **{field.name: "other"}).fingerprint)
    for name, value in asdict(PRESET).items():
        other = (9.0, 9.0, 9.0) if isinstance(value, tuple) else 7 if value == 224 else "other"
        pre = replace(PRESET, **{name: other})
        seen.add(replace(SPEC, preprocessing=pre).fingerprint)
    assert len(seen) == len(fields(FeatureSpec)) + len(fields(Preprocessing))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"view": "center"}, {"view": "center+mirror"}),
        ({"view": "razavian:10"}, {"view": "razavian:15"}),
        ({"view": "multi_scale:72,90"}, {"view": "multi_scale:72,96"}),
        ({"view": "dense:72"}, {"view": "multi_scale:72"}),
        ({"normalize": "l2,power:2"}, {"normalize": "power:2,l2"}),
        ({"normalize": "power:0.5"}, {"normalize": "power:0.25"}),
        ({"taps": ["pool5"], "pool": "pyramid:1,2"}, {"taps": ["pool5"], "pool": "pyramid:1,3"}),
        ({"taps": ["pool5"], "pool": "grid:2"}, {"taps": ["pool5"], "pool": "grid:2:avg"}),
        ({"view": "ten_crop", "merge": "concat"}, {"view": "ten_crop", "merge": "stack"}),
    ],
)
def test_parameters_of_different_features_have_different_fingerprints(
    extractor: Extractor, one: dict[str, object], other: dict[str, object]
) -> None:
    """The same trap, through the whole way from parameters to the fingerprint."""
    plans = [extractor.resolve(FeatureParams(**params)) for params in (one, other)]
    (first,), (second,) = (plan.specs.values() for plan in plans)
    assert first.fingerprint != second.fingerprint
    image = encode(picture(4, 130, 100))
    rows = [
        next(iter(extractor.submit(image, plan, Lane.BULK).result(60).values())) for plan in plans
    ]
    assert rows[0].shape != rows[1].shape or not np.allclose(rows[0], rows[1])


def test_pil_and_tensor_resize_differ_with_antialias_off() -> None:
    """vision#2950, vision#6506: one benchmark moved ResNet-18 from 68.93 to 69.75 by it.

    Ours is PIL's, which is antialiased; a tensor's is not unless it is asked for. The recipe's
    version is in the fingerprint.
    """
    noise = np.random.default_rng(3).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    (cut,) = view(image, View("center"), PRESET)
    by_pil = transforms.CenterCrop(224)(transforms.Resize(256)(image))
    pixels = TF.pil_to_tensor(image)
    crop = transforms.CenterCrop(224)

    def by_tensor(antialias: bool) -> np.ndarray:
        resized = crop(transforms.Resize(256, antialias=antialias)(pixels))
        return resized.permute(1, 2, 0).numpy().astype(int)

    assert np.array_equal(cut[0], np.asarray(by_pil))
    with_it, without = (np.abs(by_tensor(on) - cut[0]) for on in (True, False))
    assert with_it.max() <= 1
    assert without.max() > 10 * max(1, with_it.max())
    assert replace(SPEC, resizer="tensor/1").fingerprint != SPEC.fingerprint


def test_two_centre_crop_conventions_under_one_name() -> None:
    """Keeping the aspect (torchvision's) and ignoring it (DeCAF's) are both called centre crop.

    Here each has a name of its own; they differ, and so do their fingerprints. Half pixels are
    torchvision's too: they round to even, where others floor.
    """
    image = picture(5, 500, 375)
    center, warp, squash = (
        view(image, View.parse(name), PRESET)[0][0] for name in ("center", "warp", "squash")
    )
    usual = transforms.CenterCrop(224)
    assert np.array_equal(center, np.asarray(usual(transforms.Resize(256)(image))))
    assert np.array_equal(warp, np.asarray(usual(transforms.Resize((256, 256))(image))))
    assert np.array_equal(squash, np.asarray(transforms.Resize((224, 224))(image)))
    assert not np.array_equal(center, warp)
    assert not np.array_equal(warp, squash)
    names = ("center", "warp", "squash")
    assert len({replace(SPEC, view=name).fingerprint for name in names}) == len(names)
    odd = picture(6, 341, 256)  # 58.5 pixels to the left: 58, not 59
    left = view(odd, View("center"), PRESET)[0][0]
    assert np.array_equal(left, np.asarray(odd)[16:240, 58:282])


@pytest.mark.parametrize("name", VIEWS)
def test_a_1x1_image_kills_the_embedding_path(extractor: Extractor, name: str) -> None:
    """infinity#609: while health stays 200. Here it is an image like any other."""
    text = name.replace("224", "72").replace("300", "90")
    plan = extractor.resolve(FeatureParams(taps=["fc7"], view=text))
    image = encode(Image.new("RGB", (1, 1), (200, 30, 90)))
    row = extractor.submit(image, plan, Lane.INTERACTIVE).result(60)["fc7"]
    assert np.isfinite(row).all()
    extractor.canaries(60)


@pytest.mark.parametrize("name", ["center", "ten_crop", "dense:72"])
def test_one_bad_image_kills_a_bulk_run(extractor: Extractor, name: str) -> None:
    """clip-retrieval#257, autogluon#3207: here it fails alone, and the others keep their rows."""
    plan = extractor.resolve(FeatureParams(taps=["fc7"], view=name))
    good = [encode(picture(seed, 90 + seed, 80)) for seed in range(6)]
    mixed = [*good[:3], b"no image", good[0][:200], b"", *good[3:]]
    futures = [extractor.submit(image, plan, Lane.BULK) for image in mixed]
    for number in (3, 4, 5):
        with pytest.raises(InvalidImage):
            futures[number].result(60)
    alone = [extractor.submit(image, plan, Lane.BULK).result(60)["fc7"] for image in good]
    kept = [futures[number].result(60)["fc7"] for number in (0, 1, 2, 6, 7, 8)]
    for row, single in zip(kept, alone, strict=True):
        assert np.linalg.norm(row - single) < 1e-5 * np.linalg.norm(single)


def test_exported_head_predicts_differently_because_preprocessing_was_not_exported(
    extractor: Extractor,
) -> None:
    """teachablemachine-community#3, #57, #61, #118: here the file has it, and gets raw images.

    Decoded, and nothing more: resizing, cropping and normalising are in the exported graph. A
    spec carries all of that as plain data, too.
    """
    image = encode(picture(9, 310, 170))
    with extractor.resolve(FeatureParams(backbone="embednet")) as plan:
        (spec,) = plan.specs.values()
        row = extractor.submit(image, plan, Lane.BULK).result(60)["penultimate"]
        coef = np.random.default_rng(0).normal(size=(3, row.size)).astype(np.float32)
        head = LinearHead(card("head-1", spec), coef, np.zeros(3, np.float32))
        made = onnx_full.assembled(head, plan)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    raw = np.asarray(decode(image, Limits(1 << 20, 1 << 20)))
    (scores,) = session.run(["scores"], {"images": raw[np.newaxis]})
    assert np.allclose(scores, head.scores(row[np.newaxis]), atol=1e-4)
    (squeezed,) = session.run(["scores"], {"images": raw[np.newaxis, ::2, ::2]})
    assert not np.allclose(squeezed, scores, atol=1e-3)  # other pixels, other scores

    carried = FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert carried == spec
    with pytest.raises(InvalidParameter, match="not a FeatureSpec"):
        FeatureSpec.from_dict({k: v for k, v in spec.to_dict().items() if k != "preprocessing"})


def test_two_residents_of_one_seed_agree_whatever_ran_before_them() -> None:
    """Dropout or batch statistics left on would make features depend on the run: eval mode."""
    image = np.array(picture(8, 224, 224))[np.newaxis]

    def features(resident: TorchResident) -> np.ndarray:
        return forward(resident, image, [Output("fc7")])[Output("fc7")]

    engine = TorchEngine(Settings(device="cpu"))
    one = engine.load("alexnet", "random:1")
    first = features(one)
    torch.rand(10)
    assert np.array_equal(features(one), first)
    assert np.allclose(features(engine.load("alexnet", "random:1")), first, atol=1e-6)
