"""VOC classification: the devkit's lists, their three labels, and who is tested."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from offshelf.datasets.protocols.evaluation import evaluate
from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.verification import verify
from offshelf.datasets.protocols.voc import CLASSES
from offshelf.datasets.protocols.voc_annotation import read_objects
from offshelf.errors import InvalidParameter
from tests.unit.datasets.protocols.copies import pictures, protocol, sides, write

if TYPE_CHECKING:
    from pathlib import Path

# What each image shows: objects of these classes, and classes of difficult objects alone.
TRAIN = {"000002": {"car": 1}, "000005": {"car": 0, "person": 1}}
VAL = {"000003": {"cow": 1, "person": 0}}
TEST = {"000001": {"car": 1}, "000004": {}, "000006": {"car": 0}}


def lists(year: int, sets: dict[str, dict[str, dict[str, int]]]) -> dict[str, str]:
    """As the devkit writes them: two spaces before 1 and 0, one before -1."""
    main = f"VOCdevkit/VOC{year}/ImageSets/Main"
    files = {}
    for name, images in sets.items():
        files[f"{main}/{name}.txt"] = "".join(f"{image}\n" for image in images)
        for cls in CLASSES:
            files[f"{main}/{cls}_{name}.txt"] = "".join(
                f"{image} {labels.get(cls, -1):>2}\n" for image, labels in images.items()
            )
    return files


def copy(root: Path, year: int = 2007) -> Path:
    sets = {"train": TRAIN, "val": VAL, "trainval": TRAIN | VAL, "test": TEST}
    everything = (*TRAIN, *VAL, *TEST)
    pictures(root, (f"VOCdevkit/VOC{year}/JPEGImages/{image}.jpg" for image in everything))
    return write(root, lists(year, sets))


def test_train_val_and_test_with_labels_of_three_kinds(tmp_path: Path) -> None:
    root = copy(tmp_path)
    text = (root / "VOCdevkit/VOC2007/ImageSets/Main/car_train.txt").read_text()
    assert text == "000002  1\n000005  0\n"
    data = protocol("voc2007").read(root)
    assert sides(data, data.splits[0]) == (
        ["000002", "000005"], ["000003"], ["000001", "000004", "000006"],
    )  # fmt: skip
    found = {item.key: dict(zip(CLASSES, item.labels, strict=True)) for item in data.items}
    for image, shown in (TRAIN | VAL | TEST).items():
        assert found[image] == dict.fromkeys(CLASSES, -1) | shown
    assert data.items[0].path == "JPEGImages/000001.jpg"
    assert data.metrics == ("map_11pt", "map_all_point")


def test_what_difficult_is_in_training_is_the_protocols_choice(tmp_path: Path) -> None:
    root, car = copy(tmp_path), CLASSES.index("car")
    for name, expected in (("voc2007", 0), ("voc2007-vissl", -1)):
        data = protocol(name).read(root)
        number = [item.key for item in data.items].index("000005")
        assert data.targets()[number, car] == 0
        assert data.training_targets()[number, car] == expected
        assert data.targets()[number, car] == 0  # the test's labels stay as they are
        assert f"is {data.difficult} in training" in protocol(name).card.procedure


def test_an_image_of_difficult_cars_alone_is_no_false_alarm_for_cars(tmp_path: Path) -> None:
    data = protocol("voc2007").read(copy(tmp_path))
    split = data.splits[0]
    scores = [[0.0] * len(CLASSES) for _ in split.test]
    car = CLASSES.index("car")
    # The image of difficult cars is first, the one that counts second, no car last.
    for key, score in (("000006", 3.0), ("000001", 2.0), ("000004", 1.0)):
        row = [data.items[n].key for n in split.test].index(key)
        scores[row][car] = score
    assert evaluate(data, split, scores) == {"map_11pt": 1.0, "map_all_point": 1.0}


def test_2012_is_tested_on_val_or_has_a_test_without_labels(tmp_path: Path) -> None:
    root = copy(tmp_path, 2012)
    for file in (root / "VOCdevkit/VOC2012/ImageSets/Main").glob("*_test.txt"):
        file.unlink()
    data = protocol("voc2012").read(root)
    split = data.splits[0]
    assert {label for n in split.test for label in data.items[n].labels} == {0}
    with pytest.raises(InvalidParameter, match=r"voc2012: the test .* has no label"):
        evaluate(data, split, [[0.0] * 20] * 3)
    data = protocol("voc2012-val").read(root)
    assert sides(data, data.splits[0]) == (["000002", "000005"], [], ["000003"])
    assert verify(protocol("voc2012", classes=20, train=2, val=1, test=3, items=6), root).right


def test_where_only_trainval_is_there_it_trains(tmp_path: Path) -> None:
    root = copy(tmp_path)
    main = root / "VOCdevkit/VOC2007/ImageSets/Main"
    (main / "train.txt").unlink()
    data = protocol("voc2007").read(root)
    assert sides(data, data.splits[0])[:2] == (["000002", "000003", "000005"], [])
    found = verify(protocol("voc2007", train=3, val=0), root)
    assert found.faults == {Fault.MISSING_LISTS: ("ImageSets/Main/train.txt",)}


@pytest.mark.parametrize("inside", ["VOCdevkit/VOC2007", "VOCdevkit", ""])
def test_any_of_the_folders_around_may_be_named(inside: str, tmp_path: Path) -> None:
    copy(tmp_path)
    assert len(protocol("voc2007").read(tmp_path / inside).items) == 6


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("dog_val.txt", "", r"dog_val.txt: 1 images of val.txt have no label: 000003"),
        ("dog_val.txt", "000003 2\n", r"dog_val.txt:1: 000003 2: one label \(-1, 0, 1\)"),
        ("dog_val.txt", "000003\n", r"dog_val.txt:1: 1 columns; 2 are needed"),
        ("dog_val.txt", "000003 -1\n000009  1\n", r"dog_val.txt:2: 000009 1: one label"),
        ("dog_val.txt", "000003 -1\n000003  1\n", r"dog_val.txt:2: 000003 1: one label"),
        ("dog_val.txt", b"\xff\xfe", r"dog_val.txt: not UTF-8"),
        ("val.txt", "000003\n000002\n", r"have no label"),
        ("val.txt", "000003 1\n", r"val.txt:1: 2 columns; 1 are needed"),
        ("dog_val.txt", None, r"missing files: ImageSets/Main/dog_val\.txt"),
    ],
)
def test_a_damaged_list_is_refused_with_its_line(
    name: str, content: str | bytes | None, told: str, tmp_path: Path
) -> None:
    root = copy(tmp_path)
    main = root / "VOCdevkit/VOC2007/ImageSets/Main"
    if content is None:
        (main / name).unlink()
    else:
        write(main, {name: content})
    with pytest.raises(InvalidParameter, match=told):
        protocol("voc2007").read(root)
    found = verify(protocol("voc2007"), root)
    assert not found.right
    assert re.search(told, " ".join(found.sentences(50)))


def test_all_faults_of_a_copy_are_told_at_once(tmp_path: Path) -> None:
    root = copy(tmp_path)
    base = root / "VOCdevkit/VOC2007"
    for cls in CLASSES[:7]:
        (base / f"ImageSets/Main/{cls}_test.txt").unlink()
    (base / "JPEGImages/000004.jpg").unlink()
    write(base, {"ImageSets/Main/trainval.txt": "000002\n000003\n"})
    right = {"classes": 20, "train": 2, "val": 1, "test": 4, "items": 6}
    found = verify(protocol("voc2007", **right), root)
    assert found.sentences(2) == [
        ("missing files: ImageSets/Main/aeroplane_test.txt, ImageSets/Main/bicycle_test.txt and "
        "5 more"),
        "missing images: JPEGImages/000004.jpg",
        ("lists that cannot be read as they are: ImageSets/Main/trainval.txt: not train.txt and "
        "val.txt: 000005 ..."),
        "wrong counts: 3 test (official: 4)",
    ]  # fmt: skip


def test_a_missing_list_of_images_is_one_fault_and_no_flood(tmp_path: Path) -> None:
    root = copy(tmp_path)
    (root / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").unlink()
    (root / "VOCdevkit/VOC2007/ImageSets/Main/dog_test.txt").unlink()
    assert verify(protocol("voc2007", test=0), root).faults == {
        Fault.MISSING_LISTS: ("ImageSets/Main/test.txt", "ImageSets/Main/dog_test.txt")
    }


def test_a_right_copy_is_right_and_a_read_one_survives_json(tmp_path: Path) -> None:
    root = copy(tmp_path)
    right = {"classes": 20, "train": 2, "val": 1, "test": 3, "items": 6}
    assert verify(protocol("voc2007", **right), root).faults == {}
    data = protocol("voc2007").read(root)
    assert type(data).model_validate_json(data.model_dump_json()) == data


def test_the_real_491_images_have_the_labels_of_their_annotations(shared_data: Path) -> None:
    root = shared_data / "data" / "voc2012-mini"
    data = protocol("voc2012").read(root)
    (split,) = data.splits
    assert (len(split.train), len(split.val), len(split.test)) == (300, 0, 191)
    base = protocol("voc2012").locate(root)
    for item in data.items:
        # This copy annotates what is not difficult, and nothing else.
        shown = {found.name for found in read_objects(base / f"Annotations/{item.key}.xml")}
        assert {c for c, label in zip(CLASSES, item.labels, strict=True) if label == 1} == shown
        assert (base / item.path).is_file()
    found = verify(protocol("voc2012"), root)
    assert found.faults[Fault.MISSING_LISTS] == (
        "ImageSets/Main/train.txt", "ImageSets/Main/val.txt",
    )  # fmt: skip
