"""SUN397: ten official partitions of 50 training and 50 test images a class."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from offshelf.datasets.protocols.drawing import by_class, random_split
from offshelf.datasets.protocols.interface import Card, Item, Published, Split, register
from offshelf.datasets.protocols.tree import Fault
from offshelf.errors import InvalidParameter
from offshelf.schemas.heads import RandomSplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.datasets.protocols.interface import Description
    from offshelf.datasets.protocols.tree import Tree

PER_CLASS: Final = 50
DECAF: Final = "Donahue et al. 2013, arXiv:1310.1531v1"
BYOL: Final = "Grill et al. 2020, arXiv:2006.07733, table 3"
SCENES: Final = "as quoted by the Semantic-Aware-Scene-Recognition repository"


def read(partitions: int, val_per_class: int, card: Card, tree: Tree) -> Description:
    """Read the first so many partitions; images are those that any of them names."""
    classes = _classes(tree)
    if not classes:  # and every line of the partitions would be a fault
        raise InvalidParameter(f"{card.name}: ClassName.txt names no class")
    lists = {
        f"{side}_{number:02d}": _paths(tree, f"{side}_{number:02d}.txt", classes)
        for number in range(1, partitions + 1)
        for side in ("Training", "Testing")
    }
    paths = sorted({path for listed in lists.values() for path in listed})
    index = {name: number for number, name in enumerate(classes)}
    items = [Item(key=path, path=path, labels=(index[_class(path)],)) for path in paths]
    where = {path: number for number, path in enumerate(paths)}
    tree.counts["image files"] = len(tree.images())
    for name, listed in lists.items():
        _check_even(tree, name, listed, classes)
    splits = []
    for number in range(1, partitions + 1):
        train, test = (
            tuple(sorted(where[path] for path in lists[f"{side}_{number:02d}"]))
            for side in ("Training", "Testing")
        )
        split = Split(name=str(number), train=train, test=test)
        splits.append(_with_val(split, by_class(items, train, len(classes)), number, val_per_class))
    return card.describe(tuple(classes), items, splits)


def _classes(tree: Tree) -> list[str]:
    """The lines of ClassName.txt are `/a/abbey`: the name follows the third character."""
    path = _list(tree, "ClassName.txt")
    names = []
    for place, line in tree.lines(path):
        if len(line) > 3 and line[0] == line[2] == "/":
            names.append(line[3:])
        else:
            tree.broken(place, f"{line[:80]!r}; a class is written like '/a/abbey'")
    return sorted(names)


def _paths(tree: Tree, name: str, classes: Sequence[str]) -> list[str]:
    """The images of a partition; its lines are `/a/abbey/sun_<name>.jpg`."""
    known, paths = set(classes), []
    for place, line in tree.lines(_list(tree, name)):
        path = line.removeprefix("/")
        if line.startswith("/") and _class(path) in known:
            paths.append(path)
        else:
            tree.broken(place, f"{line[:80]!r} is of no class of ClassName.txt")
    return paths


def _list(tree: Tree, name: str) -> str:
    """The partitions come in an archive of their own, and lie in a folder or beside the images."""
    return tree.first(name, f"Partitions/{name}")


def _class(path: str) -> str:
    """`a/abbey/x.jpg` is of abbey, `a/apse/indoor/x.jpg` of apse/indoor."""
    return path.rpartition("/")[0][2:]


def _check_even(tree: Tree, name: str, paths: list[str], classes: Sequence[str]) -> None:
    counts = dict.fromkeys(classes, 0)
    for path in paths:
        counts[_class(path)] += 1
    uneven = [f"{name}: {c} of {cls}" for cls, c in counts.items() if c != PER_CLASS]
    tree.note(Fault.COUNTS, [f"{text} (official: {PER_CLASS})" for text in uneven])


def _with_val(
    split: Split, groups: Sequence[Sequence[int]], number: int, val_per_class: int
) -> Split:
    """The split with so many of its training images (by class) moved to validation."""
    rule = RandomSplit(train_per_class=PER_CLASS, seed=number - 1)
    drawn = random_split(groups, rule, split.name, val_per_class)
    return (
        split.model_copy(update={"train": drawn.train, "val": drawn.val})
        if val_per_class
        else split
    )


def _register(
    name: str, title: str, source: str, partitions: int, val: int, rows: tuple[Published, ...]
) -> None:
    which = "split 1" if partitions == 1 else f"splits 1 to {partitions}"
    chosen = (
        f"; {val} of the training images a class, drawn with seed k - 1, choose the parameters"
        if val
        else ""
    )
    counts = {
        "classes": 397,
        "image files": 108_754,
        "train": 397 * (PER_CLASS - val),
        "val": 397 * val,
        "test": 397 * PER_CLASS,
    }
    card = Card(
        name=name,
        title=title,
        source=source,
        layout=(
            "SUN397/<letter>/<class>/sun_<name>.jpg",
            "SUN397/ClassName.txt",
            "SUN397/Training_01.txt ... Testing_10.txt (or in SUN397/Partitions/)",
        ),
        procedure=f"official partitions, {which}: 50 train, 50 are tested of each class{chosen}",
        metrics=("accuracy", "mean_class_accuracy"),
        splits=partitions,
        counts=counts,
        surprises=(
            (
                "Each partition uses a part of the 108,754 images; torchvision's SUN397 has no "
                "partitions at all."
            ),
            "Class names may hold a slash: apse/indoor.",
            "All classes have 50 test images: accuracy and mean per-class accuracy are equal.",
        ),
        published=rows,
    )
    register(card, partial(read, partitions, val), ("SUN397",), marks=("ClassName.txt",))


def _row(source: str, method: str, value: float, deviation: float | None = None) -> Published:
    return Published(
        method=method, value=value, deviation=deviation, metric="accuracy", source=source
    )


_register(
    "sun397",
    "SUN397, the ten official partitions",
    "Xiao et al. 2010, SUN database",
    10,
    0,
    (
        _row(SCENES, "MOP-CNN", 51.98),
        _row(SCENES, "Places-CNN", 54.23),
        _row(SCENES, "HybridNet", 53.86),
        _row(SCENES, "CS VGG-19", 64.53),
    ),
)
_register(
    "sun397-decaf",
    "SUN397 as in DeCAF",
    DECAF,
    5,
    8,
    (
        _row(DECAF, "DeCAF6, logistic regression", 40.94, 0.3),
        _row(DECAF, "DeCAF7, logistic regression", 40.84, 0.3),
        _row(DECAF, "DeCAF6, SVM", 39.36, 0.3),
        _row(DECAF, "DeCAF7, SVM", 40.66, 0.3),
    ),
)
_register(
    "sun397-probe",
    "SUN397 as linear probes use it (Kornblith, SimCLR, BYOL)",
    BYOL,
    1,
    10,
    (
        _row(BYOL, "ResNet-50 supervised, logistic regression", 61.9),
        _row(BYOL, "BYOL ResNet-50, logistic regression", 62.2),
        _row(BYOL, "SimCLR ResNet-50, logistic regression", 58.8),
    ),
)
