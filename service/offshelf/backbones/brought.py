"""The networks that an operator brought: the card files of the weights directory, as they are now.

A card file that was changed, added or removed counts from the next question on, without a restart.
One that is bad is told, and keeps nobody else from working.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from offshelf.backbones.brought_card import read_card
from offshelf.backbones.card_file import SUFFIX, BadCard, read_card_file
from offshelf.backbones.interface import BACKBONES, Card

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Read:
    """What came of a card file, and the files it came of as they were."""

    files: tuple[Path, ...]
    stamp: Stamp
    result: Card | BadCard


class BroughtCards:
    """The cards of a folder by name, read anew only where a file has changed."""

    def __init__(self, folder: Path | None, architecture_of: Callable[[str], Card]) -> None:
        self._folder, self._architecture_of = folder, architecture_of
        self._read: dict[Path, _Read] = {}
        self._lock = threading.Lock()

    def results(self) -> dict[str, Card | BadCard]:
        """By name, the card of each card file that is there now, or why it makes none."""
        with self._lock:
            paths = self._paths()
            for gone in set(self._read) - set(paths):
                del self._read[gone]
            for path in paths:
                self._refresh(path)
            return {path.name.removesuffix(SUFFIX): self._read[path].result for path in paths}

    def _paths(self) -> list[Path]:
        if self._folder is None:
            return []
        try:
            found = [p for p in self._folder.iterdir() if p.suffix == SUFFIX and p.is_file()]
        except OSError:  # a folder that is not there has no card files
            return []
        return sorted(found)

    def _refresh(self, path: Path) -> None:
        """Read a card file unless it, and what it was read with, is as it was."""
        known = self._read.get(path)
        if known is not None and known.stamp == _stamp(known.files):
            return
        files = _read_for(path)
        # Older than what is read now, so a change meanwhile is seen the next time.
        stamp = _stamp(files)
        result = self._card(path)
        self._read[path] = _Read(files, stamp, result)
        if isinstance(result, BadCard):
            log.error("%s", result)
        else:
            log.info("%s: brought by %s", result.name, path)

    def _card(self, path: Path) -> Card | BadCard:
        name = path.name.removesuffix(SUFFIX)
        try:
            if name in BACKBONES.names():
                raise BadCard(path, f"{name} is a backbone of offshelf's own; rename the file")
            return read_card(path, self._architecture_of)
        except BadCard as error:
            return error
        except Exception as error:  # a network's own code ran; the other cards must not suffer
            log.exception("the card file %s", path)
            return BadCard(path, f"no card could be made of it: {type(error).__name__} {error}")


def _read_for(path: Path) -> tuple[Path, ...]:
    """The files that make a card: the card file, and the one of class names that it may name."""
    try:
        names = read_card_file(path).classes_file
    except BadCard:
        names = None
    return (path,) if names is None else (path, path.parent / names)


def _stamp(files: tuple[Path, ...]) -> Stamp:
    """What changes with the files."""
    return tuple(_about(file) for file in files)


def _about(path: Path) -> tuple[int, int, int]:
    """What changes with a file; zeros where there is none."""
    try:
        about = path.stat()
    except (OSError, ValueError):  # not there, or no path at all, which reading it tells
        return 0, 0, 0
    return about.st_mtime_ns, about.st_size, about.st_ino
