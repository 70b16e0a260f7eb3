"""How long a batch takes by its size: a straight line through the latest batches.

A batch has a cost of its own beside that of its inputs, so the seconds of one size say little of
another: a device that needs 30 ms for one input may need 35 ms for two.
"""

from __future__ import annotations

import math
from typing import Final, Self

# The weight of a batch against that of the next.
FORGET: Final = 0.9
# What takes longer than so many times the expected counts as that: the system was busy elsewhere.
SPIKE: Final = 3.0
# How much larger than the largest of late a batch may be.
GROWTH: Final = 2.0
# Below this variance of the sizes, in inputs, their seconds make no line.
SPREAD: Final = 0.05
# So that 20 inputs that just fit are not 19.
ROUNDING: Final = 1e-6


class Cost:
    """What is known of the batches of one network with the same outputs; one batch at least."""

    def __init__(self, inputs: int, seconds: float) -> None:
        self._weight = 1.0
        self._off = 0.0
        self._largest = float(inputs)
        self._inputs, self._square = float(inputs), float(inputs) ** 2
        self._seconds, self._product = max(seconds, 1e-9), inputs * seconds

    @classmethod
    def proportional(cls, seconds: float, inputs: int = 1) -> Self:
        """As after a batch of `inputs` that took `seconds` each."""
        return cls(inputs, inputs * seconds)

    def learn(self, inputs: int, seconds: float) -> None:
        """A batch of so many inputs took so long."""
        expected = self.seconds(inputs)
        seconds = min(seconds, SPIKE * expected)
        self._off = FORGET * self._off + (1 - FORGET) * abs(seconds / expected - 1)
        self._weight = FORGET * self._weight + 1
        self._largest = max(float(inputs), FORGET * self._largest)
        self._inputs = FORGET * self._inputs + inputs
        self._square = FORGET * self._square + inputs**2
        self._seconds = FORGET * self._seconds + seconds
        self._product = FORGET * self._product + inputs * seconds

    def seconds(self, inputs: int) -> float:
        """How long a batch should take."""
        base, slope = self._line()
        return base + slope * inputs

    def inputs_within(self, seconds: float) -> int:
        """The largest batch that takes at most so long, of one input at least.

        As much as batches are off the line of late is left free. It is not much larger than what
        has been tried; where all had one size, and had time to spare, it is one larger, to find
        out.
        """
        seconds /= 1 + self._off
        base, slope = self._line()
        fitting = (seconds - base) / slope if slope else math.inf
        if not self._varied() and self._seconds < seconds * self._weight:
            fitting = max(fitting, self._inputs / self._weight + 1)
        return max(1, math.floor(min(fitting, GROWTH * self._largest) + ROUNDING))

    def _line(self) -> tuple[float, float]:
        """Seconds of a batch as such, and of an input; neither is negative."""
        inputs, seconds = self._inputs / self._weight, self._seconds / self._weight
        if not self._varied():
            return 0.0, seconds / inputs
        covariance = self._product / self._weight - inputs * seconds
        slope = min(max(0.0, covariance / self._variance()), seconds / inputs)
        return seconds - slope * inputs, slope

    def _varied(self) -> bool:
        return self._variance() > SPREAD

    def _variance(self) -> float:
        return self._square / self._weight - (self._inputs / self._weight) ** 2
