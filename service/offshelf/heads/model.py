"""A trained head in use: numpy only, so that the API can predict without torch or scikit-learn."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import safetensors
import safetensors.numpy

from offshelf.core.spec import FeatureSpec
from offshelf.errors import FingerprintMismatch, InvalidParameter, UnknownName
from offshelf.heads.calibration import own, probabilities
from offshelf.schemas.features import FeatureParams
from offshelf.schemas.heads import Head
from offshelf.schemas.learning import LOGISTIC_KINDS, SOFTMAX_KINDS
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from offshelf.store.interface import Store


# Weights of the heads used last; those of a thousand classes may take 100 MB each.
WEIGHTS_KEPT: Final = 8


@dataclass(frozen=True, slots=True)
class LinearHead:
    """A linear model and its card. `coef` is (K, D) float32 in the order of `card.classes`."""

    card: Head
    coef: NDArray[np.float32]
    intercept: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = (len(self.card.classes),)
        if self.coef.ndim != 2 or self.coef.shape[:1] != shape or self.intercept.shape != shape:
            raise InvalidParameter(
                f"head {self.card.id}: weights {self.coef.shape} and {self.intercept.shape} do not "
                f"fit {len(self.card.classes)} classes"
            )

    def decision(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (N, K) of features X (N, ...), flattened in C order to the head's D.

        For an SVM they are signed margins, for logistic regression logits.
        """
        return decide(self.coef, self.intercept, X)

    def probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class probabilities (N, K): calibrated, or a logistic regression's own.

        They sum to 1, unless an image may have many labels. InvalidParameter where there are none.
        """
        said = probabilities(
            self.card.kind,
            self.decision(X),
            self.card.calibration,
            multi_label=self.card.multi_label,
        )
        if said is None:
            raise InvalidParameter(
                f"head {self.card.id} is an {self.card.kind}: no probabilities, unless it is "
                "trained with calibrate=temperature or platt"
            )
        return said.astype(np.float32)

    @property
    def has_probabilities(self) -> bool:
        """Whether `probabilities` has an answer."""
        return self.card.calibration is not None or self.card.kind in LOGISTIC_KINDS

    def scores(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """What predictions are made by: margins, or what the softmax of `logreg` says of them."""
        scores = self.decision(X)
        if self.card.kind not in SOFTMAX_KINDS:
            return scores
        said = own(self.card.kind, scores.astype(np.float64), multi_label=self.card.multi_label)
        return said.astype(np.float32)

    def check(self, spec: FeatureSpec) -> None:
        """FingerprintMismatch, naming the fields that differ, unless it was trained on `spec`."""
        if spec.fingerprint == self.card.fingerprint:
            return
        differing = FeatureSpec.from_dict(self.card.spec).differences(spec)
        raise FingerprintMismatch(
            f"head {self.card.id} was trained on other features: {'; '.join(differing)}"
        )


def decide(
    coef: NDArray[np.float32], intercept: NDArray[np.float32], X: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`X @ coef.T + intercept`, summed in float64; X is (N, ...), the answer (N, K)."""
    rows = X.reshape(len(X), -1) if X.size else np.zeros((len(X), coef.shape[1]), np.float32)
    if rows.shape[1] != coef.shape[1]:
        raise InvalidParameter(f"features of {rows.shape[1]} values; {coef.shape[1]} are needed")
    scores = rows.astype(np.float64) @ coef.T.astype(np.float64) + intercept
    result: NDArray[np.float32] = scores.astype(np.float32)
    return result


def params_of(card: Head) -> FeatureParams:
    """The parameters that give the features the head was trained on, whatever the defaults are."""
    spec = FeatureSpec.from_dict(card.spec)
    return FeatureParams(
        backbone=spec.backbone,
        # Heads from before `asked` was kept have a label alone.
        weights=card.weights.asked or (card.weights.label if card.weights.random else None),
        taps=[spec.tap],
        view=spec.view,
        pool=spec.pooling,
        normalize=spec.normalisation,
        merge=spec.merge,
    )


def pack_weights(coef: NDArray[np.float32], intercept: NDArray[np.float32]) -> bytes:
    """A head's weights as safetensors: `coef` and `intercept`."""
    tensors = {"coef": np.ascontiguousarray(coef), "intercept": np.ascontiguousarray(intercept)}
    return bytes(safetensors.numpy.save(tensors))


def unpack_weights(data: bytes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inverse of `pack_weights`; InvalidParameter for other bytes."""
    try:
        tensors = safetensors.numpy.load(data)
        return tensors["coef"], tensors["intercept"]
    except (safetensors.SafetensorError, KeyError) as error:
        raise InvalidParameter(f"not the weights of a head: {error}") from error


def save(store: Store, head: LinearHead) -> None:
    """Write a head; where one of its id is there already, that one stays."""
    owner, head_id = head.card.owner, head.card.id
    store.put_new(layout.head_weights(owner, head_id), pack_weights(head.coef, head.intercept))
    store.put_new(layout.head_card(owner, head_id), head.card.model_dump_json().encode())


def delete(store: Store, card: Head) -> None:
    """Remove a head and all that was kept with it. Its version stays claimed."""
    # The card is what makes it a head, so it goes first.
    store.delete(layout.head_card(card.owner, card.id))
    for key in store.keys(layout.head(card.owner, card.id)):
        store.delete(key)


def load_card(store: Store, owner: str, head_id: str) -> Head:
    """A head without its weights; UnknownName when there is none.

    One that was trained without a name may have got one since: cards are never written again.
    """
    try:
        card = Head.model_validate_json(store.get(layout.head_card(owner, head_id)))
    except UnknownName:
        raise UnknownName(f"no head {head_id!r}") from None
    if not card.name:
        with suppress(UnknownName):
            given = json.loads(store.get(layout.head_naming(owner, head_id)))
            return card.model_copy(update=given)
    return card


def load(store: Store, owner: str, head_id: str) -> LinearHead:
    """A head; UnknownName when there is none."""
    card = load_card(store, owner, head_id)
    return LinearHead(card, *_weights(store, owner, head_id))


def load_kept(store: Store, owner: str, head_id: str) -> LinearHead:
    """As `load`, but the weights of a head in use stay in memory.

    The card is read each time: a head that was deleted meanwhile is UnknownName here too.
    """
    card = load_card(store, owner, head_id)
    return LinearHead(card, *_kept_weights(cast("Hashable", store), owner, head_id, card.created_s))


@lru_cache(WEIGHTS_KEPT)
def _kept_weights(
    store: Hashable, owner: str, head_id: str, _created_s: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weights; the time is in the key, so that a head made anew is read anew."""
    return _weights(cast("Store", store), owner, head_id)


def _weights(
    store: Store, owner: str, head_id: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    try:
        return unpack_weights(store.get(layout.head_weights(owner, head_id)))
    except UnknownName:  # deleted since its card was read
        raise UnknownName(f"no head {head_id!r}") from None
