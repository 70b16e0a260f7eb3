"""Every backbone that this machine can be asked for, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.backbones.interface import BACKBONES

if TYPE_CHECKING:
    from offshelf.backbones.interface import Card


class Catalogue:
    """The registered cards."""

    def names(self) -> list[str]:
        """All names, sorted."""
        return BACKBONES.names()

    def get(self, name: str) -> Card:
        """The card of that name; UnknownName with a hint when there is none."""
        return BACKBONES.get(name)

    def cards(self) -> list[Card]:
        """All cards, by name."""
        return [self.get(name) for name in self.names()]
