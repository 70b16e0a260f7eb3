"""VOC actions: people by image and object number, their boxes, and what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.verification import verify
from offshelf.datasets.protocols.voc_action import CLASSES
from offshelf.errors import InvalidParameter
from tests.unit.datasets.protocols.copies import pictures, protocol, sides, write

if TYPE_CHECKING:
    from pathlib import Path

BASE = "VOCdevkit/VOC2012"
# (image, number of the object) -> what the person does. Object 1 of 2010_2 is a dog.
TRAIN = {("2010_1", 1): {"running"}, ("2010_1", 2): {"phoning", "walking"}}
VAL = {("2010_2", 2): {"ridinghorse"}}
TEST = {("2011_1", 1): {"jumping"}, ("2011_1", 10): set[str](), ("2011_1", 2): {"jumping"}}
OBJECTS = {"2010_1": ["person"] * 2, "2010_2": ["dog", "person"], "2011_1": ["person"] * 10}


def annotation(names: list[str]) -> str:
    """Object n has its left edge at pixel 10 n + 1."""
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{10 * n + 1}</xmin><ymin>1</ymin>"
        f"<xmax>{10 * n + 5}.5</xmax><ymax>9</ymax></bndbox></object>"
        for n, name in enumerate(names, 1)
    )
    return f"<annotation>{objects}</annotation>"


def copy(root: Path, *, test_labels: bool = True) -> Path:
    """As the devkit writes the lists: image, object and label, `other` among the classes."""
    files = {f"{BASE}/Annotations/{image}.xml": annotation(n) for image, n in OBJECTS.items()}
    for name, people in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        lines = [f"{image} {index:>2}" for image, index in people]
        files[f"{BASE}/ImageSets/Action/{name}.txt"] = "\n".join(lines) + "\n"
        if name == "test" and not test_labels:
            continue
        for cls in (*CLASSES, "other"):
            labels = [1 if cls in does else -1 for does in people.values()]
            files[f"{BASE}/ImageSets/Action/{cls}_{name}.txt"] = "".join(
                f"{line} {label:>2}\n" for line, label in zip(lines, labels, strict=True)
            )
    pictures(root, (f"{BASE}/JPEGImages/{image}.jpg" for image in OBJECTS))
    return write(root, files)


def test_a_sample_is_a_person_with_its_box(tmp_path: Path) -> None:
    data = protocol("voc2012-action").read(copy(tmp_path))
    assert data.classes == CLASSES
    assert sides(data, data.splits[0]) == (
        ["2010_1/1", "2010_1/2"], ["2010_2/2"], ["2011_1/1", "2011_1/2", "2011_1/10"],
    )  # fmt: skip
    for item in data.items:
        image, _, index = item.key.partition("/")
        does = (TRAIN | VAL | TEST)[image, int(index)]
        assert item.path == f"JPEGImages/{image}.jpg"
        assert {c for c, label in zip(CLASSES, item.labels, strict=True) if label == 1} == does
        assert set(item.labels) <= {-1, 1}
        (region,) = item.regions
        assert (region.name, region.box) == (
            "person", (10 * int(index), 0, 10 * int(index) + 5.5, 9),
        )  # fmt: skip


def test_people_whose_labels_are_not_published_are_there_without(tmp_path: Path) -> None:
    root = copy(tmp_path, test_labels=False)
    data = protocol("voc2012-action").read(root)
    test = [data.items[n] for n in data.splits[0].test]
    assert [item.key for item in test] == ["2011_1/1", "2011_1/2", "2011_1/10"]
    assert {label for item in test for label in item.labels} == {0}
    data = protocol("voc2012-action-val").read(root)
    assert sides(data, data.splits[0]) == (["2010_1/1", "2010_1/2"], [], ["2010_2/2"])
    right = protocol("voc2012-action", classes=10, images_of_train_and_val=2, images_of_test=1)
    assert verify(right, root).faults == {}


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("ImageSets/Action/running_val.txt", "2010_2 0 -1\n", "objects are numbered from 1"),
        ("ImageSets/Action/running_val.txt", "2010_2 x -1\n", "object 'x'"),
        ("ImageSets/Action/running_val.txt", "2010_2  2  5\n", "2010_2 2 5: one label"),
        ("ImageSets/Action/running_val.txt", "2010_2 -1\n", "2 columns; 3 are needed"),
        ("ImageSets/Action/running_val.txt", "2010_9  1 -1\n", r"each person of jumping_val\.txt"),
        ("ImageSets/Action/jumping_val.txt", "2010_2 2 1\n" * 2, ":2: 2010_2 2 1: one label"),
        ("ImageSets/Action/running_val.txt", "", "1 people have no label: 2010_2 2"),
        ("ImageSets/Action/running_val.txt", None, r"missing files: .*running_val\.txt"),
        ("Annotations/2010_2.xml", None, r"missing files: Annotations/2010_2\.xml"),
        ("Annotations/2010_2.xml", "<annotation>", "not a readable annotation"),
        ("Annotations/2010_2.xml", annotation(["person"]), "1 objects; a list of val names"),
        ("JPEGImages/2010_2.jpg", None, r"missing images: JPEGImages/2010_2\.jpg"),
    ],
)
def test_a_damaged_copy_is_refused_and_told(
    path: str, content: str | None, told: str, tmp_path: Path
) -> None:
    root = copy(tmp_path)
    if content is None:
        (root / BASE / path).unlink()
    else:
        write(root / BASE, {path: content})
    with pytest.raises(InvalidParameter, match=told):
        protocol("voc2012-action").read(root)
    assert not verify(protocol("voc2012-action"), root).right


def test_a_missing_list_of_the_first_class_is_one_fault_and_no_flood(tmp_path: Path) -> None:
    root = copy(tmp_path)
    (root / BASE / f"ImageSets/Action/{CLASSES[0]}_val.txt").unlink()
    right = protocol("voc2012-action", classes=10, images_of_train_and_val=2, images_of_test=1)
    assert verify(right, root).faults == {
        Fault.MISSING_LISTS: (f"ImageSets/Action/{CLASSES[0]}_val.txt",)
    }


def test_a_list_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    root = copy(tmp_path)
    write(root, {"secret.xml": annotation(["person"])})
    for cls in CLASSES:
        write(root / BASE, {f"ImageSets/Action/{cls}_val.txt": "../../../secret 1 -1\n"})
    with pytest.raises(InvalidParameter, match="an image's id is no path"):
        protocol("voc2012-action-val").read(root)
    assert Fault.BROKEN_LISTS in verify(protocol("voc2012-action-val"), root).faults
