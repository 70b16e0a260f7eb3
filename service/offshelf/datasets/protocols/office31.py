"""Office-31: learn on one domain's images, or on a few of the other's too, and be tested there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from offshelf.datasets.protocols.drawing import by_class, labelled, random_split
from offshelf.datasets.protocols.interface import Card, Published, Split, register
from offshelf.datasets.protocols.tree import Fault
from offshelf.schemas.heads import RandomSplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offshelf.datasets.protocols.interface import Description, Item
    from offshelf.datasets.protocols.tree import Tree

Setting = Literal["source", "target", "both"]

DOMAINS: Final = ("amazon", "dslr", "webcam")
IMAGES: Final = {"amazon": 2817, "dslr": 498, "webcam": 795}
CLASSES: Final = tuple(
    """back_pack bike bike_helmet bookcase bottle calculator desk_chair desk_lamp desktop_computer
    file_cabinet headphones keyboard laptop_computer letter_tray mobile_phone monitor mouse mug
    paper_notebook pen phone printer projector punchers ring_binder ruler scissors speaker stapler
    tape_dispenser trash_can""".split()  # noqa: SIM905  # one a line would be thirty lines
)
SOURCE_LABELS: Final = {"amazon": 20, "dslr": 8, "webcam": 8}
TARGET_LABELS: Final = 3
SPLITS: Final = 5
DECAF: Final = "Donahue et al. 2013, arXiv:1310.1531v1"


def read(source: str, target: str, setting: Setting, card: Card, tree: Tree) -> Description:
    """Read the domains that take part; every setting is tested on the same target images."""
    used = [target] if setting == "target" else [source, target]
    there = [domain for domain in DOMAINS if tree.has(domain)]
    tree.fault(Fault.MISSING_FOLDERS, [domain for domain in used if domain not in there])
    tree.note(Fault.MISSING_FOLDERS, [domain for domain in DOMAINS if domain not in there])
    for domain in there:
        _check_classes(tree, domain)
        tree.counts[f"images of {domain}"] = len(tree.images(domain))
    items = labelled((path for domain in used for path in tree.images(domain)), CLASSES)
    groups = {domain: by_class(items, _of_domain(items, domain), len(CLASSES)) for domain in used}
    splits = [_split(groups, source, target, setting, seed) for seed in range(SPLITS)]
    return card.describe(CLASSES, items, splits)


def _of_domain(items: Sequence[Item], domain: str) -> list[int]:
    return [n for n, item in enumerate(items) if item.path.startswith(f"{domain}/")]


def _check_classes(tree: Tree, domain: str) -> None:
    """The classes lie in `<domain>/images`, or in the domain itself where copies left that out."""
    folder = tree.first(f"{domain}/images", domain)
    found = tree.folders(folder)
    missing = [f"{folder}/{name}" for name in CLASSES if name not in found]
    tree.fault(Fault.MISSING_FOLDERS, missing)
    extra = [f"{folder}/{name}" for name in found if name not in CLASSES]
    tree.note(Fault.EXTRA_FOLDERS, extra)


def _split(
    groups: dict[str, list[list[int]]], source: str, target: str, setting: Setting, seed: int
) -> Split:
    """Each domain is drawn by itself with the split's seed, so that all settings share the draw."""
    name = str(seed + 1)
    few = RandomSplit(train_per_class=TARGET_LABELS, seed=seed)
    drawn = random_split(groups[target], few, name)
    if setting == "target":
        return drawn
    many = RandomSplit(train_per_class=SOURCE_LABELS[source], seed=seed)
    train = random_split(groups[source], many, name).train
    if setting == "both":
        train = tuple(sorted((*train, *drawn.train)))
    return Split(name=name, train=train, test=drawn.test)


def _procedure(source: str, target: str, setting: Setting) -> str:
    of_source = f"{SOURCE_LABELS[source]} {source} images a class"
    of_target = f"{TARGET_LABELS} {target} images a class"
    train = {"source": of_source, "target": of_target, "both": f"{of_source} and {of_target}"}
    return (
        f"{train[setting]} train; the {target} images other than the {TARGET_LABELS} a class that "
        f"may train are tested, in every setting; {SPLITS} splits, the k-th drawn with seed k - 1, "
        "each domain by itself; a class that has fewer images gives all of them"
    )


def _rows(table: dict[str, tuple[float, float]]) -> tuple[Published, ...]:
    return tuple(
        Published(
            method=f"{layer}, {method}",
            value=value,
            metric="mean_class_accuracy",
            source=DECAF,
            note="does not say whether images or classes are averaged",
        )
        for method, values in table.items()
        for layer, value in zip(("DeCAF6", "DeCAF7"), values, strict=True)
    )


def _register(
    name: str, source: str, target: str, setting: Setting, table: dict[str, tuple[float, float]]
) -> None:
    wanted = {
        "source": f"labels of {source}",
        "target": "a few labels of its own",
        "both": f"labels of {source} and a few of its own",
    }
    card = Card(
        name=name,
        title=f"Office-31, tested on {target}: {wanted[setting]}",
        source="Saenko et al. 2010, ECCV; splits and rows of " + DECAF,
        layout=("<domain>/images/<class>/frame_<4 digits>.jpg", "domains: " + ", ".join(DOMAINS)),
        procedure=_procedure(source, target, setting),
        metrics=("mean_class_accuracy", "accuracy"),
        splits=SPLITS,
        counts={
            "classes": len(CLASSES),
            "test": IMAGES[target] - TARGET_LABELS * len(CLASSES),
            **{f"images of {domain}": count for domain, count in IMAGES.items()},
        },
        surprises=(
            "DeCAF averages 5 splits, Saenko et al. 10.",
            (
                "Papers of later years train on all source images and test on all target images: "
                "their figures belong to another protocol."
            ),
        ),
        published=_rows(table),
    )
    register(
        card,
        partial(read, source, target, setting),
        ("domain_adaptation_images", "office31"),
        marks=tuple(f"{domain}/images" for domain in DOMAINS),
    )


_register(
    "office31-amazon-webcam",
    "amazon",
    "webcam",
    "source",
    {"logistic regression": (48.58, 53.56), "SVM": (52.22, 53.90)},
)
_register(
    "office31-amazon-webcam-both",
    "amazon",
    "webcam",
    "both",
    {"logistic regression": (75.30, 76.32), "SVM": (80.66, 79.12), "Daumé III": (82.14, 81.65)},
)
_register(
    "office31-dslr-webcam",
    "dslr",
    "webcam",
    "source",
    {"logistic regression": (88.77, 87.38), "SVM": (91.48, 89.15)},
)
_register(
    "office31-dslr-webcam-both",
    "dslr",
    "webcam",
    "both",
    {"logistic regression": (92.88, 91.91), "SVM": (94.79, 92.96), "Daumé III": (91.25, 89.52)},
)
_register(
    "office31-webcam",
    "amazon",
    "webcam",
    "target",
    {"logistic regression": (72.56, 74.19), "SVM": (78.26, 78.72)},
)
