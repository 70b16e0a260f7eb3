"""Names and versions of heads: what a head may be called, and how it is found again.

A head is named by its id, by `name` (the newest version that is there), `name:3` (that version) or
`name:tag` (where a tag stands, see `heads.tags`). Versions count from 1 and are never given twice:
each is claimed by an object in the store that is written if nobody has yet, so that of workers who
finish at once each gets its own. A claim counts where the card of its head says the same.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from offshelf.errors import InvalidParameter, UnknownName
from offshelf.heads import model, tags
from offshelf.registry import unknown
from offshelf.schemas.heads import HEAD_ID_PREFIX, NEWEST
from offshelf.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offshelf.schemas.heads import Head
    from offshelf.store.interface import Store

# A step that is run again claimed a version moments ago, so its claim is among the newest.
LOOK_BACK: Final = 32
_REF: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?::([A-Za-z0-9._-]{1,64}))?")


@dataclass(frozen=True, slots=True)
class Ref:
    """A head as a caller names it: an id or a name, and what stands after a colon."""

    name: str
    version: int | None = None
    tag: str | None = None

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Read `id`, `name`, `name:3` or `name:tag`; UnknownName for what can be none of them."""
        match = _REF.fullmatch(text)
        if match is None:
            raise UnknownName(
                f"no head {text[:80]!r}: a head is named by its id, or as name, name:3, name:tag"
            )
        name, which = match[1], match[2]
        if which is None or which == NEWEST:
            return cls(name)
        if which.isdecimal():
            return cls(name, version=int(which[:9]))
        return cls(name, tag=which)


def claim(store: Store, owner: str, name: str, head_id: str) -> int:
    """The version of a name that is this head's: what it claimed before, or else the next."""
    claimed = _claims(store, owner, name)
    for version in reversed(claimed[-LOOK_BACK:]):
        if _claimant(store, owner, name, version) == head_id:
            return version
    version = max(claimed, default=0)
    data = json.dumps({"head": head_id}).encode()
    while True:
        version += 1
        if store.put_new(layout.head_version(owner, name, version), data):
            return version


def give(store: Store, card: Head, name: str) -> Head:
    """The card of a head that is the next version of a name from now on.

    InvalidParameter for a head that has another name: what `name:3` is never changes.
    """
    if not card.name:
        check_name(name)
        version = claim(store, card.owner, name, card.id)
        data = json.dumps({"name": name, "version": version}).encode()
        store.put_new(layout.head_naming(card.owner, card.id), data)
        card = model.load_card(store, card.owner, card.id)
    if card.name != name:
        raise InvalidParameter(
            f"head {card.id} is {card.name}:{card.version}, and keeps that name: a tag can be moved"
        )
    return card


def resolve(store: Store, owner: str, text: str) -> Head:
    """The card of the head that a text names; UnknownName says what there is instead."""
    ref = Ref.parse(text)
    if ref.version is None and ref.tag is None:
        with suppress(UnknownName):
            return model.load_card(store, owner, ref.name)
    if ref.name.startswith(HEAD_ID_PREFIX):
        raise UnknownName(f"no head {text!r}")
    if ref.tag is not None:
        return _tagged(store, owner, ref.name, ref.tag)
    if ref.version is None:
        return _newest(store, owner, ref.name)
    card = _card_of(store, owner, ref.name, ref.version)
    if card is None:
        raise UnknownName(_no_version(store, owner, ref.name, ref.version))
    return card


def heads_of(store: Store, owner: str, name: str) -> Iterator[str]:
    """The ids of the heads that claimed a version of a name."""
    return (_claimant(store, owner, name, version) for version in _claims(store, owner, name))


def check_name(name: str) -> str:
    """The name itself; InvalidParameter for one that a head may not have."""
    match = _REF.fullmatch(name)
    if match is None or match[2] is not None:
        raise InvalidParameter(
            f"a head's name is up to 100 letters, digits, '.', '_' and '-', the first a letter or "
            f"a digit, not {name[:120]!r}"
        )
    if name.startswith(HEAD_ID_PREFIX) or name == "compare":
        raise InvalidParameter(
            f"a head's name may not be 'compare' or begin with {HEAD_ID_PREFIX!r}, as ids do"
        )
    return name


def _tagged(store: Store, owner: str, name: str, tag: str) -> Head:
    found = tags.of_name(store, owner, name)
    if tag in found:
        with suppress(UnknownName):
            return model.load_card(store, owner, found[tag])
    _newest(store, owner, name)  # where there is no such name at all, that is what is wrong
    raise UnknownName(unknown(f"tag of head {name!r}", tag, sorted(found)))


def _newest(store: Store, owner: str, name: str) -> Head:
    for version in reversed(_claims(store, owner, name)):
        card = _card_of(store, owner, name, version)
        if card is not None:
            return card
    raise UnknownName(unknown("head", name, names(store, owner)))


def names(store: Store, owner: str) -> list[str]:
    """All names that a head was given, sorted."""
    keys = store.keys(layout.head_names(owner))
    return sorted({PurePosixPath(key).parent.name for key in keys})


def _no_version(store: Store, owner: str, name: str, version: int) -> str:
    newest = _newest(store, owner, name)
    given = version in _claims(store, owner, name)
    why = "was deleted" if given else "was never given"
    return f"no head '{name}:{version}': that version {why}; the newest is {name}:{newest.version}"


def _claims(store: Store, owner: str, name: str) -> list[int]:
    """The versions of a name that were claimed, in ascending order."""
    keys = store.keys(layout.head_versions(owner, name))
    return [int(PurePosixPath(key).stem) for key in keys]


def _claimant(store: Store, owner: str, name: str, version: int) -> str:
    return str(json.loads(store.get(layout.head_version(owner, name, version)))["head"])


def _card_of(store: Store, owner: str, name: str, version: int) -> Head | None:
    """The head of a claimed version; None where its card is gone, or never came."""
    try:
        card = model.load_card(store, owner, _claimant(store, owner, name, version))
    except UnknownName:
        return None
    return card if (card.name, card.version) == (name, version) else None
