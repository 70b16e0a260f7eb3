"""CUB-200-2011 birds: the official split, on the annotated boxes, the parts or the whole image."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from offshelf.datasets.protocols.interface import Card, Item, Published, Region, Split, register
from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from offshelf.core.boxes import Box
    from offshelf.datasets.protocols.interface import Description
    from offshelf.datasets.protocols.tree import Tree

Cut = Literal["box", "parts", "image"]
Point = tuple[float, float]
T = TypeVar("T")

BOX_SCALE: Final = 1.5
# Of the 15 official parts, those that make the two regions of part-based bird papers.
PARTS: Final = {
    "head": ("beak", "crown", "forehead", "left eye", "nape", "right eye", "throat"),
    "body": (
        "back", "belly", "breast", "left leg", "left wing", "right leg", "right wing", "tail",
    ),
}  # fmt: skip
# A part is a point, so its region's box needs a margin: this share of the bird's longer side.
PART_MARGIN: Final = 0.1

DECAF: Final = "Donahue et al. 2013, arXiv:1310.1531v1"
RAZAVIAN: Final = "Razavian et al. 2014, CVPR Workshops"
FILES: Final = (
    "classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt",
    "bounding_boxes.txt",
)  # fmt: skip


def read(cut: Cut, card: Card, tree: Tree) -> Description:
    """Read the official tables, which all begin with the image's id."""
    tree.expect(*FILES, "parts/parts.txt", "parts/part_locs.txt")
    classes = {row[0]: row[1] for _, row in tree.rows("classes.txt", 2)}
    paths = {row[0]: row[1] for _, row in tree.rows("images.txt", 2)}
    if not classes or not paths:  # and every line of the other tables would be a fault
        raise InvalidParameter(f"{card.name}: no image or class is named")
    names = sorted(classes.values())
    label_of = {key: names.index(classes[key]) for key in classes}
    labels = dict(_column(tree, "image_class_labels.txt", paths, label_of))
    trains = dict(_column(tree, "train_test_split.txt", paths, {"0": False, "1": True}))
    regions = {} if cut == "image" else _regions(tree, paths, cut)
    wanted = [image for image in paths if image in labels and image in trains]
    if cut != "image":
        wanted = [image for image in wanted if image in regions]
    wanted.sort(key=lambda image: paths[image])
    items = [
        Item(
            key=paths[image],
            path=f"images/{paths[image]}",
            labels=(labels[image],),
            regions=tuple(regions.get(image, ())),
        )
        for image in wanted
    ]
    train, test = (
        tuple(n for n, image in enumerate(wanted) if trains[image] is side)
        for side in (True, False)
    )
    return card.describe(tuple(names), items, [Split(name="official", train=train, test=test)])


def enlarged(box: Box, scale: float) -> Box:
    """The box of `scale` times the width and height about the same centre."""
    left, top, right, bottom = box
    across, down = (right - left) * (scale - 1) / 2, (bottom - top) * (scale - 1) / 2
    return left - across, top - down, right + across, bottom + down


def part_box(points: Sequence[Point], margin: float) -> Box:
    """The box around points, `margin` pixels wider on every side."""
    across, down = zip(*points, strict=True)
    return min(across) - margin, min(down) - margin, max(across) + margin, max(down) + margin


def _column(
    tree: Tree, path: str, images: dict[str, str], meaning: dict[str, T]
) -> Iterator[tuple[str, T]]:
    """(image id, what the second column means) of a table; all images must be in it."""
    seen = set()
    for place, (image, value) in tree.rows(path, 2):
        if image not in images:
            tree.broken(place, f"image {image} is not in images.txt")
        elif value not in meaning:
            tree.broken(place, f"{value!r} is none of the known values")
        else:
            seen.add(image)
            yield image, meaning[value]
    _check_all(tree, path, images, seen)


def _regions(tree: Tree, images: dict[str, str], cut: Cut) -> dict[str, list[Region]]:
    boxes = dict(_boxes(tree, images))
    regions = {
        image: [Region(name="object", box=enlarged(box, BOX_SCALE))] for image, box in boxes.items()
    }
    if cut == "parts":
        for image, points in _points(tree, images).items():
            if image in boxes:
                regions[image] += _part_regions(points, boxes[image])
    return regions


def _boxes(tree: Tree, images: dict[str, str]) -> Iterator[tuple[str, Box]]:
    """(image id, box); the file gives left, top, width and height."""
    seen = set()
    for place, (image, *numbers) in tree.rows("bounding_boxes.txt", 5):
        values = _floats(tree, place, numbers)
        if values is None:
            continue
        left, top, width, height = values
        if image in images and width > 0 and height > 0:
            seen.add(image)
            yield image, (left, top, left + width, top + height)
        else:
            tree.broken(place, "a box of an unknown image, or of no size")
    _check_all(tree, "bounding_boxes.txt", images, seen)


