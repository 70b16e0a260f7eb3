"""Tags: words that stand at one version of a name, and can be moved.

Objects in the store are never changed. So every move of a tag is an object of its own, numbered,
and written if nobody has taken that number: the highest is where the tag stands, or says that it
was taken away. What is older is removed.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from offshelf.errors import InvalidParameter, UnknownName
from offshelf.schemas.heads import NEWEST
from offshelf.store import layout

if TYPE_CHECKING:
    from offshelf.schemas.heads import Head
    from offshelf.store.interface import Store

_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_tag(tag: str) -> str:
    """The tag itself; InvalidParameter for what cannot be one."""
    if not _TAG.fullmatch(tag) or tag.isdecimal() or tag == NEWEST:
        raise InvalidParameter(
            f"a tag is up to 64 letters, digits, '.', '_' and '-', the first a letter or a digit; "
            f"not a number alone, as versions are, and not {NEWEST!r}, which is the newest: "
            f"{tag[:80]!r}"
        )
    return tag


def put(store: Store, head: Head, tag: str) -> None:
    """Let a tag stand at a head, wherever it stood before.

    InvalidParameter for a head without a version: tags are of names.
    """
    check_tag(tag)
    if head.version is None:
        raise InvalidParameter(f"head {head.id} has no name, and tags are of the heads of a name")
    _write(store, head.owner, head.name, tag, head.id)


def remove(store: Store, head: Head, tag: str) -> None:
    """Take a tag from a head; UnknownName where it does not stand there."""
    if of_name(store, head.owner, head.name).get(tag) != head.id:
        raise UnknownName(f"head {head.id} has no tag {tag[:80]!r}")
    _write(store, head.owner, head.name, tag, None)


def of_name(store: Store, owner: str, name: str) -> dict[str, str]:
    """The id of the head at which each tag of a name stands."""
    if not name:
        return {}
    found = all_of(store, owner, layout.head_tags(owner, name))
    return {tag: head_id for (_, tag), head_id in found.items()}


def all_of(store: Store, owner: str, folder: str | None = None) -> dict[tuple[str, str], str]:
    """The id of the head at which each tag stands, by name and tag."""
    newest: dict[tuple[str, str], str] = {}
    for key in store.keys(folder or layout.all_head_tags(owner)):  # sorted: the last one stays
        path = PurePosixPath(key)
        newest[path.parent.parent.name, path.parent.name] = key
    found = {place: _head_at(store, key) for place, key in newest.items()}
    return {place: head_id for place, head_id in found.items() if head_id is not None}


def _head_at(store: Store, key: str) -> str | None:
    with suppress(UnknownName):  # moved on since it was listed
        told = json.loads(store.get(key))["head"]
        return None if told is None else str(told)
    return None


def _write(store: Store, owner: str, name: str, tag: str, head_id: str | None) -> None:
    data = json.dumps({"head": head_id}).encode()
    older = list(store.keys(layout.head_tag(owner, name, tag)))
    number = int(PurePosixPath(older[-1]).stem) if older else 0
    while True:
        number += 1
        if store.put_new(layout.head_tag_move(owner, name, tag, number), data):
            break
    for key in older:
        store.delete(key)
