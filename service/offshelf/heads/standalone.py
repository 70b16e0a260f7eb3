"""A linear head of offshelf on its own: numpy and the two files beside this one are all it needs.

    python head.py features.npy          a label and its score for every row
    python head.py features.npz          of an answer of the service: its fingerprint is checked

Or from Python: `head = Head.load(); head.predict(features)`.

`weights.npz` has `coef` (K, D) and `intercept` (K,) in float32. `card.json` says what they are: the
`classes` in the order of the rows, and under `spec` exactly which features they are for, with the
`fingerprint` that offshelf answers carry. Features of anything else give nonsense, without an error
where their length is the same: so give the fingerprint where you have it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

# Kinds whose scores are the softmax of their margins.
SOFTMAX_KINDS = ("logreg", "logreg-dropout")


class OtherFeatures(ValueError):
    """The features are not those that the head was trained on."""


class Head:
    """A linear model of K classes over features of D numbers."""

    def __init__(self, coef: np.ndarray, intercept: np.ndarray, card: dict[str, Any]) -> None:
        self.coef = coef
        self.intercept = intercept
        self.card = card

    @classmethod
    def load(cls, folder: str | Path = Path(__file__).parent) -> Head:
        """The head whose files are in `folder`."""
        card = json.loads((Path(folder) / "card.json").read_text(encoding="utf-8"))
        with np.load(Path(folder) / "weights.npz", allow_pickle=False) as weights:
            return cls(weights["coef"], weights["intercept"], card)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return list(self.card["classes"])

    def check(self, fingerprint: str, spec: dict[str, Any] | None = None) -> None:
        """Raise OtherFeatures unless it was trained on features of this fingerprint.

        With the `spec` that came with them the error says what differs.
        """
        if fingerprint == self.card["fingerprint"]:
            return
        ours = self.card["spec"]
        differing = [
            f"{name}: {ours.get(name)} != {(spec or {}).get(name)}"
            for name in ours
            if spec is not None and ours.get(name) != spec.get(name)
        ]
        told = "; ".join(differing) or f"{self.card['fingerprint']} != {fingerprint}"
        raise OtherFeatures(f"this head was trained on other features: {told}")

    def decision(self, features: np.ndarray) -> np.ndarray:
        """Margins or logits (N, K) of features (N, ...), each flattened to D numbers."""
        given = np.asarray(features)
        rows, wanted = given.reshape(len(given), -1) if given.size else given, self.coef.shape[1]
        if given.ndim < 2 or rows.shape[-1] != wanted or given.dtype.kind not in "fiu":
            raise OtherFeatures(
                f"features {given.dtype} of shape {given.shape}; this head takes numbers of shape "
                f"(N, {wanted}), or shapes that flatten to it"
            )
        scores = rows.astype(np.float64) @ self.coef.T.astype(np.float64) + self.intercept
        return np.asarray(scores, np.float32)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """What offshelf's predictions call scores: margins, or the softmax of a `logreg`'s."""
        decision = self.decision(features)
        return self._own(decision) if self._is_softmax else decision

    def probabilities(self, features: np.ndarray) -> np.ndarray | None:
        """Calibrated probabilities (N, K), or a logistic regression's own; None of others."""
        decision = self.decision(features)
        calibration = self.card.get("calibration")
        if calibration is None:
            return self._own(decision) if self.card["kind"].startswith("logreg") else None
        if calibration["temperature"] is not None:
            return _softmax(decision / np.float64(calibration["temperature"])).astype(np.float32)
        odds = decision * np.array(calibration["slopes"]) + np.array(calibration["offsets"])
        return self._shares(_sigmoid(odds)).astype(np.float32)

    def predict(self, features: np.ndarray) -> list[str]:
        """The best class of each row."""
        return [self.classes[best] for best in self.scores(features).argmax(axis=1)]

    @property
    def _is_softmax(self) -> bool:
        return self.card["kind"] in SOFTMAX_KINDS

    def _own(self, decision: np.ndarray) -> np.ndarray:
        given = decision.astype(np.float64)
        if self._is_softmax and not self.card["multi_label"]:
            return _softmax(given).astype(np.float32)
        return self._shares(_sigmoid(given)).astype(np.float32)

    def _shares(self, each: np.ndarray) -> np.ndarray:
        """Over their sum, where an image has one class."""
        if self.card["multi_label"]:
            return each
        total = each.sum(axis=1, keepdims=True)
        alike = np.full_like(each, 1 / each.shape[1])
        return np.asarray(np.divide(each, total, out=alike, where=total > 0))


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Of two classes, whose scores are each other's negative, the sigmoid of the second's."""
    halves = scores / 2 if scores.shape[1] == 2 else scores
    odds = np.exp(halves - halves.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    """By tanh, as exp would overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(scores / 2))


def _features(head: Head, path: Path) -> np.ndarray:
    """The rows of an npy file, or those of the head's tap in an answer of the service."""
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded as answer:
        taps = json.loads(answer["meta"].tobytes())["taps"]
        for name, tap in taps.items():
            if tap["fingerprint"] == head.card["fingerprint"]:
                return np.asarray(answer[name])
        one = next(iter(taps.values()))
        head.check(one["fingerprint"], one["spec"])
    raise AssertionError("unreachable")


def main(arguments: list[str]) -> int:
    """Print a label and its score for every row of a file of features."""
    if len(arguments) != 1:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    head = Head.load()
    try:
        features = _features(head, Path(arguments[0]))
        scores = head.scores(features)
    except (OtherFeatures, OSError, KeyError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for row in scores:
        sys.stdout.write(f"{head.classes[row.argmax()]}\t{row.max():.6f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
