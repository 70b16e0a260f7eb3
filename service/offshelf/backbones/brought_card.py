"""From a card file to a card: an architecture with other weights, classes and preprocessing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from offshelf.backbones.card_file import SUFFIX, BadCard, read_card_file, read_text, wrong_field
from offshelf.backbones.head import Headless, Resized
from offshelf.backbones.interface import Card, PublishedWeights, arranged_shape
from offshelf.backbones.selection import Selection
from offshelf.errors import OffshelfError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from offshelf.backbones.card_file import CardFile
    from offshelf.backbones.interface import Build, Tap
    from offshelf.core.spec import Preprocessing

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def read_card(path: Path, architecture_of: Callable[[str], Card]) -> Card:
    """The card that a card file makes; `architecture_of` gives the card of a known network.

    Raises BadCard, which says what is wrong, where, and what would be right.
    """
    name = path.name.removesuffix(SUFFIX)
    if not _NAME.fullmatch(name):
        raise BadCard(path, f"{name!r} is no name: letters and digits, and inside '.', '_', '-'")
    file = read_card_file(path)
    try:
        architecture = architecture_of(file.architecture)
    except OffshelfError as error:
        raise wrong_field(path, "architecture", f"is no network: {error}") from error
    return _Maker(path, file, architecture).card(name)


@dataclass(frozen=True, slots=True)
class _Maker:
    """One card file and the architecture that it names."""

    path: Path
    file: CardFile
    architecture: Card

    def card(self, name: str) -> Card:
        """The card, under this name."""
        file, base = self.file, self.architecture
        self.inside("weights", file.weights)
        pre, names = self.preprocessing(), self.class_names()
        classes = self.class_count(names)
        taps = self.taps(pre, classes)
        kept = {tap.name for tap in taps}
        return replace(  # what it says of its files, of older names of tensors say, holds on
            base,
            name=name,
            build=self.build(classes),
            taps=taps,
            preprocessing=pre,
            weights=PublishedWeights(
                name=file.weights, url="", sha256_prefix="", licence=file.licence, file=file.weights
            ),
            others={},
            pinned=True,
            aliases={name: alias for name, alias in base.aliases.items() if alias.tap in kept},
            classes=classes,
            class_names=names,
            paper=file.paper,
            select=Selection(
                file.key,
                file.prefix,
                file.drop,
                base.build if file.headless else None,
                (base.mean_image,) if base.mean_image else (),
            ),
            brought=True,
            architecture=base.name,
            nbytes=None,
        )

    def inside(self, field: str, text: str) -> Path:
        """The path that a field names; BadCard unless it is in the card file's folder."""
        folder = self.path.parent.resolve()
        try:
            found = (folder / text).resolve()
        except (OSError, ValueError) as error:
            raise wrong_field(self.path, field, f"is no path: {error}") from error
        if not text or found == folder or not found.is_relative_to(folder):
            raise wrong_field(
                self.path, field, f"is {text!r}, which is not a file inside {self.path.parent}"
            )
        return found

    def preprocessing(self) -> Preprocessing:
        """The architecture's, with what the card file says in its place."""
        given = self.file.preprocessing.model_dump(exclude_none=True)
        pre = replace(self.architecture.preprocessing, **given)
        self.same_mean(pre)
        if pre.crop > pre.resize:
            field = "preprocessing.crop" if "crop" in given else "preprocessing.resize"
            raise wrong_field(
                self.path, field, f"leaves the crop ({pre.crop}) larger than resize ({pre.resize})"
            )
        return pre

    def same_mean(self, pre: Preprocessing) -> None:
        """BadCard where the network subtracts a mean image and these would subtract another mean.

        It takes the difference between that image and the architecture's mean pixel, on the
        architecture's scale and in its order of channels.
        """
        base = self.architecture
        for field in ("mean", "std", "channels") if base.mean_image else ():
            own = getattr(base.preprocessing, field)
            if getattr(pre, field) != own:
                what = (
                    f"cannot be other than {own}: {base.name} subtracts its mean inside the "
                    f"network; leave it out, and bring another mean as the tensor "
                    f"{base.mean_image!r} of the weights file (see docs/paper-networks.md)"
                )
                raise wrong_field(self.path, f"preprocessing.{field}", what)

    def class_names(self) -> tuple[str, ...]:
        """The names in the order of the logits, from the card file or the file that it names."""
        classes, source = self.file.classes, self.file.classes_file
        if source is None:
            names, field = classes if isinstance(classes, tuple) else (), "classes"
        else:
            names, field = self.lines("classes_file", source), "classes_file"
            if classes is not None and classes != len(names):
                what = f"gives {len(names)} names, but 'classes' is otherwise; leave one out"
                raise wrong_field(self.path, field, what)
        twice = sorted({name for name in names if names.count(name) > 1}) if names else []
        if twice:
            raise wrong_field(self.path, field, f"names {twice[0]!r} more than once")
        return names

    def lines(self, field: str, text: str) -> tuple[str, ...]:
        """The names in a file, one a line."""
        path = self.inside(field, text)
        try:
            names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
        except (OSError, ValueError) as error:
            raise wrong_field(self.path, field, f"cannot be read: {error}") from error
        if not names:
            raise wrong_field(self.path, field, f"is {text!r}, which is empty: a name a line")
        return names

    def class_count(self, names: tuple[str, ...]) -> int:
        """How many logits there are; none without a head."""
        classes = self.file.classes
        if not self.file.headless:
            return classes if isinstance(classes, int) else len(names) or self.architecture.classes
        if classes is not None or names:
            what = "is set, so there are no classes: leave 'classes' and 'classes_file' out"
            raise wrong_field(self.path, "headless", what)
        return 0

    def build(self, classes: int) -> Build:
        """The architecture's, with that head or none."""
        if self.file.headless:
            return Headless(self.architecture.build)
        if classes != self.architecture.classes:
            return Resized(self.architecture.build, classes)
        return self.architecture.build

    def taps(self, pre: Preprocessing, classes: int) -> tuple[Tap, ...]:
        """The architecture's: those of the head with so many classes, all at that input size."""
        base, taps = self.architecture, self.architecture.taps
        if pre.crop != base.preprocessing.crop:
            taps = self.at_size(pre.crop)
        head = head_taps(base)
        if not classes:
            return tuple(tap for tap in taps if tap.name not in head)
        return tuple(
            replace(tap, shape=(classes, *tap.shape[1:])) if tap.name in head else tap
            for tap in taps
        )

    def at_size(self, side: int) -> tuple[Tap, ...]:
        """The architecture's taps for inputs of this side.

        What a vector sees depends on the side, so that is left open; what a map's place sees
        does not.
        """
        from offshelf.backbones.tracing import Shapes

        try:
            shapes = Shapes(self.architecture.build, side)
            taps = [
                replace(tap, shape=arranged_shape(tap.layout, shapes.shape(tap.node)))
                for tap in self.architecture.taps
            ]
        except ValueError as error:
            what = f"does not fit {self.architecture.name}: {error}"
            raise wrong_field(self.path, "preprocessing.crop", what) from error
        return tuple(tap if tap.is_map else replace(tap, receptive_field=None) for tap in taps)


def head_taps(card: Card) -> set[str]:
    """The taps of the head: those after `penultimate` with one number a class."""
    names = [tap.name for tap in card.taps]
    alias = card.aliases.get("penultimate")
    last = alias.tap if alias else "penultimate"
    after = card.taps[names.index(last) + 1 :] if last in names else card.taps[-1:]
    return {tap.name for tap in after if tap.shape[0] == card.classes}
