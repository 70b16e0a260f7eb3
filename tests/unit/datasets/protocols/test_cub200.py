"""CUB-200: tables joined by image id, enlarged boxes, ground-truth parts, grey images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offshelf.datasets.protocols.cub200 import enlarged, part_box
from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.verification import verify
from offshelf.engine.decode import Limits, decode
from offshelf.errors import InvalidParameter
from tests.unit.datasets.protocols.copies import jpeg, pictures, protocol, sides, write

if TYPE_CHECKING:
    from pathlib import Path

PARTS = (
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg", "left wing",
    "nape", "right eye", "right leg", "right wing", "tail", "throat",
)  # fmt: skip
# Ids are not in the order of names, nor are they in the official files.
IMAGES = {
    "1": "002.Laysan_Albatross/b.jpg",
    "2": "001.Black_footed_Albatross/z.jpg",
    "3": "001.Black_footed_Albatross/a.jpg",
}
TABLES = {
    "classes.txt": "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n",
    "images.txt": "".join(f"{i} {path}\n" for i, path in IMAGES.items()),
    "image_class_labels.txt": "1 2\n2 1\n3 1\n",
    "train_test_split.txt": "1 1\n2 0\n3 1\n",
    "bounding_boxes.txt": "1 60.0 27.0 40.0 20.0\n2 0.0 1.5 10.0 10.0\n3 5.0 5.0 100.0 50.0\n",
    "parts/parts.txt": "".join(f"{n} {name}\n" for n, name in enumerate(PARTS, 1)),
    "parts/part_locs.txt": "".join(
        f"{image} {n} {10.0 * n} {5.0 * n} {int(image != '2' and (image, n) != ('1', 2))}\n"
        for image in IMAGES
        for n in range(1, 16)
    ),
}
BASE = "CUB_200_2011"
RIGHT = {"classes": 2, "items": 3, "image_files": 3, "train": 2, "val": 0, "test": 1}


def copy(root: Path) -> Path:
    pictures(root / BASE, (f"images/{path}" for path in IMAGES.values()))
    write(root / BASE, {f"images/{IMAGES['2']}": jpeg("L")})
    write(root / BASE, TABLES)
    return root


def test_tables_are_joined_and_boxes_enlarged(tmp_path: Path) -> None:
    data = protocol("cub200").read(copy(tmp_path))
    assert data.classes == ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    assert sides(data, data.splits[0]) == ([IMAGES["3"], IMAGES["1"]], [], [IMAGES["2"]])
    found = {item.key: item for item in data.items}
    assert {key: item.labels for key, item in found.items()} == {
        IMAGES["1"]: (1,), IMAGES["2"]: (0,), IMAGES["3"]: (0,),
    }  # fmt: skip
    (region,) = found[IMAGES["1"]].regions
    # 40 x 20 at (60, 27) about (80, 37): 60 x 30.
    assert (region.name, region.box) == ("object", (50.0, 22.0, 110.0, 52.0))
    # It may reach outside: who cuts it decides what is there.
    assert found[IMAGES["2"]].regions[0].box == (-2.5, -1.0, 12.5, 14.0)
    assert verify(protocol("cub200", **RIGHT), tmp_path).faults == {}


def test_a_grey_image_is_read_as_three_equal_channels(tmp_path: Path) -> None:
    data = protocol("cub200-image").read(copy(tmp_path))
    (number,) = data.splits[0].test
    file = tmp_path / BASE / data.items[number].path
    image = decode(file.read_bytes(), Limits(max_bytes=10**6, max_pixels=10**6))
    assert image.mode == "RGB"
    assert len(set(image.getpixel((0, 0)))) == 1
    assert data.items[number].regions == ()


def test_parts_are_boxes_about_the_points_in_sight(tmp_path: Path) -> None:
    data = protocol("cub200-parts").read(copy(tmp_path))
    found = {item.key: {r.name: r.box for r in item.regions} for item in data.items}
    # Head points are 5, 6, 7, 10, 11, 15 (and 2, out of sight in image 1); margin 0.1 x 40.
    assert found[IMAGES["1"]]["head"] == (46.0, 21.0, 154.0, 79.0)
    assert found[IMAGES["3"]]["head"] == (10.0, 0.0, 160.0, 85.0)
    assert found[IMAGES["1"]]["body"] == (6.0, 1.0, 144.0, 74.0)
    assert list(found[IMAGES["2"]]) == ["object"]  # no part is in sight


def test_the_figure_of_detected_parts_stands_nowhere_in_the_tables() -> None:
    for name in ("cub200", "cub200-parts", "cub200-image"):
        assert 64.96 not in [row.value for row in protocol(name).card.published]
    assert protocol("cub200-parts").card.published == ()
    assert next(row.value for row in protocol("cub200").card.published) == 58.75


def test_boxes_by_hand() -> None:
    assert enlarged((0, 0, 10, 20), 1.5) == (-2.5, -5, 12.5, 25)
    assert enlarged((3, 4, 5, 6), 1) == (3, 4, 5, 6)
    assert part_box([(3, 9), (7, 2)], 1) == (2, 1, 8, 10)


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("image_class_labels.txt", "1 2\n2 1\n", r"1 images are not in it, the first is 001"),
        ("image_class_labels.txt", "1 2\n2 1\n3 7\n", "'7' is none of the known values"),
        ("image_class_labels.txt", "1 2\n2 1\n3 1\n4 1\n", "image 4 is not in images"),
        ("train_test_split.txt", "1 1\n2 0\n3 yes\n", "'yes' is none"),
        ("bounding_boxes.txt", "1 1 1 1 x\n", "'1 1 1 x' are not numbers"),
        ("bounding_boxes.txt", "1 1 1 nan 5\n", "'1 1 nan 5' are not numbers"),
        ("bounding_boxes.txt", "1 1 1 0 5\n", "of no size"),
        ("bounding_boxes.txt", "1 1 1 5\n", "4 columns; 5 are needed"),
        ("parts/parts.txt", "1 antler\n", "'1 antler' is none of the 15 parts"),
        ("parts/part_locs.txt", "1 99 0 0 1\n", "part 99 is not known"),
        ("parts/part_locs.txt", None, r"missing files: parts/part_locs\.txt"),
        ("images.txt", None, r"missing files: images\.txt"),
        ("images/" + IMAGES["1"], None, r"missing images: images/002"),
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
        protocol("cub200-parts").read(root)
    assert not verify(protocol("cub200-parts", **RIGHT), root).right


@pytest.mark.parametrize("path", ["images.txt", "classes.txt"])
def test_a_missing_main_table_is_no_flood(path: str, tmp_path: Path) -> None:
    root = copy(tmp_path)
    (root / BASE / path).unlink()
    assert verify(protocol("cub200", **RIGHT), root).faults == {
        Fault.MISSING_LISTS: (path,),
        Fault.BROKEN_LISTS: ("cub200: no image or class is named",),
    }


def test_an_image_that_no_table_names_is_told(tmp_path: Path) -> None:
    root = copy(tmp_path)
    pictures(root / BASE, ["images/003.Sooty_Albatross/x.jpg"])
    (root / BASE / "parts/parts.txt").unlink()
    found = verify(protocol("cub200", **RIGHT), root)
    assert found.faults == {
        Fault.MISSING_LISTS: ("parts/parts.txt",),
        Fault.EXTRA_IMAGES: ("images/003.Sooty_Albatross/x.jpg",),
        Fault.COUNTS: ("4 image files (official: 3)",),
    }
