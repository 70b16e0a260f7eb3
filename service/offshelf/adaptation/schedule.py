"""How fast the layers learn, epoch by epoch: fixed steps, or the paper's wait for a plateau."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence


class Schedule(Protocol):
    """Says the learning rate of the next epoch from the mean training losses of those before."""

    def rate(self, losses: Sequence[float]) -> float | None:
        """The rate for epoch `len(losses)`; None when training is done."""
        ...


@dataclass(frozen=True, slots=True)
class Steps:
    """So many epochs; the rate is divided by ten after each of `drops` epochs."""

    epochs: int = 12
    first: float = 0.01
    drops: tuple[int, ...] = (8, 11)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.first <= 0 or any(drop < 1 for drop in self.drops):
            raise InvalidParameter("a schedule has an epoch or more, and a rate above 0")

    def rate(self, losses: Sequence[float]) -> float | None:
        """As `Schedule`; it does not look at the losses."""
        epoch = len(losses)
        if epoch >= self.epochs:
            return None
        return self.first * 0.1 ** sum(drop <= epoch for drop in self.drops)


@dataclass(frozen=True, slots=True)
class Plateau:
    """Oquab et al. (CVPR 2014, section 3): a rate until the loss is stable, then a tenth of it.

    It stops after `stages` such rates. The paper does not say what stable is: here an epoch that
    brings the loss down by less than the share `least`. A stage ends after `longest` epochs anyway.
    """

    first: float = 0.01
    stages: int = 3
    least: float = 0.01
    longest: int = 20

    def __post_init__(self) -> None:
        if not (self.first > 0 and self.stages >= 1 and self.longest >= 1 and 0 <= self.least < 1):
            raise InvalidParameter("a plateau has a rate above 0, and a stage and an epoch or more")

    def rate(self, losses: Sequence[float]) -> float | None:
        """As `Schedule`."""
        stage, since = 0, 0
        for epoch in range(1, len(losses) + 1):
            stable = epoch - since >= 2 and losses[epoch - 1] > (1 - self.least) * losses[epoch - 2]
            if stable or epoch - since >= self.longest:
                stage, since = stage + 1, epoch
        return self.first * 0.1**stage if stage < self.stages else None


PRESETS: Final[dict[str, Schedule]] = {"steps": Steps(), "paper": Plateau()}
