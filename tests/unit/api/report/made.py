"""Heads with evaluations and pictures, as a training leaves them in the store."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from offshelf.datasets import records
from offshelf.heads import model
from offshelf.heads.evaluation import record
from offshelf.heads.evaluation.record import Evaluation
from offshelf.heads.model import LinearHead
from offshelf.heads.scoring import score
from offshelf.schemas.datasets import Dataset, DatasetHead, DatasetItem
from offshelf.schemas.heads import Head, Metrics
from offshelf.store import layout
from tests.unit.api.fakes import WEIGHTS, spec_of

if TYPE_CHECKING:
    from offshelf.core.boxes import Box
    from offshelf.store.interface import Store

OWNER = "default"
PARAMS = {"backbone": "alexnet", "view": "warp", "pool": "max", "normalize": "l2"}


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG", **options)
    return out.getvalue()


def put_dataset(
    store: Store,
    paths: list[str],
    images: list[bytes],
    classes: list[str],
    boxes: list[list[Box | None]] | None = None,
) -> Dataset:
    items = []
    for path, image, places in zip(paths, images, boxes or [[]] * len(paths), strict=True):
        sha256 = hashlib.sha256(image).hexdigest()
        store.put_new(layout.blob(sha256), image)
        items.append(DatasetItem(path, classes[0], sha256, len(image), places))
    return keep_dataset(store, items, classes)


def keep_dataset(store: Store, items: list[DatasetItem], classes: list[str]) -> Dataset:
    head = DatasetHead(
        id="ds-1", owner=OWNER, name="pets", created_s=1.0, classes=classes,
        counts={classes[0]: len(items)}, total=len(items), page_items=0,
    )  # fmt: skip
    records.add(store, head, items)
    return records.load(store, OWNER, head.id)


def put_head(
    store: Store, classes: list[str], evaluation: Evaluation | None, **more: Any
) -> LinearHead:
    spec = spec_of(PARAMS, "fc7:pre")
    scored = None if evaluation is None else evaluation.scored()
    given: dict[str, Any] = {
        "id": "h1",
        "owner": OWNER,
        "name": "",
        "kind": "svm",
        "C": 1.0,
        "classes": classes,
        "spec": spec.to_dict(),
        "fingerprint": spec.fingerprint,
        "weights": WEIGHTS,
        "dataset": "ds-1",
        "split": None if evaluation is None else {"train_per_class": 5, "seed": 0},
        "train": Metrics(images=9, accuracy=1.0, mean_class_accuracy=1.0, per_class={}),
        "test": None if scored is None else score(scored.truth, scored.scores, classes),
        "created_s": 1.0,
        "versions": {"offshelf": "0.1", "numpy": "2"},
        "multi_label": evaluation is not None and evaluation.multi_label,
    }
    card = Head(**given | more)
    zeros = np.zeros((len(classes), 6), np.float32)
    head = LinearHead(card, zeros, zeros[:, 0])
    record.save(store, OWNER, card.id, evaluation)
    model.save(store, head)
    return head


def of_classes(classes: int = 3, images: int = 30, seed: int = 0, ahead: float = 1.0) -> Evaluation:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, images)
    scores = rng.normal(size=(images, classes)) + ahead * np.eye(classes)[truth]
    return Evaluation("ds-1", scores.astype(np.float32), truth, np.arange(images))


def of_labels(classes: int = 3, images: int = 30, seed: int = 0) -> Evaluation:
    rng = np.random.default_rng(seed)
    truth = rng.choice([-1, 0, 1], p=[0.6, 0.1, 0.3], size=(images, classes))
    scores = rng.normal(size=(images, classes)) + truth
    return Evaluation("ds-1", scores.astype(np.float32), truth, np.arange(images))
