"""Layouts are told by the names of files alone, the same in any order and packing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.datasets.protocols.interface import PROTOCOLS
from offshelf.datasets.survey import Survey, protocol_of
from offshelf.errors import InvalidParameter

VOC = ["JPEGImages/000001.jpg", "Annotations/000001.xml", "ImageSets/Main/train.txt"]
FOLDERS = ["cat/1.jpg", "cat/2.png", "dog/1.jpg"]


def seen(paths: list[str]) -> Survey:
    survey = Survey()
    for path in paths:
        survey.see(path)
    return survey


def under(folder: str, paths: list[str]) -> list[str]:
    return [f"{folder}/{path}" for path in paths]


DETECTED = {
    "folders": (FOLDERS, None),
    "folders and a text": ([*FOLDERS, "README.txt", "classes.txt"], None),
    "a table": (["labels.csv", "images/a.jpg"], "csv"),
    "a table beside folders": ([*FOLDERS, "labels.csv"], "csv"),
    "split folders": (["train/cat/1.jpg", "Test/cat/2.jpg", "notes.txt"], "image-folder"),
    "MIT-67": (["Images/bar/1.jpg", "TrainImages.txt", "TestImages.txt"], "mit67"),
}
AMBIGUOUS = {
    "VOC 2007": (under("VOCdevkit/VOC2007", VOC), {"voc2007", "voc2007-vissl"}),
    "VOC of no year": (VOC, {"voc2007", "voc2007-vissl", "voc2012", "voc2012-val"}),
    "CUB": (["images/1.x/a.jpg", "image_class_labels.txt"], {"cub200", "cub200-parts"}),
    "SUN397": (["a/abbey/sun_x.jpg", "ClassName.txt"], {"sun397", "sun397-b"}),
    "Office-31": (["amazon/images/mug/frame_0001.jpg"], set()),
}


@given(st.data(), st.sampled_from(sorted(DETECTED)), st.sampled_from(["", "mine"]))
def test_a_layout_is_told_in_any_order_and_in_one_folder_more(
    data: st.DataObject, name: str, folder: str
) -> None:
    paths, protocol = DETECTED[name]
    shuffled = data.draw(st.permutations(under(folder, paths) if folder else paths))
    assert protocol_of(seen(shuffled), "it") == protocol


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("folder", ["", "mine"])
def test_what_may_be_several_says_what_was_found_and_what_to_choose(name: str, folder: str) -> None:
    paths, some = AMBIGUOUS[name]
    survey = seen(under(folder, paths) if folder else paths)
    with pytest.raises(InvalidParameter) as caught:
        protocol_of(survey, "the archive")
    told = str(caught.value)
    assert "the archive has '" in told
    assert "layout=folder" in told
    chosen = set(survey.protocols())
    assert some & set(PROTOCOLS.names()) <= chosen
    assert all(protocol in told for protocol in chosen)


def test_the_year_of_a_folder_decides_between_protocols_of_the_same_lists() -> None:
    for year, others in ((2007, 2012), (2012, 2007)):
        found = seen(under(f"VOC{year}", VOC)).protocols()
        assert found
        assert not any(name.startswith(f"voc{others}") for name in found)


def test_marks_deep_in_a_class_are_no_marks() -> None:
    survey = seen([*FOLDERS, "cat/labels.csv", "dog/more/TrainImages.txt"])
    assert protocol_of(survey, "it") is None


@given(st.lists(st.text("ab/.", min_size=1, max_size=12), max_size=30))
def test_a_survey_stays_small_and_never_fails(paths: list[str]) -> None:
    survey = seen([f"{path}x.jpg" for path in paths])
    protocol_of(survey, "it")
    assert survey.images == len(paths)
    assert len(survey.tops) <= 2


def test_two_sides_and_a_class_are_not_split_folders() -> None:
    survey = seen(["train/cat/1.jpg", "test/cat/1.jpg", "more/cat/1.jpg"])
    assert protocol_of(survey, "it") is None
    with pytest.raises(InvalidParameter, match=r"lies too deep; .* protocols caltech101"):
        survey.check_folders("the archive")
