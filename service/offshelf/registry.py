"""Named things that are found by discovery, so that adding one is adding one file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import Generic, TypeVar

from offshelf.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from name to thing that refuses duplicates and knows close matches.

    `package` names the package whose modules register their things when imported; they are
    imported once, at the first look-up.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._things: dict[str, T] = {}
        self._discovered = False

    def add(self, name: str, thing: T) -> T:
        """Register `thing`; a name that is taken raises ValueError."""
        if name in self._things:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._things[name] = thing
        return thing

    def names(self) -> list[str]:
        """All names, sorted."""
        self._discover()
        return sorted(self._things)

    def get(self, name: str) -> T:
        """The thing of that name; UnknownName with a hint when there is none."""
        self._discover()
        try:
            return self._things[name]
        except KeyError:
            raise UnknownName(unknown(self.kind, name, self.names())) from None

    def _discover(self) -> None:
        if self._discovered:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        self._discovered = True


def unknown(kind: str, name: str, known: list[str]) -> str:
    """The sentence for an unknown name: what was asked, the closest names, or all of them."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"no {kind} named {name!r}; did you mean {', '.join(close)}?"
    listed = ", ".join(known) or "none"
    return f"no {kind} named {name!r}; there are: {listed}"
