from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from offshelf.cache.sqlite_values import FILE, SqliteValues
from offshelf.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def named(number: int) -> bytes:
    return number.to_bytes(32, "little")


@pytest.fixture
def values(tmp_path: Path) -> Iterator[SqliteValues]:
    made = SqliteValues(tmp_path, 1 << 20)
    yield made
    made.close()


def test_what_was_put_is_got_in_the_order_asked(values: SqliteValues) -> None:
    values.put({named(n): b"%d" % n for n in range(1200)})
    asked = [named(n) for n in (3, 5000, 1199, 3)]
    assert values.get(asked) == [b"3", None, b"1199", b"3"]
    assert values.get([named(n) for n in range(1200)]) == [b"%d" % n for n in range(1200)]
    assert values.get([]) == []


def test_another_process_sees_it_and_it_outlives_the_first(
    values: SqliteValues, tmp_path: Path
) -> None:
    other = SqliteValues(tmp_path, 1 << 20)
    values.put({named(1): b"one"})
    assert other.get([named(1)]) == [b"one"]
    values.close()
    other.close()
    assert SqliteValues(tmp_path, 1 << 20).get([named(1)]) == [b"one"]


def test_a_later_value_takes_the_place_of_an_earlier(values: SqliteValues) -> None:
    values.put({named(1): b"torn"})
    values.put({named(1): b"whole"})
    assert values.get([named(1)]) == [b"whole"]


def test_the_oldest_make_room_and_the_bound_holds(tmp_path: Path) -> None:
    values = SqliteValues(tmp_path, 100_000)
    for first in range(0, 200, 10):
        values.put({named(n): bytes(5000) for n in range(first, first + 10)})
        there = [n for n in range(first + 10) if values.get([named(n)])[0] is not None]
        assert there[-1] == first + 9
        assert there == list(range(there[0], first + 10)), "only the oldest are gone"
        assert len(there) * 5000 <= 100_000
    assert len(there) >= 15
    values.close()
    assert (tmp_path / FILE).stat().st_size < 400_000, "what was freed is used again"


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 1000)
    values = SqliteValues(tmp_path, 1 << 20)
    with pytest.raises(DependencyError):
        values.get([named(1)])
    values.put({named(1): b"one"})
    assert values.get([named(1)]) == [b"one"]
    values.close()


def test_a_folder_that_cannot_be_is_a_dependency_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    values = SqliteValues(tmp_path / "file" / "cache", 1 << 20)
    with pytest.raises(DependencyError):
        values.put({named(1): b"one"})


def test_threads_and_processes_may_write_at_once(tmp_path: Path) -> None:
    both = [SqliteValues(tmp_path, 1 << 22) for _ in range(2)]

    def write(values: SqliteValues, first: int) -> None:
        for n in range(first, first + 50):
            values.put({named(n): b"%d" % n})

    threads = [threading.Thread(target=write, args=(both[n % 2], 50 * n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert both[0].get([named(n) for n in range(200)]) == [b"%d" % n for n in range(200)]
    for values in both:
        values.close()
