"""Names, versions, tags and lists of heads, over a store in memory and in a directory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from offshelf.errors import InvalidParameter, UnknownName
from offshelf.heads import listing, model, names, tags
from offshelf.heads.listing import Wanted
from offshelf.store import layout
from offshelf.store.objects import ObjectStore
from tests.unit.heads.cards import OWNER, keep

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return ObjectStore.open("memory://" if request.param == "memory" else tmp_path.as_uri())


def found(store: ObjectStore, ref: str) -> str:
    return names.resolve(store, OWNER, ref).id


def test_a_head_is_found_by_id_name_version_and_tag(store: ObjectStore) -> None:
    one, two = keep(store, "head-1", "flowers"), keep(store, "head-2", "flowers")
    keep(store, "head-3", "birds")
    keep(store, "head-4")
    assert (one.version, two.version) == (1, 2)
    tags.put(store, one, "prod")
    refs = ("head-1", "head-4", "flowers", "flowers:latest", "flowers:1", "flowers:prod", "birds")
    assert [found(store, ref) for ref in refs] == [
        "head-1", "head-4", "head-2", "head-2", "head-1", "head-1", "head-3",
    ]  # fmt: skip


def test_of_many_workers_at_once_each_gets_its_own_version(store: ObjectStore) -> None:
    start = threading.Barrier(8)

    def claim(number: int) -> int:
        start.wait(10)
        return names.claim(store, OWNER, "flowers", f"head-{number}")

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(claim, range(8)))
    assert sorted(versions) == list(range(1, 9))
    again = [names.claim(store, OWNER, "flowers", f"head-{number}") for number in range(8)]
    assert again == versions  # a step that is run again asks again


def test_a_version_is_never_given_twice(store: ObjectStore) -> None:
    keep(store, "head-1", "flowers")
    model.delete(store, keep(store, "head-2", "flowers"))
    assert found(store, "flowers") == "head-1"
    assert keep(store, "head-3", "flowers").version == 3
    with pytest.raises(UnknownName, match=r"flowers:2.*was deleted; the newest is flowers:3"):
        found(store, "flowers:2")
    with pytest.raises(UnknownName, match=r"flowers:9.*was never given"):
        found(store, "flowers:9")


def test_a_head_without_a_name_gets_one_and_keeps_it(store: ObjectStore) -> None:
    keep(store, "head-1", "flowers")
    later = keep(store, "head-2")
    names.claim(store, OWNER, "flowers", "head-2")  # an API that died before it wrote the name
    given = names.give(store, later, "flowers")
    assert (given.id, given.name, given.version) == ("head-2", "flowers", 2)
    assert (
        model.load_card(store, OWNER, "head-2") == given == names.resolve(store, OWNER, "flowers")
    )
    assert names.give(store, given, "flowers") == given
    assert keep(store, "head-3", "flowers").version == 3
    for card in (given, later):
        with pytest.raises(InvalidParameter, match="head head-2 is flowers:2, and keeps that name"):
            names.give(store, card, "birds")
    with pytest.raises(InvalidParameter, match="a head's name"):
        names.give(store, keep(store, "head-4"), "two words")
    model.delete(store, given)
    assert list(store.keys(layout.head(OWNER, "head-2"))) == []
    with pytest.raises(UnknownName, match="was deleted"):
        found(store, "flowers:2")


def test_a_claim_whose_head_never_came_does_not_count(store: ObjectStore) -> None:
    keep(store, "head-1", "flowers")
    names.claim(store, OWNER, "flowers", "head-2")  # its worker died here
    assert found(store, "flowers") == "head-1"
    # Two workers ran the same job: the second's card came to nothing, its claim is idle.
    key = layout.head_version(OWNER, "flowers", 3)
    store.put_new(key, b'{"head": "head-1"}')
    assert found(store, "flowers") == "head-1"
    with pytest.raises(UnknownName, match="flowers:3"):
        found(store, "flowers:3")


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("flovers", "did you mean flowers"),
        ("flowers:prd", "did you mean prod"),
        ("flovers:prod", "did you mean flowers"),
        ("head-9", "no head 'head-9'"),
        ("a/b", "named by its id"),
        ("flowers:1:2", "named by its id"),
        ("", "named by its id"),
    ],
)
def test_what_is_not_there_is_said(store: ObjectStore, ref: str, told: str) -> None:
    tags.put(store, keep(store, "head-1", "flowers"), "prod")
    with pytest.raises(UnknownName, match=told):
        found(store, ref)


@pytest.mark.parametrize("name", ["a b", "", "-x", "a" * 101, "a:1", "ä", "head-7", "compare"])
def test_names_that_no_head_may_have(name: str) -> None:
    with pytest.raises(InvalidParameter, match="a head's name"):
        names.check_name(name)


def test_names_that_a_head_may_have() -> None:
    for name in ("a", "Flowers-102_v1.2", "9", "a" * 100):
        assert names.check_name(name) == name


def test_a_tag_moves_within_its_name_and_is_taken_away(store: ObjectStore) -> None:
    one, two = keep(store, "head-1", "flowers"), keep(store, "head-2", "flowers")
    birds = keep(store, "head-3", "birds")
    for card in (one, birds, two):
        tags.put(store, card, "prod")
    tags.put(store, two, "best")
    assert tags.of_name(store, OWNER, "flowers") == {"prod": "head-2", "best": "head-2"}
    assert tags.of_name(store, OWNER, "birds") == {"prod": "head-3"}
    with pytest.raises(UnknownName, match="head-1 has no tag 'prod'"):
        tags.remove(store, one, "prod")
    tags.remove(store, two, "prod")
    assert tags.of_name(store, OWNER, "flowers") == {"best": "head-2"}
    tags.put(store, one, "prod")
    assert tags.of_name(store, OWNER, "flowers")["prod"] == "head-1"
    moves = list(store.keys(layout.head_tag(OWNER, "flowers", "prod")))
    assert len(moves) == 1  # what is older was removed


def test_of_many_who_move_a_tag_at_once_one_is_last(store: ObjectStore) -> None:
    cards = [keep(store, f"head-{number}", "flowers") for number in range(6)]
    start = threading.Barrier(6)

    def move(number: int) -> None:
        start.wait(10)
        tags.put(store, cards[number], "prod")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(move, range(6)))
    assert tags.of_name(store, OWNER, "flowers")["prod"] in {card.id for card in cards}
    tags.put(store, cards[3], "prod")
    assert found(store, "flowers:prod") == "head-3"


@pytest.mark.parametrize("tag", ["12", "latest", "a b", "", "a/b", "x" * 65])
def test_words_that_are_no_tag(store: ObjectStore, tag: str) -> None:
    with pytest.raises(InvalidParameter, match="a tag is"):
        tags.put(store, keep(store, "head-1", "flowers"), tag)


def test_a_head_without_a_name_has_no_tags(store: ObjectStore) -> None:
    with pytest.raises(InvalidParameter, match="head head-1 has no name"):
        tags.put(store, keep(store, "head-1"), "prod")


def test_lists_are_filtered_and_paged(store: ObjectStore) -> None:
    for number in range(1, 8):
        more = {"kind": "logreg" if number % 2 else "svm", "dataset": f"ds-{number % 3}"}
        made = keep(store, f"head-{number}", "odd" if number % 2 else "", **more)
        if number > 4 and number % 2:
            tags.put(store, made, f"t{number}")
            tags.put(store, made, "all")

    def ids(limit: int = 50, after: str | None = None, **wanted: str) -> tuple[list[str], bool]:
        cards, more = listing.page(store, OWNER, Wanted(**wanted), after, limit)
        return [card.id.removeprefix("head-") for card in cards], more

    assert ids() == (list("1234567"), False)
    assert ids(3, "head-2") == (list("345"), True)
    assert ids(name="odd") == (list("1357"), False)
    assert ids(2, name="odd") == (["1", "3"], True)
    assert ids(2, "head-3", name="odd") == (["5", "7"], False)
    assert ids(kind="svm") == (list("246"), False)
    assert ids(2, kind="svm") == (["2", "4"], True)
    assert ids(kind="logreg", dataset="ds-1") == (["1", "7"], False)
    assert ids(tag="t5") == (["5"], False)
    assert ids(tag="all", name="odd", dataset="ds-1") == (["7"], False)
    assert ids(name="even") == ([], False)
    cards, _ = listing.page(store, OWNER, Wanted(tag="t7"), None, 9)
    assert cards[0].tags == ["all", "t7"]
