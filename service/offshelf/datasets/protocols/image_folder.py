"""A folder with a folder of images for each class, of one's own; with its own split or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf.datasets.protocols.drawing import labelled
from offshelf.datasets.protocols.interface import Card, Split, register
from offshelf.datasets.protocols.tree import Fault

if TYPE_CHECKING:
    from offshelf.datasets.protocols.interface import Description
    from offshelf.datasets.protocols.tree import Tree

# What people call the three sides of a split.
SIDES: Final = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def read(card: Card, tree: Tree) -> Description:
    """Read `<class>/<image>`, or `<side>/<class>/<image>` where every folder is a side's.

    Without sides everything trains; a run may draw a split of its own. With train and val alone,
    val is what is tested.
    """
    top = tree.folders()
    split = bool(top) and all(name.lower() in SIDES for name in top)
    depth = 2 if split else 1
    paths = [path for path in tree.images() if path.count("/") == depth]
    stray = [path for path in tree.images() if path.count("/") != depth]
    tree.note(Fault.EXTRA_IMAGES, [f"{path} (not in a class's folder)" for path in stray])
    sides = [name for name in top if split]
    listed = [tree.folders(side) for side in sides] if split else [top]
    classes = tuple(sorted({name for names in listed for name in names}))
    items = labelled(paths, classes)
    with_images = {item.labels[0] for item in items}
    empty = [name for number, name in enumerate(classes) if number not in with_images]
    tree.fault(Fault.MISSING_IMAGES, [f"any of class {name}" for name in empty])
    if not split:
        return card.describe(classes, items, [Split(name="all", train=tuple(range(len(items))))])
    chosen: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for number, item in enumerate(items):
        chosen[SIDES[item.path.partition("/")[0].lower()]].append(number)
    if not chosen["test"]:
        chosen["val"], chosen["test"] = [], chosen["val"]
    sorted_sides = {side: tuple(numbers) for side, numbers in chosen.items()}
    return card.describe(classes, items, [Split(name="folders", **sorted_sides)])


register(
    Card(
        name="image-folder",
        title="A folder of images for each class",
        source="offshelf",
        layout=("<class>/<image>", "or train/<class>/<image>, val/..., test/..."),
        procedure="the folders' own split; without one everything trains",
        metrics=("accuracy", "mean_class_accuracy"),
        splits=1,
        counts={},
        surprises=("With train and val but no test, val is what is tested.",),
    ),
    read,
)
