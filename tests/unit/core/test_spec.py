from __future__ import annotations

from dataclasses import replace

import pytest

from offshelf.backbones.imagenet import PRESET
from offshelf.core.spec import FeatureSpec, Pooling, check_choice, split_tap
from offshelf.errors import InvalidParameter

SPEC = FeatureSpec("alexnet", "0" * 64, "fc7", "center", PRESET)


def test_every_field_changes_the_fingerprint() -> None:
    others = {
        "backbone": "vgg16",
        "weights_digest": "1" * 64,
        "tap": "fc7:pre",
        "view": "warp",
        "preprocessing": replace(PRESET, resize=232),
        "pooling": "avg",
        "normalisation": "l2",
        "precision": "float16",
        "decoder": "other/1",
        "resizer": "other/1",
        "merge": "stack",
        "architecture": "vgg16",
    }
    assert set(others) == set(SPEC.to_dict())
    prints = {replace(SPEC, **{name: value}).fingerprint for name, value in others.items()}
    assert len(prints | {SPEC.fingerprint}) == len(others) + 1


def test_the_fingerprint_of_a_spec_never_changes() -> None:
    # It names files and stands in heads: a new value here orphans them all.
    assert SPEC.fingerprint == ("813bf465627245a045e05e0ac06e8d98946e6a1c798bc9d81d22dc915d148116")


def test_fields_that_came_later_leave_older_fingerprints_alone() -> None:
    older = SPEC.to_dict()
    del older["merge"], older["architecture"], older["preprocessing"]["channels"]
    assert FeatureSpec.from_dict(older) == SPEC
    bgr = replace(SPEC, preprocessing=replace(PRESET, channels="bgr"))
    assert bgr.fingerprint != SPEC.fingerprint


def test_a_spec_survives_plain_data() -> None:
    assert FeatureSpec.from_dict(SPEC.to_dict()) == SPEC
    assert FeatureSpec.from_dict(SPEC.to_dict()).fingerprint == SPEC.fingerprint


@pytest.mark.parametrize("change", [{"extra": 1}, {"preprocessing": {}}, {"preprocessing": None}])
def test_what_is_no_spec_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter):
        FeatureSpec.from_dict({**SPEC.to_dict(), **change})


def test_differences_name_the_fields() -> None:
    assert SPEC.differences(SPEC) == []
    assert SPEC.differences(replace(SPEC, tap="fc6")) == ["tap: fc7 != fc6"]


@pytest.mark.parametrize(
    ("text", "pooling", "canonical"),
    [
        ("none", Pooling("none"), "none"),
        ("avg", Pooling("avg"), "avg"),
        ("average", Pooling("avg"), "avg"),
        ("max", Pooling("max"), "max"),
        ("grid:2", Pooling("max", 2), "grid:2"),
        ("grid:2:max", Pooling("max", 2), "grid:2"),
        ("grid:3:avg", Pooling("avg", 3), "grid:3:avg"),
        ("grid:1", Pooling("max", 1), "max"),
        ("pyramid:1,2,4", Pooling("max", pyramid=(1, 2, 4)), "pyramid:1,2,4"),
        ("pyramid:1,3:max", Pooling("max", pyramid=(1, 3)), "pyramid:1,3"),
        ("pyramid:2,6:avg", Pooling("avg", pyramid=(2, 6)), "pyramid:2,6:avg"),
        ("pyramid:2:avg", Pooling("avg", 2), "grid:2:avg"),
        ("pyramid:1", Pooling("max"), "max"),
    ],
)
def test_pooling_has_one_canonical_text(text: str, pooling: Pooling, canonical: str) -> None:
    assert Pooling.parse(text) == pooling
    assert str(pooling) == canonical
    assert Pooling.parse(canonical) == pooling


@pytest.mark.parametrize(
    "text",
    ["", "mean", "grid", "grid:0", "grid:100", "grid:2:sum", "GRID:2",
     "grid:1,2", "pyramid:", "pyramid:0", "pyramid:2,1", "pyramid:1,1", "pyramid:1,2,",
     "pyramid:1,2,3,4,5,6,7"],
)  # fmt: skip
def test_other_pooling_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(InvalidParameter, match="none, avg, max, grid:N"):
        Pooling.parse(text)


def test_a_pooling_knows_how_many_numbers_it_makes_of_a_channel() -> None:
    values = {"avg": 1, "grid:3": 9, "pyramid:1,2,4": 21, "pyramid:1,2:avg": 5}
    assert {text: Pooling.parse(text).values for text in values} == values


def test_split_tap_knows_one_suffix() -> None:
    assert split_tap("fc7") == ("fc7", False)
    assert split_tap("fc7:pre") == ("fc7", True)
    for bad in ("fc7:", "fc7:post", "fc7:pre:pre"):
        with pytest.raises(InvalidParameter):
            split_tap(bad)


def test_check_choice_names_the_choices() -> None:
    check_choice("view", "warp", ("center", "warp"))
    with pytest.raises(InvalidParameter, match="view 'x' is not one of center, warp"):
        check_choice("view", "x", ("center", "warp"))
