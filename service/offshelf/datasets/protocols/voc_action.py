"""Pascal VOC 2012 action classification: what a person, given by a box, does in still images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from offshelf.datasets.protocols.interface import (
    Card,
    Item,
    Published,
    Region,
    Split,
    register,
)
from offshelf.datasets.protocols.tree import Fault
from offshelf.datasets.protocols.voc_annotation import read_objects
from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from offshelf.datasets.protocols.interface import Description
    from offshelf.datasets.protocols.tree import Tree
    from offshelf.datasets.protocols.voc_annotation import VocObject

Person = tuple[str, int]  # image id, number of the object in its annotation from 1
Labels = dict[Person, list[int]]

CLASSES: Final = tuple(
    """jumping phoning playinginstrument reading ridingbike ridinghorse running takingphoto
    usingcomputer walking""".split()  # noqa: SIM905  # a list as the devkit has it
)
ACTION: Final = "ImageSets/Action"
OQUAB: Final = "Oquab et al. 2014, CVPR"
VGG: Final = "Simonyan and Zisserman 2014, arXiv:1409.1556v6, table 12"


def read(held_out: str, card: Card, tree: Tree) -> Description:
    """Read the lists of `ImageSets/Action` and the people's boxes from the annotations.

    Tested on val, train alone trains; tested on test, train trains and val chooses.
    """
    if held_out == "val":
        sides = {"train": "train", "val": "", "test": "val"}
    else:
        sides = {"train": "train", "val": "val", "test": "test"}
    labels = {
        side: _labels(tree, name, needed=name != "test") if name else {}
        for side, name in sides.items()
    }
    boxed = _items(tree, labels)
    tree.counts["images of train and val"] = _images(labels["train"], labels["val"])
    tree.counts["images of test"] = _images(labels["test"])
    train, val, test = (
        tuple(n for n, (where, _) in enumerate(boxed) if where == side) for side in sides
    )
    split = Split(name=f"{sides['train']}/{sides['test']}", train=train, val=val, test=test)
    return card.describe(CLASSES, [item for _, item in boxed], [split])


def _labels(tree: Tree, name: str, *, needed: bool) -> Labels:
    """The labels of a set's people; all 0 where its classes' lists lack and are not needed."""
    paths = [f"{ACTION}/{cls}_{name}.txt" for cls in CLASSES]
    if not needed and not any(tree.has(path) for path in paths):
        people = _people(tree, f"{ACTION}/{name}.txt", 2)
        return {person: [0] * len(CLASSES) for _, person, _ in people}
    found: Labels = {}
    reference = tree.first(*paths)
    for number, path in enumerate(paths):
        seen = set()
        for place, person, cells in _people(tree, path, 3):
            strange = path != reference and person not in found
            if strange or person in seen or cells[2] not in ("-1", "0", "1"):
                where = reference.rpartition("/")[2]
                what = f"{' '.join(cells)}: one label (-1, 1) of each person of {where}"
                tree.broken(place, what)
                continue
            seen.add(person)
            found.setdefault(person, [0] * len(CLASSES))[number] = int(cells[2])
        absent = [person for person in found if person not in seen]
        if absent and tree.has(path):
            image, index = absent[0]
            tree.broken(path, f"{len(absent)} people have no label: {image} {index} ...")
    return found


def _people(tree: Tree, path: str, columns: int) -> list[tuple[str, Person, list[str]]]:
    """(place, person, cells) of a list whose lines begin with image and object."""
    people = []
    for place, cells in tree.rows(path, columns):
        if cells[1].isdecimal() and int(cells[1]) > 0:
            people.append((place, (cells[0], int(cells[1])), cells))
        else:
            tree.broken(place, f"object {cells[1][:80]!r}; objects are numbered from 1")
    return people


def _items(tree: Tree, labels: dict[str, Labels]) -> list[tuple[str, Item]]:
    """(side, item) of all people in order, each with its box."""
    images: dict[str, tuple[VocObject, ...]] = {}
    found = []
    for side, people in labels.items():
        for image, index in people:
            if image not in images:
                images[image] = _objects(tree, image)
            if 0 < index <= len(images[image]):
                item = Item(
                    key=f"{image}/{index}",
                    path=f"JPEGImages/{image}.jpg",
                    labels=tuple(people[image, index]),
                    regions=(Region(name="person", box=images[image][index - 1].box),),
                )
                found.append((image, index, side, item))
            elif images[image]:
                tree.broken(
                    f"Annotations/{image}.xml",
                    f"{len(images[image])} objects; a list of {side} names object {index}",
                )
    return [(side, item) for *_, side, item in sorted(found, key=lambda row: row[:3])]


def _images(*sides: Labels) -> int:
    return len({image for side in sides for image, _ in side})


def _objects(tree: Tree, image: str) -> tuple[VocObject, ...]:
    path = f"Annotations/{image}.xml"
    if "/" in image or "\\" in image:
        tree.broken(path, "an image's id is no path")
        return ()
    if not tree.has(path):
        tree.fault(Fault.MISSING_LISTS, [path])
        return ()
    try:
        return read_objects(tree.root / path)
    except InvalidParameter as error:
        tree.broken(path, str(error))
        return ()


def _card(
    name: str, title: str, procedure: str, counts: dict[str, int], rows: tuple[Published, ...]
) -> Card:
    return Card(
        name=name,
        title=title,
        source="Everingham et al., Pascal VOC 2012 devkit",
        layout=(
            "VOCdevkit/VOC2012/JPEGImages/<id>.jpg",
            "VOCdevkit/VOC2012/Annotations/<id>.xml",
            f"VOCdevkit/VOC2012/{ACTION}/<class>_<set>.txt",
        ),
        procedure=f"{procedure}; a sample is a person's box",
        metrics=("map_all_point",),
        multi_label=True,
        splits=1,
        counts={"classes": len(CLASSES), **counts},
        surprises=(
            (
                "An image may have several people: a sample's key is image and object, numbered "
                "from 1 among all objects of the annotation."
            ),
            "A person may do several things at once; who does none ('other') is a negative of all.",
            (
                "Oquab et al. leave people who do several things out of training, and cut a square "
                "about the box, mirrored beyond the image."
            ),
            "The test's labels are not published: without them there is no score.",
        ),
        published=rows,
    )


def _row(source: str, method: str, value: float) -> Published:
    return Published(method=method, value=value, metric="map_all_point", source=source)


INSIDE: Final = ("VOCdevkit/VOC2012", "VOC2012")

register(
    _card(
        "voc2012-action",
        "Pascal VOC 2012 action classification",
        "train trains, val chooses the parameters, both train the final head, test is tested",
        {"images of train and val": 4588, "images of test": 4569},
        (
            _row(OQUAB, "no pre-training", 49.7),
            _row(OQUAB, "PRE-1512", 68.4),
            _row(OQUAB, "PRE-1512U (FC6 and FC7 trained too)", 70.2),
            _row(VGG, "VGG-16 and VGG-19, image", 79.2),
            _row(VGG, "VGG-16 and VGG-19, image and box", 84.0),
        ),
    ),
    partial(read, "test"),
    INSIDE,
    marks=(ACTION,),
)
register(
    _card(
        "voc2012-action-val",
        "Pascal VOC 2012 action classification, tested on val",
        "train trains, val is tested; the papers test on test, so no row is comparable",
        {},
        (),
    ),
    partial(read, "val"),
    INSIDE,
    marks=(ACTION,),
)
