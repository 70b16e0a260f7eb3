"""A linear head as ONNX nodes: from features to what predictions say of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.engine.onnx.nodes import Nodes, tensor
from offshelf.schemas.learning import LOGISTIC_KINDS, SOFTMAX_KINDS

if TYPE_CHECKING:
    from onnx import ValueInfoProto

    from offshelf.heads.model import LinearHead

SCORES: Final = "scores"
PROBABILITIES: Final = "probabilities"
LABEL: Final = "label"
IMAGES: Final = "images"


def add_head(nodes: Nodes, features: str, head: LinearHead) -> list[ValueInfoProto]:
    """Add a head over `features` (N, D) float32; the outputs that it then has.

    `scores` (N, K) float32 are those of predictions, summed in float64 as the service does;
    `label` (N,) int64 is the place of the best of them; `probabilities` (N, K) float32 are there
    where the head has any.
    """
    classes = len(head.card.classes)
    decision = _decision(nodes, features, head)
    chances = _probabilities(nodes, decision, head)
    best = _own(nodes, decision, head) if head.card.kind in SOFTMAX_KINDS else decision
    nodes.op("Cast", best, output=SCORES, to=1)
    nodes.op("ArgMax", SCORES, output=LABEL, axis=1, keepdims=0)
    outputs = [
        tensor(SCORES, np.float32, [IMAGES, classes]),
        tensor(LABEL, np.int64, [IMAGES]),
    ]
    if chances is not None:
        nodes.op("Cast", chances, output=PROBABILITIES, to=1)
        outputs.append(tensor(PROBABILITIES, np.float32, [IMAGES, classes]))
    return outputs


def metadata_of(head: LinearHead) -> dict[str, str]:
    """What a file says of itself: the card, and apart from it what most readers look for."""
    card = head.card
    return {
        "offshelf_card": card.model_dump_json(),
        "classes": json.dumps(card.classes),
        "fingerprint": card.fingerprint,
        "scores": "probabilities" if card.kind in SOFTMAX_KINDS else "margins",
    }


def _decision(nodes: Nodes, features: str, head: LinearHead) -> str:
    """In float64, rounded to float32 as the service keeps it."""
    coef = nodes.cast(nodes.constant(head.coef.T.copy()), np.float64)
    intercept = nodes.cast(nodes.constant(head.intercept), np.float64)
    product = nodes.op("MatMul", nodes.cast(features, np.float64), coef)
    kept = nodes.cast(nodes.op("Add", product, intercept), np.float32)
    return nodes.cast(kept, np.float64)


def _probabilities(nodes: Nodes, decision: str, head: LinearHead) -> str | None:
    """Calibrated ones, or a logistic regression's own."""
    calibration = head.card.calibration
    if calibration is None:
        return _own(nodes, decision, head) if head.card.kind in LOGISTIC_KINDS else None
    if calibration.temperature is not None:
        cooled = nodes.op("Div", decision, nodes.constant(calibration.temperature))
        return _softmax(nodes, cooled, head)
    slopes = np.array(calibration.slopes, np.float64)
    offsets = np.array(calibration.offsets, np.float64)
    scaled = nodes.op("Mul", decision, nodes.constant(slopes))
    return _shares(nodes, nodes.op("Add", scaled, nodes.constant(offsets)), head)


def _own(nodes: Nodes, decision: str, head: LinearHead) -> str:
    softmax = head.card.kind in SOFTMAX_KINDS and not head.card.multi_label
    return (_softmax if softmax else _shares)(nodes, decision, head)


def _softmax(nodes: Nodes, decision: str, head: LinearHead) -> str:
    """Of two classes, whose scores are each other's negative, the sigmoid of the second's."""
    halves = len(head.card.classes) == 2
    scaled = nodes.op("Mul", decision, nodes.constant(0.5)) if halves else decision
    return nodes.op("Softmax", scaled, axis=1)


def _shares(nodes: Nodes, odds: str, head: LinearHead) -> str:
    """A sigmoid a class, over their sum where an image has one class."""
    op, constant = nodes.op, nodes.constant
    half = constant(0.5)
    # By tanh, as exp would overflow.
    each = op("Add", op("Mul", op("Tanh", op("Mul", odds, half)), half), half)
    if head.card.multi_label:
        return each
    total = op("ReduceSum", each, constant([1]), keepdims=1)
    some = op("Greater", total, constant(0.0))
    share = op("Div", each, op("Where", some, total, constant(1.0)))
    return op("Where", some, share, constant(1 / len(head.card.classes)))
