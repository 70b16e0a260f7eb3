from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.backbones.imagenet import PRESET
from offshelf.core.geometry import places
from offshelf.core.view import KINDS, MAX_SIDE, MAX_SIDES, View, canonical_view
from offshelf.errors import InvalidParameter

ANGLES = st.integers(-17_999, 18_000).map(lambda hundredths: hundredths / 100)
SIDES = st.lists(st.integers(1, MAX_SIDE), min_size=1, max_size=MAX_SIDES, unique=True).map(tuple)


@st.composite
def views(draw: st.DrawFn) -> View:
    kind = draw(st.sampled_from(KINDS))
    if kind == "maps":
        return View(kind, draw(SIDES))
    return View(
        kind,
        draw(SIDES) if kind in ("multi_scale", "dense") else (),
        draw(ANGLES.map(abs).filter(lambda d: 0 < d < 180)) if kind == "razavian" else 0.0,
        draw(st.booleans()),
        draw(st.booleans()),
        draw(ANGLES),
        draw(st.booleans()) if kind not in ("ten_crop", "razavian") else False,
    )


@given(views())
def test_a_view_is_read_back_from_its_text_which_is_canonical(view: View) -> None:
    text = str(view)
    assert View.parse(text) == view
    assert canonical_view(text) == text


@given(views(), st.randoms())
def test_the_order_of_changes_is_free(view: View, random: object) -> None:
    head, *changes = str(view).split("+")
    random.shuffle(changes)  # type: ignore[attr-defined]  # hypothesis's is random.Random
    assert View.parse("+".join([head, *changes])) == view


@given(views(), st.integers(1, 3000), st.integers(1, 3000))
def test_a_view_makes_as_many_inputs_as_it_says(view: View, width: int, height: int) -> None:
    assert len(places(view, PRESET, width, height)) == view.inputs


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("center", "center"),
        ("warp", "warp"),
        ("squash", "squash"),
        ("five_crop", "five_crop"),
        ("ten_crop", "ten_crop"),
        ("multi_scale:384,256", "multi_scale:384,256"),
        ("dense:512", "dense:512"),
        ("razavian", "razavian:15"),
        ("razavian:7.50", "razavian:7.5"),
        ("center+mirror+hflip", "center+hflip+mirror"),
        ("center mirror", "center+mirror"),  # a plus that a query string lost
        ("center+rotate:350", "center+rotate:-10"),
        ("center+rotate:-180", "center+rotate:180"),
        ("center+rotate:360", "center"),
        ("warp+rotate:5+vflip+hflip", "warp+hflip+vflip+rotate:5"),
    ],
)
def test_every_view_has_one_text(text: str, canonical: str) -> None:
    assert canonical_view(text) == canonical


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "There are: center, warp"),
        ("centre", "did you mean center?"),
        ("tencrop", "did you mean ten_crop?"),
        ("Center", "did you mean center?"),
        ("center:5", "center has no parameters; write center"),
        ("center:", "center has no parameters"),
        ("dense", "dense needs short sides in pixels, as in dense:256,384"),
        ("dense:", "dense needs short sides"),
        ("dense:0", "dense needs short sides"),
        ("dense:256,", "dense needs short sides"),
        ("dense:256, 384", "dense needs short sides"),
        ("multi_scale:-1", "multi_scale needs short sides"),
        ("dense:4096", "different sides of up to 1440"),
        ("dense:256,256", "different sides"),
        ("dense:" + ",".join(map(str, range(1, 10))), "up to 8 different sides"),
        ("razavian:0", "0 < DEG < 180"),
        ("razavian:x", "an angle is degrees"),
        ("razavian:-15", "0 < DEG < 180"),
        ("center+miror", "did you mean mirror?"),
        ("center+", "no change ''"),
        ("center+mirror:1", r"write \+mirror"),
        ("center+rotate", r"write \+rotate:DEG"),
        ("center+rotate:1e3", "an angle is degrees"),
        ("center+rotate:361", "an angle is degrees"),
        ("center+rotate:nan", "an angle is degrees"),
        ("center+hflip+hflip", "stands there twice"),
        ("maps:300,600+hflip", "takes boxes of the image as it is, so it has no changes"),
        ("maps", "maps needs short sides in pixels, as in maps:256,384"),
        ("center+rotate:0+rotate:0", "stands there twice"),
        ("ten_crop+mirror", "has the mirrored copies already"),
        ("razavian+mirror", "has the mirrored copies already"),
    ],
)
def test_bad_text_is_refused_with_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(InvalidParameter, match=says):
        View.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_view_or_refused(text: str) -> None:
    try:
        view = View.parse(text)
    except InvalidParameter:
        return
    assert View.parse(str(view)) == view


def test_a_scale_below_the_networks_input_cannot_be_cropped() -> None:
    View.parse("multi_scale:224,256").check(PRESET)
    View.parse("dense:100").check(PRESET)  # whether that runs is the network's to say
    with pytest.raises(InvalidParameter, match="side 223 is below the network's input of 224"):
        View.parse("multi_scale:256,223").check(PRESET)
