"""Items survive their pages, and a part of them is read without the rest."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.datasets import pages
from offshelf.datasets.pages import PAGES_KEPT, StoredItems, pack, paged, unpack
from offshelf.datasets.staging import Staging
from offshelf.errors import InvalidParameter, JobCancelled
from offshelf.schemas.datasets import DatasetItem

BOXES = st.none() | st.tuples(*[st.floats(0, 9)] * 4)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ITEMS = st.builds(
    DatasetItem,
    path=TEXT,
    label=TEXT,
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    bytes=st.integers(0, 1 << 40),
    boxes=st.lists(BOXES, max_size=3),
    source=st.sampled_from(["", "/data/a.jpg", "s3://b/a.jpg"]),
)


def item(number: int) -> DatasetItem:
    return DatasetItem(f"{number:07d}.jpg", f"c{number % 3}", f"{number:064x}", number)


@given(st.lists(ITEMS, min_size=1, max_size=20))
def test_pages_give_back_what_was_packed(items: list[DatasetItem]) -> None:
    assert unpack(pack(items)) == items


def test_a_page_takes_about_a_hundred_bytes_an_item() -> None:
    items = [
        DatasetItem(f"n01443537/n01443537_{n}.JPEG", "n01443537", f"{n**9:064x}"[-64:], 10**5 + n)
        for n in range(4096)
    ]
    assert len(pack(items)) < 100 * len(items)


class Shelf:
    """Pages of numbered items that counts how often each is read."""

    def __init__(self, total: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pages, "PAGE_ITEMS", 4)
        self.pages = [pack(page) for page in paged(map(item, range(total)))]
        self.read: list[int] = []
        self.items = StoredItems(self._read, total, 4)

    def _read(self, number: int) -> list[DatasetItem]:
        self.read.append(number)
        return unpack(self.pages[number])


def test_a_run_of_items_reads_its_page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(1000, monkeypatch)
    assert [shelf.items[n].path for n in (401, 402, 400)] == [item(n).path for n in (401, 402, 400)]
    assert shelf.read == [100]
    assert [found.bytes for found in shelf.items[402:406]] == [402, 403, 404, 405]
    assert shelf.read == [100, 101]


def test_no_more_than_a_few_pages_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(1000, monkeypatch)
    assert list(shelf.items) == [item(n) for n in range(1000)]
    assert shelf.items._page.cache_info().currsize == 0
    assert [shelf.items[n].bytes for n in range(1000)] == list(range(1000))
    assert shelf.items._page.cache_info().currsize == PAGES_KEPT


def test_items_are_a_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    items = Shelf(10, monkeypatch).items
    assert (len(items), items[-1]) == (10, item(9))
    assert item(5) in items
    assert items.index(item(7)) == 7
    with pytest.raises(IndexError):
        items[10]


@given(st.lists(st.tuples(TEXT, st.binary(min_size=32, max_size=32)), max_size=30))
def test_staged_items_come_sorted_counted_and_once(added: list[tuple[str, bytes]]) -> None:
    known: dict[str, str] = {}
    with Staging() as staging:
        for path, digest in added:
            found = DatasetItem(path, path[:1], digest.hex(), len(path))
            if known.setdefault(path, found.sha256) == found.sha256:
                staging.add(found)
            else:
                with pytest.raises(InvalidParameter, match="in the dataset already, with another"):
                    staging.add(found)
        assert [found.path for found in staging] == sorted(known)
        assert {found.path: found.sha256 for found in staging} == known
        assert sum(staging.counts().values()) == len(known)
        assert list(staging.counts()) == sorted({path[:1] for path in known})
        assert staging.bytes() == sum(map(len, known))


def test_a_check_that_raises_stops_whoever_stages_or_reads() -> None:
    wanted = True

    def check() -> None:
        if not wanted:
            raise JobCancelled("no more")

    with Staging(check) as staging:
        for number in range(3):
            staging.add(item(number))
        items = iter(staging)
        assert next(items) == item(0)
        wanted = False
        with pytest.raises(JobCancelled):
            next(items)
        with pytest.raises(JobCancelled):
            staging.add(item(4))


def test_what_was_staged_is_gone_at_the_end() -> None:
    with Staging() as staging:
        staging.add(item(1))
    with pytest.raises(sqlite3.ProgrammingError):
        staging.counts()
