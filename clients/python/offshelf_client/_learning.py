"""What a training is asked for, beyond features and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Metric: TypeAlias = Literal["accuracy", "mean_class_accuracy", "map_11pt", "map_all_point"]
CPreset: TypeAlias = Literal["kornblith", "vissl", "clip"]


@dataclass(frozen=True, slots=True)
class ChooseC:
    """C by the scores of held-out training images; the head is then trained on all of them.

    `choose` is a list of Cs, or one of the literature's by name. `folds` is how many, or `"val"`:
    the split's own validation images. `per_class` gives each class its own C, which one-vs-rest
    kinds have. `metric` is what held-out images are scored by: the protocol's own, else accuracy.
    """

    choose: CPreset | Sequence[float] = "vissl"
    folds: int | Literal["val"] = 5
    per_class: bool = False
    metric: Metric | None = None


COption: TypeAlias = float | ChooseC | Mapping[str, Any]


def c_body(C: COption) -> Any:
    """C as JSON."""
    if isinstance(C, ChooseC):
        named = isinstance(C.choose, str)
        return asdict(C) | {"choose": C.choose if named else [float(c) for c in C.choose]}
    return dict(C) if isinstance(C, Mapping) else C


def options_body(**options: Any) -> dict[str, Any]:
    """Options as JSON; those that are None are the server's to choose."""
    return {name: value for name, value in options.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A combination that a search tried: its `settings`, and how it did on held-out images.

    `score` is the mean over the folds, with their `deviation`, at the best C of its own.
    """

    settings: Mapping[str, str | None]
    C: float
    score: float | None
    deviation: float | None
    head: str


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The best score; of equal ones the first."""
    return max(candidates, key=lambda c: float("-inf") if c.score is None else c.score)
