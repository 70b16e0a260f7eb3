"""MIT-67 indoor scenes: one official list of training and one of test images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf.datasets.protocols.interface import Card, Item, Published, Split, register

if TYPE_CHECKING:
    from offshelf.datasets.protocols.interface import Description
    from offshelf.datasets.protocols.tree import Tree

LISTS: Final = ("TrainImages.txt", "TestImages.txt")
RAZAVIAN: Final = "Razavian et al. 2014, CVPR Workshops"
SCENES: Final = "as quoted by the Semantic-Aware-Scene-Recognition repository"


def read(card: Card, tree: Tree) -> Description:
    """Read both lists; their lines are `<scene>/<image>.jpg`, below `Images`."""
    train, test = (_paths(tree, name) for name in LISTS)
    paths = sorted({*train, *test})
    classes = tuple(sorted({path.split("/")[1] for path in paths}))
    items = [
        Item(key=path, path=path, labels=(classes.index(path.split("/")[1]),)) for path in paths
    ]
    where = {path: number for number, path in enumerate(paths)}
    split = Split(
        name="official",
        train=tuple(sorted(where[path] for path in train)),
        test=tuple(sorted(where[path] for path in test)),
    )
    return card.describe(classes, items, [split])


def _paths(tree: Tree, name: str) -> list[str]:
    """Names hold spaces and dots now and then: the line is the path as it stands."""
    paths = []
    for place, line in tree.lines(name):
        if line.count("/") == 1:
            paths.append(f"Images/{line}")
        else:
            tree.broken(place, f"{line[:80]!r}; a line is <scene>/<image>.jpg")
    return paths


def _row(source: str, method: str, value: float) -> Published:
    return Published(method=method, value=value, metric="mean_class_accuracy", source=source)


register(
    Card(
        name="mit67",
        title="MIT-67 indoor scenes",
        source="Quattoni and Torralba 2009, CVPR",
        layout=("Images/<scene>/<image>.jpg", *LISTS),
        procedure="the official lists, about 80 training and 20 test images of each of 67 scenes",
        metrics=("mean_class_accuracy", "accuracy"),
        splits=1,
        counts={"classes": 67, "train": 5360, "val": 0, "test": 1340, "items": 6700},
        surprises=(
            (
                "Not exactly 80 and 20: 77 to 83 and 17 to 23 a class, so the mean over classes "
                "and that over images differ a little."
            ),
            "The lists' last lines have no newline: `wc -l` shows one less.",
            "The folder holds far more images than the lists name.",
        ),
        published=(
            _row(RAZAVIAN, "OverFeat, SVM (CNN-SVM)", 58.4),
            _row(RAZAVIAN, "OverFeat, augmented, SVM (CNNaug-SVM)", 69.0),
            _row(SCENES, "MOP-CNN", 68.90),
            _row(SCENES, "Places-CNN", 68.24),
            _row(SCENES, "HybridNet", 70.80),
            _row(SCENES, "CS VGG-19", 82.24),
        ),
    ),
    read,
    marks=LISTS,
)
