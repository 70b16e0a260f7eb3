"""Heads made up for tests of what is done with heads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from offshelf.core.spec import FeatureSpec, Preprocessing
from offshelf.heads import model, names
from offshelf.heads.model import LinearHead
from offshelf.schemas.base import WeightsBody
from offshelf.schemas.heads import Head, Metrics

if TYPE_CHECKING:
    from offshelf.store.interface import Store

PRE = Preprocessing(256, 224, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
SPEC = FeatureSpec("alexnet", "d" * 64, "fc7", "center", PRE)
OWNER = "default"


def card(head_id: str = "head-1", spec: FeatureSpec = SPEC, **more: Any) -> Head:
    """A card; `more` are fields of it."""
    return Head(
        **{
            "id": head_id, "owner": OWNER, "name": "", "kind": "svm", "C": 1.0,
            "classes": ["ant", "bee", "cow"], "spec": spec.to_dict(),
            "fingerprint": spec.fingerprint,
            "weights": WeightsBody(source="x", label="V1", digest="d", licence="", random=False),
            "dataset": "ds-1", "split": {"train_per_class": 1, "seed": 0},
            "train": Metrics(images=3, accuracy=1.0), "test": Metrics(images=6, accuracy=0.5),
            "created_s": 1.0, "versions": {"numpy": "2"}, **more,
        }
    )  # fmt: skip


def head(seed: int = 0, D: int = 6, **more: Any) -> LinearHead:
    """A head of D inputs with random weights."""
    rng = np.random.default_rng(seed)
    told = card(**more)
    K = len(told.classes)
    coef = rng.normal(size=(K, D)).astype(np.float32)
    return LinearHead(told, coef, rng.normal(size=K).astype(np.float32))


def keep(store: Store, head_id: str, name: str = "", **more: Any) -> Head:
    """A head as a worker keeps it: with the next version of its name."""
    made = head(head_id=head_id, name=name, **more)
    version = names.claim(store, OWNER, name, head_id) if name else None
    told = made.card.model_copy(update={"version": version})
    model.save(store, replace(made, card=told))
    return told
