"""Caltech-101: random training images of each class, as DeCAF, Zeiler-Fergus and VGG draw them.

The papers agree on the images and differ in everything else: whether the background class takes
part, how many images train, how many of the rest are tested, how often it is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from offshelf.datasets.protocols.drawing import by_class, labelled, random_split
from offshelf.datasets.protocols.interface import Card, Published, register
from offshelf.datasets.protocols.tree import Fault
from offshelf.schemas.heads import RandomSplit

if TYPE_CHECKING:
    from offshelf.datasets.protocols.interface import Description
    from offshelf.datasets.protocols.tree import Tree

BACKGROUND: Final = "BACKGROUND_Google"
CLASSES: Final = tuple(
    """Faces Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver
    binocular bonsai brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan
    cellphone chair chandelier cougar_body cougar_face crab crayfish crocodile crocodile_head cup
    dalmatian dollar_bill dolphin dragonfly electric_guitar elephant emu euphonium ewer ferry
    flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone hedgehog
    helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin
    mayfly menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus
    pyramid revolver rhino rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball
    stapler starfish stegosaurus stop_sign strawberry sunflower tick trilobite umbrella watch
    water_lilly wheelchair wild_cat windsor_chair wrench yin_yang""".split()  # noqa: SIM905  # one a line would be a hundred lines
)
IMAGES: Final = 9_144

DECAF: Final = "Donahue et al. 2013, arXiv:1310.1531v1"
ZF: Final = "Zeiler and Fergus 2013, arXiv:1311.2901"
VGG: Final = "Simonyan and Zisserman 2014, arXiv:1409.1556v6, table 11"


@dataclass(frozen=True, slots=True)
class Variant:
    """What a paper does: of `train` drawn images a class, `val` choose the parameters."""

    train: int
    val: int
    at_most: int | None
    background: bool
    splits: int

    @property
    def procedure(self) -> str:
        """It in words."""
        classes = "102 classes, the background included" if self.background else "101 classes"
        rest = "the rest" if self.at_most is None else f"at most {self.at_most} of the rest"
        val = f" ({self.val} of them to choose the parameters)" if self.val else ""
        return (
            f"{classes}; {self.train} random images a class train{val}, {rest} are tested; "
            f"{self.splits} splits, the k-th drawn with seed k - 1"
        )

    @property
    def counts(self) -> dict[str, int]:
        """The official counts that follow; those of a bounded test need each class's size."""
        classes = len(CLASSES) + self.background
        counts = {
            "classes": classes,
            "image files": IMAGES,
            "train": (self.train - self.val) * classes,
            "val": self.val * classes,
        }
        if self.background:
            counts["items"] = IMAGES
        if self.background and self.at_most is None:
            counts["test"] = IMAGES - self.train * classes
        return counts


def read(variant: Variant, card: Card, tree: Tree) -> Description:
    """Read `101_ObjectCategories`, or some of its classes."""
    folders = tree.folders()
    classes = [name for name in folders if name != BACKGROUND or variant.background]
    if variant.background and BACKGROUND not in folders:
        tree.fault(Fault.MISSING_FOLDERS, [f"{BACKGROUND} (the background is a class here)"])
    tree.note(Fault.MISSING_FOLDERS, [name for name in CLASSES if name not in folders])
    tree.note(Fault.EXTRA_FOLDERS, sorted({*folders} - {*CLASSES, BACKGROUND}))
    tree.note(Fault.MISSING_IMAGES, _gaps(tree.images()))
    items = labelled((path for path in tree.images() if path.count("/") == 1), classes)
    groups = by_class(items, range(len(items)), len(classes))
    short = [
        f"{name}: {len(group)} images, more than {variant.train} are needed"
        for name, group in zip(classes, groups, strict=True)
        if len(group) <= variant.train
    ]
    tree.fault(Fault.COUNTS, short)
    splits = [
        random_split(groups, _rule(variant, seed), str(seed + 1), variant.val)
        for seed in range(variant.splits)
    ]
    return card.describe(tuple(classes), items, splits)


def _rule(variant: Variant, seed: int) -> RandomSplit:
    return RandomSplit(train_per_class=variant.train, test_per_class=variant.at_most, seed=seed)


