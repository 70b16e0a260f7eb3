"""Two heads side by side: what differs in features, training and data, and who does better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from offshelf.core.spec import FeatureSpec
from offshelf.schemas.registry import Difference, FigurePair, HeadComparison, HeadRef

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from offshelf.schemas.heads import Head, Metrics

FIGURES: Final = ("accuracy", "mean_class_accuracy", "map_11pt", "map_all_point")
DATA: Final = ("dataset", "split", "classes", "multi_label", "regions")
# Of a card, what says neither how a head was trained nor on what.
_OTHER: Final = frozenset(
    {
        *DATA, "id", "owner", "name", "version", "tags", "created_s", "warnings", "spec",
        "fingerprint", "weights", "train", "test", "protocol", "calibration", "choice",
    }
)  # fmt: skip


def compared(a: Head, b: Head) -> HeadComparison:
    """Everything that the cards of two heads tell."""
    reasons = list(_unfair(a, b))
    return HeadComparison(
        a=_ref(a),
        b=_ref(b),
        fair=not reasons,
        reasons=reasons,
        features=_features(a, b),
        training=_training(a, b),
        data=[one for one in _differences(a.model_dump(), b.model_dump()) if one.field in DATA],
        figures=_figures(a, b),
    )


def _ref(card: Head) -> HeadRef:
    return HeadRef(id=card.id, name=card.name, version=card.version)


def _unfair(a: Head, b: Head) -> Iterator[str]:
    """Why the test figures of two heads may not be set against each other."""
    if a.dataset != b.dataset:
        yield f"they were trained on two datasets: {a.dataset} and {b.dataset}"
    elif a.split != b.split:
        yield "they were tested on two splits of the dataset"
    untested = [card.id for card in (a, b) if card.test is None and card.protocol is None]
    for head_id in untested:
        yield f"head {head_id} was trained on all its images: nothing was left to test it"
    if not untested and _tested(a) != _tested(b):
        yield f"they were tested on {_tested(a)} and {_tested(b)} images: some had no features"


def _tested(card: Head) -> int:
    return card.test.images if card.test else 0


def _features(a: Head, b: Head) -> list[Difference]:
    """Fields of the FeatureSpecs, those of the preprocessing each for itself."""
    ours, theirs = (_flat(FeatureSpec.from_dict(card.spec).to_dict()) for card in (a, b))
    return _differences(ours, theirs)


def _flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    inner = {f"preprocessing.{name}": value for name, value in spec["preprocessing"].items()}
    return {name: value for name, value in spec.items() if name != "preprocessing"} | inner


def _training(a: Head, b: Head) -> list[Difference]:
    """All else that the cards have: kind, C, options, versions."""
    found = []
    for one in _differences(a.model_dump(), b.model_dump()):
        if one.field in _OTHER:
            continue
        if isinstance(one.a, dict) and isinstance(one.b, dict):
            inner = _differences(one.a, one.b)
            found += [d.model_copy(update={"field": f"{one.field}.{d.field}"}) for d in inner]
        else:
            found.append(one)
    return found


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    names = dict.fromkeys([*a, *b])
    pairs = [(name, a.get(name), b.get(name)) for name in names]
    return [Difference(field=name, a=x, b=y) for name, x, y in pairs if x != y]


def _figures(a: Head, b: Head) -> list[FigurePair]:
    """Figures that one of them has at least: of the protocol, then of the test and training."""
    ours, theirs = (card.protocol.figures if card.protocol else {} for card in (a, b))
    found = [
        _pair("protocol", metric, ours.get(metric), theirs.get(metric))
        for metric in dict.fromkeys([*ours, *theirs])
    ]
    for side in ("test", "train"):
        for metric in FIGURES:
            pair = _figure(getattr(a, side), metric), _figure(getattr(b, side), metric)
            if pair != (None, None):
                found.append(_pair(side, metric, *pair))
    return found


def _figure(metrics: Metrics | None, metric: str) -> float | None:
    return None if metrics is None else getattr(metrics, metric)


def _pair(side: Any, metric: str, a: float | None, b: float | None) -> FigurePair:
    difference = None if a is None or b is None else b - a
    return FigurePair(side=side, metric=metric, a=a, b=b, difference=difference)
