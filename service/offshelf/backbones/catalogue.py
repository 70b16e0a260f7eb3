"""Every backbone that this machine can be asked for, by name: registered, brought, or timm's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.backbones.brought import BroughtCards
from offshelf.backbones.card_file import BadCard
from offshelf.backbones.interface import BACKBONES
from offshelf.backbones.timm_models import PREFIX, timm_card
from offshelf.errors import UnknownName, WeightsMissing, without_folder
from offshelf.registry import unknown

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.backbones.interface import Card


class Catalogue:
    """The registered cards, those of the card files in `weights_dir`, and on demand timm's.

    As long as nothing changed, a name gives the same object each time.
    """

    def __init__(self, weights_dir: Path | None = None) -> None:
        self._brought = BroughtCards(weights_dir, _architecture)

    def names(self) -> list[str]:
        """All names that can be listed, sorted; timm's thousand are not among them."""
        return [card.name for card in self.cards()]

    def get(self, name: str) -> Card:
        """The card of that name.

        Raises UnknownName with a hint when there is none, and WeightsMissing where a card file of
        that name is bad.
        """
        if name in BACKBONES.names() or name.startswith(PREFIX):
            return _architecture(name)
        brought = self._brought.results()
        if name not in brought:
            names = sorted([*BACKBONES.names(), *brought])
            raise UnknownName(unknown("backbone", name, names))
        card = brought[name]
        if isinstance(card, BadCard):
            raise WeightsMissing(str(card), without_folder(str(card), card.path.parent))
        return card

    def cards(self) -> list[Card]:
        """All cards that can be listed, by name."""
        brought = [c for c in self._brought.results().values() if not isinstance(c, BadCard)]
        registered = [BACKBONES.get(name) for name in BACKBONES.names()]
        return sorted([*registered, *brought], key=lambda card: card.name)

    def bad_cards(self) -> dict[str, BadCard]:
        """By name, the card files that make no backbone, and why."""
        return {n: c for n, c in self._brought.results().items() if isinstance(c, BadCard)}


def _architecture(name: str) -> Card:
    """A card that no operator brought."""
    return timm_card(name) if name.startswith(PREFIX) else BACKBONES.get(name)