def _gaps(paths: list[str]) -> list[str]:
    """Images that are missing by their numbers: a class's are image_0001.jpg and so on."""
    there = set(paths)
    last: dict[str, int] = {}
    for path in paths:
        name, _, number = path.removesuffix(".jpg").rpartition("/image_")
        if name not in ("", BACKGROUND) and number.isdecimal():
            last[name] = max(last.get(name, 0), int(number))
    wanted = (f"{name}/image_{i:04d}.jpg" for name, n in last.items() for i in range(1, n + 1))
    return [path for path in wanted if path not in there]


def _register(
    name: str, title: str, source: str, variant: Variant, published: tuple[Published, ...]
) -> None:
    card = Card(
        name=name,
        title=title,
        source=source,
        layout=("101_ObjectCategories/<class>/image_<4 digits>.jpg",),
        procedure=variant.procedure,
        metrics=("mean_class_accuracy", "accuracy"),
        splits=variant.splits,
        counts=variant.counts,
        surprises=(
            (
                "DeCAF counts the background as a class and tests all the rest; torchvision's "
                "Caltech101 has no background class."
            ),
            (
                "Classes are of 31 to 800 images: the mean over classes and the mean over images "
                "differ much, and the papers give the former."
            ),
        ),
        published=published,
    )
    inside = ("101_ObjectCategories", "caltech-101/101_ObjectCategories",
              "caltech101/101_ObjectCategories")  # fmt: skip
    register(card, partial(read, variant), inside, complete=variant.background)


def _row(
    source: str, method: str, value: float, deviation: float | None, note: str = ""
) -> Published:
    return Published(
        method=method,
        value=value,
        deviation=deviation,
        metric="mean_class_accuracy",
        source=source,
        note=note,
    )


_register(
    "caltech101-decaf",
    "Caltech-101 as in DeCAF",
    DECAF,
    Variant(train=30, val=5, at_most=None, background=True, splits=5),
    (
        _row(DECAF, "DeCAF5, logistic regression", 63.29, 6.6),
        _row(DECAF, "DeCAF6, logistic regression", 84.30, 1.6),
        _row(DECAF, "DeCAF7, logistic regression", 84.87, 0.6),
        _row(DECAF, "DeCAF6, logistic regression with dropout", 86.08, 0.8),
        _row(DECAF, "DeCAF7, logistic regression with dropout", 85.68, 0.6),
        _row(DECAF, "DeCAF5, SVM", 77.12, 1.1),
        _row(DECAF, "DeCAF6, SVM", 84.77, 1.2),
        _row(DECAF, "DeCAF7, SVM", 83.24, 1.2),
        _row(DECAF, "DeCAF6, SVM with dropout", 86.91, 0.7),
        _row(DECAF, "DeCAF7, SVM with dropout", 85.51, 0.9),
    ),
)
_register(
    "caltech101-zf30",
    "Caltech-101 as in Zeiler and Fergus, 30 a class",
    ZF,
    Variant(train=30, val=0, at_most=50, background=True, splits=5),
    (_row(ZF, "Zeiler-Fergus, softmax", 86.5, 0.5), _row(ZF, "the same, from scratch", 46.5, None)),
)
_register(
    "caltech101-zf15",
    "Caltech-101 as in Zeiler and Fergus, 15 a class",
    ZF,
    Variant(train=15, val=0, at_most=50, background=True, splits=5),
    (_row(ZF, "Zeiler-Fergus, softmax", 83.8, 0.5),),
)
_register(
    "caltech101-vgg",
    "Caltech-101 as in Chatfield et al. and VGG",
    VGG,
    Variant(train=30, val=6, at_most=50, background=True, splits=3),
    (
        _row(VGG, "Zeiler-Fergus", 86.5, 0.5),
        _row(VGG, "Chatfield et al. (CNN-S)", 88.4, 0.6),
        _row(VGG, "He et al. (SPP)", 93.4, 0.5),
        _row(VGG, "VGG-16", 91.8, 1.0),
        _row(VGG, "VGG-19", 92.3, 0.5),
        _row(VGG, "VGG-16 and VGG-19", 92.7, 0.5),
    ),
)
_register(
    "caltech101-15",
    "Caltech-101 without the background, 15 a class",
    "offshelf: no paper; 101 classes as torchvision has them",
    Variant(train=15, val=0, at_most=None, background=False, splits=3),
    (),
)
_register(
    "caltech101-30",
    "Caltech-101 without the background, 30 a class",
    "offshelf: no paper; 101 classes as torchvision has them",
    Variant(train=30, val=0, at_most=None, background=False, splits=3),
    (),
)