def _points(tree: Tree, images: dict[str, str]) -> dict[str, dict[str, Point]]:
    """For each image the places of the parts that are in sight."""
    name_of = {}
    for place, line in tree.lines("parts/parts.txt"):
        number, _, name = line.partition(" ")
        if any(name in group for group in PARTS.values()):
            name_of[number] = name
        else:
            tree.broken(place, f"{line[:80]!r} is none of the 15 parts")
    found: dict[str, dict[str, Point]] = defaultdict(dict)
    for place, (image, part, *numbers) in tree.rows("parts/part_locs.txt", 5):
        values = _floats(tree, place, numbers)
        if values is None:
            continue
        if image not in images or part not in name_of:
            tree.broken(place, f"image {image} or part {part} is not known")
        elif values[2]:
            found[image][name_of[part]] = values[0], values[1]
    return found


def _part_regions(points: dict[str, Point], bird: Box) -> Iterator[Region]:
    margin = PART_MARGIN * max(bird[2] - bird[0], bird[3] - bird[1])
    for name, parts in PARTS.items():
        seen = [points[part] for part in parts if part in points]
        if seen:
            yield Region(name=name, box=part_box(seen, margin))


def _floats(tree: Tree, place: str, numbers: Sequence[str]) -> list[float] | None:
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = [math.nan]
    if all(map(math.isfinite, values)):
        return values
    tree.broken(place, f"{' '.join(numbers)[:80]!r} are not numbers")
    return None


def _check_all(tree: Tree, path: str, images: dict[str, str], seen: Iterable[str]) -> None:
    absent = images.keys() - set(seen)
    if absent and tree.has(path):
        first = min(absent, key=lambda image: images[image])
        tree.broken(path, f"{len(absent)} images are not in it, the first is {images[first]}")


def _card(name: str, title: str, procedure: str, rows: tuple[Published, ...]) -> Card:
    return Card(
        name=name,
        title=title,
        source="Wah et al. 2011, CUB-200-2011",
        layout=("images/<class>/<image>.jpg", *FILES, "parts/parts.txt", "parts/part_locs.txt"),
        procedure=procedure,
        metrics=("accuracy", "mean_class_accuracy"),
        splits=1,
        counts={"classes": 200, "items": 11_788, "image files": 11_788,
                "train": 5_994, "val": 0, "test": 5_794},
        surprises=(
            "Some images are grey; they are read as three equal channels.",
            "The annotated box is used for test images too, as in DeCAF and Razavian et al.",
            ("DeCAF's 64.96 is DPD's, whose part boxes a detector finds. Boxes from annotated part "
            "locations are another, easier task: the two never stand in one table."),
        ),
        published=rows,
    )  # fmt: skip


def _row(source: str, method: str, value: float, note: str = "") -> Published:
    return Published(method=method, value=value, metric="accuracy", source=source, note=note)


INSIDE: Final = ("CUB_200_2011",)
# Of the lists, those whose names are nobody else's.
MARKS: Final = ("image_class_labels.txt", "train_test_split.txt")

register(
    _card(
        "cub200",
        "CUB-200-2011, annotated boxes",
        f"official split; each bird's annotated box, {BOX_SCALE} times as wide and high",
        (
            _row(DECAF, "DeCAF6, logistic regression", 58.75),
            _row(RAZAVIAN, "OverFeat, SVM (CNN-SVM)", 53.3, "box enlarged 'by 150 %'"),
            _row(RAZAVIAN, "OverFeat, augmented (CNNaug-SVM)", 61.8, "box enlarged 'by 150 %'"),
        ),
    ),
    partial(read, "box"),
    INSIDE,
    complete=True,
    marks=MARKS,
)
register(
    _card(
        "cub200-parts",
        "CUB-200-2011, ground-truth parts",
        f"official split; the box, and boxes around the annotated points of head and body with a "
        f"margin of {PART_MARGIN} of the bird's longer side; a part out of sight has no box. No "
        "paper's figure is comparable",
        (),
    ),
    partial(read, "parts"),
    INSIDE,
    complete=True,
    marks=MARKS,
)
register(
    _card("cub200-image", "CUB-200-2011, whole images", "official split; no annotation used", ()),
    partial(read, "image"),
    INSIDE,
    complete=True,
    marks=MARKS,
)
