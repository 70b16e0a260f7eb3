"""Tables of one's own: one label or many, a split, boxes, and what is wrong in which line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.verification import verify
from offshelf.errors import InvalidParameter
from tests.unit.datasets.protocols.copies import pictures, protocol, sides, write

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.datasets.protocols.interface import Description


def read(root: Path, table: str | bytes) -> Description:
    pictures(root, ["a.jpg", "b c.jpg"])
    write(root, {"labels.csv": table})
    return protocol("csv").read(root)


@pytest.mark.parametrize("table", [
    "path,label\nb c.jpg,dog\na.jpg,cat\n",
    "\ufeffLabel, Path \r\ndog,\"b c.jpg\"\r\ncat,a.jpg",
    "file,label,note\na.jpg,cat,\"x, y\"\nb c.jpg,dog,\n",
])  # fmt: skip
def test_one_label(table: str, tmp_path: Path) -> None:
    data = read(tmp_path, table)
    assert (data.classes, data.multi_label) == (("cat", "dog"), False)
    assert [(item.key, item.labels) for item in data.items] == [("a.jpg", (0,)), ("b c.jpg", (1,))]
    assert sides(data, data.splits[0]) == (["a.jpg", "b c.jpg"], [], [])
    assert verify(protocol("csv"), tmp_path).right


def test_many_labels_some_of_which_do_not_count(tmp_path: Path) -> None:
    table = "path,labels,split\na.jpg,dog; ?cat,test\nb c.jpg,,train\n"
    data = read(tmp_path, table)
    assert (data.classes, data.multi_label) == (("cat", "dog"), True)
    assert data.targets().tolist() == [[0, 1], [-1, -1]]
    assert data.metrics == ("map_all_point", "map_11pt")
    assert sides(data, data.splits[0]) == (["b c.jpg"], [], ["a.jpg"])


def test_boxes_make_several_samples_of_an_image(tmp_path: Path) -> None:
    rows = "a.jpg,cat,1,2,3.5,4\na.jpg,dog,0,0,5,5\na.jpg,cat,,,,\n"
    data = read(tmp_path, f"path,label,left,top,right,bottom\n{rows}")
    assert [item.key for item in data.items] == ["a.jpg#1", "a.jpg#2", "a.jpg#3"]
    assert [[region.box for region in item.regions] for item in data.items] == [
        [(1, 2, 3.5, 4)], [(0, 0, 5, 5)], [],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("", "columns ; path and label are needed"),
        ("image,class\na.jpg,cat\n", "columns image, class; path and label are needed"),
        ("path,label\na.jpg\n", r"labels\.csv:2: 1 columns; the first line has 2"),
        ("path,label\n\na.jpg,\n", r"labels\.csv:3: needs a path, a label"),
        ("path,label,split\na.jpg,cat,holdout\n", "a split of train, val or test"),
        ('path,label\na.jpg,"ca"t\n', r"labels\.csv:2: "),
        ("path,label,left,top,right,bottom\na.jpg,cat,1,2,x,4\n", "not four numbers"),
        ("path,label,left,top,right,bottom\na.jpg,cat,1,2,1,4\n", "has no size"),
        ("path,label,left,top,right,bottom\na.jpg,cat,1,2,inf,4\n", "no end"),
        ("path,label\nz.jpg,cat\n", r"missing images: z\.jpg"),
        ("path,label\n../a.jpg,cat\n", r"missing images: \.\./a\.jpg"),
        (b"path,label\na.jpg,\xe9\n", "not UTF-8"),
        ("path,label\n" + "x" * 200_000 + ",cat\n", "field larger than field limit"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(
    table: str | bytes, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidParameter, match=told):
        read(tmp_path, table)
    assert not verify(protocol("csv"), tmp_path).right


def test_all_bad_lines_are_told(tmp_path: Path) -> None:
    write(tmp_path, {"labels.csv": "path,label\na.jpg,cat\nb.jpg\nc.jpg,\n"})
    assert verify(protocol("csv"), tmp_path).faults == {
        Fault.MISSING_IMAGES: ("a.jpg",),
        Fault.BROKEN_LISTS: (
            "labels.csv:3: 1 columns; the first line has 2",
            "labels.csv:4: needs a path, a label and a split of train, val or test",
        ),
    }


def test_the_table_of_the_real_samples_wants_a_label_column(shared_data: Path) -> None:
    """That one calls its columns otherwise, and is told what they should be called."""
    with pytest.raises(InvalidParameter, match=r"class_index, wnid, name; path and label"):
        protocol("csv").read(shared_data / "data" / "imagenet-samples")
