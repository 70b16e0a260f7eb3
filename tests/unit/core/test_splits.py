from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from offshelf.core.splits import shuffled


def test_a_known_draw_of_seed_0() -> None:
    # numpy.random.RandomState(0).permutation(10); the second group goes on with the generator.
    first, second = shuffled([list(range(10)), list(range(10))], 0)
    assert first == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]
    assert second != first


@given(st.lists(st.lists(st.integers(), unique=True), max_size=5), st.integers(0, 2**32 - 1))
def test_groups_keep_their_members_and_the_draw_is_repeated(
    groups: list[list[int]], seed: int
) -> None:
    drawn = shuffled(groups, seed)
    assert [sorted(group) for group in drawn] == [sorted(group) for group in groups]
    assert shuffled(groups, seed) == drawn
