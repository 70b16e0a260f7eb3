"""Trained adaptation layers in use: FCa and FCb on features, in numpy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np
import safetensors
import safetensors.numpy

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Output: TypeAlias = Literal["softmax", "sigmoid"]
OUTPUTS: Final[tuple[Output, ...]] = get_args(Output)
TENSORS: Final = ("fca_weight", "fca_bias", "fcb_weight", "fcb_bias")


@dataclass(frozen=True, slots=True)
class AdaptationLayers:
    """Oquab et al.'s FCa (H, D) with a ReLU and FCb (K, H).

    `softmax`: the probabilities of the classes and, last, of background (CVPR 2014); `sigmoid`: of
    each class by itself (CVPR 2015, trained without boxes). Features are brought to unit length
    and multiplied by `scale` first; 0 leaves them as they are.
    """

    fca_weight: Floats
    fca_bias: Floats
    fcb_weight: Floats
    fcb_bias: Floats
    scale: float
    output: Output

    def __post_init__(self) -> None:
        hidden, outputs = len(self.fca_weight), len(self.fcb_weight)
        shapes = (self.fca_bias.shape, self.fcb_weight.shape, self.fcb_bias.shape)
        if shapes != ((hidden,), (outputs, hidden), (outputs,)) or self.output not in OUTPUTS:
            raise InvalidParameter(f"FCa of {self.fca_weight.shape} does not fit FCb's {shapes}")

    @property
    def dimensions(self) -> int:
        """How many numbers a feature has."""
        return int(self.fca_weight.shape[1])

    def probabilities(self, X: NDArray[np.floating]) -> Floats:
        """The probabilities (M, K), background among them where it is a class, of features (M, D).

        Features of more axes are flattened in C order.
        """
        values = math.prod(X.shape[1:])
        if values != self.dimensions:
            raise InvalidParameter(
                f"features of {values} values; the layers take {self.dimensions}"
            )
        rows = np.asarray(X, np.float32).reshape(len(X), values)
        hidden = scaled(rows, self.scale) @ self.fca_weight.T
        np.maximum(hidden + self.fca_bias, 0, out=hidden)
        logits = hidden @ self.fcb_weight.T + self.fcb_bias
        if self.output == "sigmoid":
            # exp would overflow
            return (0.5 + 0.5 * np.tanh(logits / 2)).astype(np.float32, copy=False)
        logits -= logits.max(axis=1, keepdims=True)
        exp: Floats = np.exp(logits)
        exp /= exp.sum(axis=1, keepdims=True)
        return exp

    def pack(self) -> bytes:
        """As safetensors."""
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in TENSORS}
        tensors["scale"] = np.array([self.scale], np.float32)
        tensors["output"] = np.array([OUTPUTS.index(self.output)], np.int64)
        return bytes(safetensors.numpy.save(tensors))

    @classmethod
    def unpack(cls, data: bytes) -> AdaptationLayers:
        """Inverse of `pack`; InvalidParameter for other bytes."""
        try:
            found = safetensors.numpy.load(data)
            scale, output = float(found["scale"][0]), OUTPUTS[int(found["output"][0])]
            return cls(**{name: found[name] for name in TENSORS}, scale=scale, output=output)
        except (safetensors.SafetensorError, KeyError, IndexError) as error:
            raise InvalidParameter(f"not adaptation layers: {error}") from error


def scaled(rows: Floats, scale: float) -> Floats:
    """Rows (M, D) of length `scale` each, zeros as they are; unchanged for a scale of 0."""
    if not scale:
        return rows
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    factor = np.float32(scale) / np.where(length > 0, length, 1)
    return (rows * factor).astype(np.float32, copy=False)
