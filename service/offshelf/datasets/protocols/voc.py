"""Pascal VOC 2007 and 2012 classification: which of twenty classes an image shows.

Labels are those of the devkit's lists: 1 where an object of the class is in the image, -1 where
none is, 0 where all of them are marked difficult. In a test a 0 never counts, for its class alone.
What it is in training is a choice, and each protocol's card says which.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from offshelf.datasets.protocols.interface import Card, Item, Published, Split, register
from offshelf.datasets.protocols.tree import Fault

if TYPE_CHECKING:
    from offshelf.datasets.protocols.interface import Description, Difficult, Metric
    from offshelf.datasets.protocols.tree import Tree

Year = Literal[2007, 2012]
Labels = dict[str, list[int]]  # image id -> a label for each class

CLASSES: Final = tuple(
    """aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike
    person pottedplant sheep sofa train tvmonitor""".split()  # noqa: SIM905  # a list as the devkit has it
)
MAIN: Final = "ImageSets/Main"

UNPUBLISHED: Final = (
    "The test's labels are not published: without them there is no score; see voc2012-val."
)

OQUAB: Final = "Oquab et al. 2014, CVPR"
RAZAVIAN: Final = "Razavian et al. 2014, CVPR Workshops"
CHATFIELD: Final = "Chatfield et al. 2014, arXiv:1405.3531, figure 1"
VGG: Final = "Simonyan and Zisserman 2014, arXiv:1409.1556v6, table 11"
BYOL: Final = "Grill et al. 2020, arXiv:2006.07733, table 3"
ZOO: Final = "OpenSelfSup model zoo, VOC07 SVM"


def read(year: Year, held_out: str, card: Card, tree: Tree) -> Description:
    """Read the lists of `ImageSets/Main`; `held_out` is the set that is tested.

    Tested on val, train alone trains. Tested on test, train trains and val chooses; where a copy
    has but their union, that trains. Classes' lists of the test may lack: VOC 2012's were never
    published, and its labels are then all 0.
    """
    tree.expect(f"{MAIN}/trainval.txt")
    if held_out == "val":
        sides = {"train": "train", "val": "", "test": "val"}
    elif tree.has(f"{MAIN}/train.txt") or not tree.has(f"{MAIN}/trainval.txt"):
        sides = {"train": "train", "val": "val", "test": "test"}
    else:
        tree.expect(f"{MAIN}/train.txt", f"{MAIN}/val.txt")
        sides = {"train": "trainval", "val": "", "test": "test"}
    labels = {
        side: _labels(tree, name, needed=year == 2007 or name != "test") if name else {}
        for side, name in sides.items()
    }
    _check_union(tree, {**labels["train"], **labels["val"]} if held_out == "test" else {})
    images = [(side, image) for side in labels for image in sorted(labels[side])]
    images.sort(key=lambda found: found[1])
    items = [
        Item(key=image, path=f"JPEGImages/{image}.jpg", labels=tuple(labels[side][image]))
        for side, image in images
    ]
    train, val, test = (
        tuple(n for n, (where, _) in enumerate(images) if where == side) for side in sides
    )
    split = Split(name=f"{sides['train']}/{sides['test']}", train=train, val=val, test=test)
    return card.describe(CLASSES, items, [split])


def _labels(tree: Tree, name: str, *, needed: bool) -> Labels:
    """The labels of a set's images; all 0 where its classes' lists lack and are not needed."""
    rows = tree.rows(f"{MAIN}/{name}.txt", 1)
    found: Labels = {cells[0]: [0] * len(CLASSES) for _, cells in rows}
    paths = [f"{MAIN}/{cls}_{name}.txt" for cls in CLASSES]
    if not found:  # and every line of the classes' lists would be a fault
        tree.expect(*paths)
        return found
    if not needed and not any(tree.has(path) for path in paths):
        return found
    for number, path in enumerate(paths):
        seen = set()
        for place, (image, label) in tree.rows(path, 2):
            if image not in found or image in seen or label not in ("-1", "0", "1"):
                what = f"{image} {label}: one label (-1, 0, 1) of each image of {name}.txt"
                tree.broken(place, what)
                continue
            seen.add(image)
            found[image][number] = int(label)
        absent = [image for image in found if image not in seen]
        if absent and tree.has(path):
            tree.broken(path, f"{len(absent)} images of {name}.txt have no label: {absent[0]} ...")
    return found


def _check_union(tree: Tree, fitting: Labels) -> None:
    """Note where trainval.txt is not the union of train.txt and val.txt."""
    path = f"{MAIN}/trainval.txt"
    if fitting and tree.has(path):
        both = {cells[0] for _, cells in tree.rows(path, 1)}
        odd = sorted(both ^ fitting.keys())
        if odd:
            tree.note(Fault.BROKEN_LISTS, [f"{path}: not train.txt and val.txt: {odd[0]} ..."])


def _row(
    source: str, method: str, value: float, metric: Metric = "map_11pt", note: str = ""
) -> Published:
    return Published(method=method, value=value, metric=metric, source=source, note=note)


def _card(
    name: str,
    title: str,
    year: Year,
    procedure: str,
    metrics: tuple[Metric, ...],
    counts: dict[str, int],
    rows: tuple[Published, ...],
    difficult: Difficult = "left out",
) -> Card:
    return Card(
        name=name,
        title=title,
        source=f"Everingham et al., Pascal VOC {year} devkit",
        layout=(
            f"VOCdevkit/VOC{year}/JPEGImages/<id>.jpg",
            f"VOCdevkit/VOC{year}/{MAIN}/<set>.txt and <class>_<set>.txt",
        ),
        procedure=f"{procedure}; label 0 (only difficult objects) is {difficult} in training and "
        "left out of the test, for its class alone",
        metrics=metrics,
        multi_label=True,
        difficult=difficult,
        splits=1,
        counts={"classes": len(CLASSES), **counts},
        surprises=(
            ("AP at 11 points (the 2007 challenge) and at all points (since 2010) differ by a "
            "point or two: they are two metrics, and rows of one never stand beside the other."),
            "Difficult objects as negatives in the test make another, lower figure.",
            "Lists set a positive label apart by two spaces.",
            *((UNPUBLISHED,) if year == 2012 else ()),
        ),
        published=rows,
    )  # fmt: skip


COUNTS_2007: Final = {"train": 2501, "val": 2510, "test": 4952, "items": 9963}
COUNTS_2012: Final = {"train": 5717, "val": 5823, "test": 10_991, "items": 22_531}


def _inside(year: Year) -> tuple[str, ...]:
    return f"VOCdevkit/VOC{year}", f"VOC{year}"


register(
    _card(
        "voc2007",
        "Pascal VOC 2007 classification",
        2007,
        "train trains, val chooses the parameters, both train the final head, test is tested",
        ("map_11pt", "map_all_point"),
        COUNTS_2007,
        (
            _row(RAZAVIAN, "OverFeat, SVM (CNN-SVM)", 73.9),
            _row(RAZAVIAN, "OverFeat, augmented (CNNaug-SVM)", 77.2),
            _row(OQUAB, "PRE-1000C", 77.7),
            _row(CHATFIELD, "improved Fisher vector", 68.02),
            _row(CHATFIELD, "DeCAF", 73.41),
            _row(CHATFIELD, "CNN-F", 77.15),
            _row(CHATFIELD, "CNN-M-2048", 80.13),
            _row(CHATFIELD, "CNN-S, tuned", 82.42),
            _row(VGG, "He et al. (SPP)", 82.4),
            _row(VGG, "VGG-16", 89.3),
            _row(VGG, "VGG-19", 89.3),
            _row(VGG, "VGG-16 and VGG-19", 89.7),
            _row(BYOL, "ResNet-50 supervised, logistic regression", 82.8),
            _row(BYOL, "BYOL ResNet-50, logistic regression", 82.5),
            _row(BYOL, "SimCLR ResNet-50, logistic regression", 80.5),
        ),
    ),
    partial(read, 2007, "test"),
    _inside(2007),
    marks=(MAIN,),
)
register(
    _card(
        "voc2007-vissl",
        "Pascal VOC 2007 classification as VISSL scores it",
        2007,
        "trainval trains, C of each class by 3-fold cross-validation, test is tested",
        ("map_all_point", "map_11pt"),
        COUNTS_2007,
        (
            _row(ZOO, "ResNet-50 supervised, SVM on 8192-d res5", 87.17, "map_all_point"),
            _row(ZOO, "ResNet-50 random, SVM", 30.54, "map_all_point"),
            _row(ZOO, "MoCo v2, SVM", 84.26, "map_all_point"),
            _row(ZOO, "BYOL, SVM", 85.10, "map_all_point"),
        ),
        difficult="negative",
    ),
    partial(read, 2007, "test"),
    _inside(2007),
    marks=(MAIN,),
)
register(
    _card(
        "voc2012",
        "Pascal VOC 2012 classification",
        2012,
        "train trains, val chooses the parameters, both train the final head, test is tested",
        ("map_all_point", "map_11pt"),
        COUNTS_2012,
        (
            _row(OQUAB, "no pre-training", 70.9, "map_all_point"),
            _row(OQUAB, "PRE-1000C", 78.7, "map_all_point"),
            _row(OQUAB, "PRE-1000R", 76.3, "map_all_point"),
            _row(OQUAB, "PRE-1512", 82.8, "map_all_point"),
            _row(VGG, "Zeiler-Fergus", 79.0, "map_all_point"),
            _row(VGG, "Chatfield et al. (CNN-S)", 83.2, "map_all_point"),
            _row(VGG, "VGG-16", 89.0, "map_all_point"),
            _row(VGG, "VGG-19", 89.0, "map_all_point"),
            _row(VGG, "VGG-16 and VGG-19", 89.3, "map_all_point"),
        ),
    ),
    partial(read, 2012, "test"),
    _inside(2012),
    marks=(MAIN,),
)
register(
    _card(
        "voc2012-val",
        "Pascal VOC 2012 classification, tested on val",
        2012,
        "train trains, val is tested; the papers test on test, so no row is comparable",
        ("map_all_point", "map_11pt"),
        {"train": 5717, "val": 0, "test": 5823, "items": 11_540},
        (),
    ),
    partial(read, 2012, "val"),
    _inside(2012),
    marks=(MAIN,),
)
