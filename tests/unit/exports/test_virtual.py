"""Any range of a file that is nowhere as a whole is that of the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.errors import DependencyError
from offshelf.exports import virtual
from offshelf.exports.virtual import Stored, VirtualFile
from offshelf.store.objects import ObjectStore
from tests.unit.worker.fakes import MemoryStore

PARTS = st.lists(
    st.tuples(st.booleans(), st.binary(max_size=40), st.integers(0, 5), st.integers(0, 5)),
    max_size=12,
)


@given(
    parts=PARTS, ends=st.tuples(st.integers(0, 500), st.integers(0, 500)), chunk=st.integers(1, 64)
)
def test_any_range_is_the_slice_of_the_whole(
    parts: list[tuple[bool, bytes, int, int]], ends: tuple[int, int], chunk: int
) -> None:
    store, given_parts, whole = ObjectStore.open("memory://"), [], b""
    for number, (at_hand, data, before, after) in enumerate(parts):
        whole += data
        if at_hand:
            given_parts.append(data)
        else:
            store.put_new(f"o/{number}", b"x" * before + data + b"y" * after)
            given_parts.append(Stored(f"o/{number}", before, len(data)))
    file = VirtualFile(store, given_parts, "e", "t")
    start, stop = ends
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(virtual, "CHUNK_BYTES", chunk)
        chunks = list(file.read(start, stop))
    assert file.size == len(whole)
    assert b"".join(chunks) == whole[start:stop]
    assert all(0 < len(one) <= chunk for one in chunks)
    assert all(4 * len(one) >= chunk for one in chunks[:-1])


def test_only_the_parts_that_a_range_touches_are_read() -> None:
    store = MemoryStore()
    asked: list[tuple[str, int, int]] = []
    for name in "abc":
        store.put(name, name.encode() * 10)
    plain = store.get_range

    def watched(key: str, start: int, size: int) -> bytes:
        asked.append((key, start, size))
        return plain(key, start, size)

    store.get_range = watched  # type: ignore[method-assign]
    file = VirtualFile(store, [b"head", *(Stored(name, 2, 6) for name in "abc")], "e", "t")
    assert b"".join(file.read(12, 15)) == b"bbb"
    assert asked == [("b", 4, 3)]


def test_a_part_that_is_gone_or_short_is_told() -> None:
    store = MemoryStore()
    with pytest.raises(DependencyError, match="gone"):
        list(VirtualFile(store, [Stored("a", 0, 4)], "e", "t").read())
    store.put("a", b"123")
    with pytest.raises(DependencyError, match="before its time"):
        list(VirtualFile(store, [Stored("a", 0, 4)], "e", "t").read())


def test_a_file_of_nothing() -> None:
    file = VirtualFile(MemoryStore(), [b""], "e", "t")
    assert (file.size, list(file.read())) == (0, [])
