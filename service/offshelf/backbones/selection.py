"""Finds a network's tensors in a file that somebody's training wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from offshelf.backbones.head import head_modules
from offshelf.backbones.state_dict import checked_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

    from offshelf.backbones.interface import Build

_NAMED: Final = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """Under `key`, the tensors whose names begin with `prefix`, without it, less the `drop`ped.

    `drop` holds beginnings of names after the prefix. `unprefixed` are tensors that stay though
    their names have no prefix, where none has it. `headless` builds the network whose head's
    tensors are left out too, whatever they are below its modules.
    """

    key: str = ""
    prefix: str = ""
    drop: tuple[str, ...] = ()
    headless: Build | None = None
    unprefixed: tuple[str, ...] = ()

    def __call__(self, held: object) -> Mapping[str, torch.Tensor]:
        """The state dict; ValueError that goes on from the file's name where there is none."""
        tensors = checked_tensors(self._under_key(held))
        named = {
            name.removeprefix(self.prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(self.prefix)
        }
        if not named:
            raise ValueError(
                f"has no tensor whose name begins with {self.prefix!r}; there are: {_some(tensors)}"
            )
        named = {name: tensors[name] for name in self.unprefixed if name in tensors} | named
        head = [] if self.headless is None else head_modules(self.headless)
        dropped = (*self.drop, *(f"{module}." for module in head))
        return {name: tensor for name, tensor in named.items() if not name.startswith(dropped)}

    def _under_key(self, held: object) -> object:
        if not self.key:
            return held
        if not isinstance(held, dict) or self.key not in held:
            keys = _some(held) if isinstance(held, dict) else "none, it is no mapping"
            raise ValueError(f"has no key {self.key!r}; its keys are: {keys}")
        return held[self.key]


def _some(names: Iterable[object]) -> str:
    listed = [str(name) for name in names]
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {more} more" if more > 0 else "")
