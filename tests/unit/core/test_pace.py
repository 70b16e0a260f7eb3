from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.core.pace import Spell, images_per_s, left_s


def test_shards_side_by_side_count_their_time_once() -> None:
    together = [Spell(end_s=8.0, took_s=8.0, images=16) for _ in range(4)]
    assert images_per_s(together) == 8.0


def test_a_pause_does_not_count() -> None:
    work = [Spell(1.0, 1.0, 10), Spell(2.0, 1.0, 10)]
    later = [Spell(5002.0, 1.0, 10), Spell(5003.0, 1.0, 10)]
    assert images_per_s(work) == images_per_s([*work, *later]) == 10.0


def test_what_computed_nothing_says_nothing_of_the_rate() -> None:
    assert images_per_s([]) is None
    assert images_per_s([Spell(3.0, 0.001, 0)]) is None
    assert images_per_s([Spell(10.0, 5.0, 20), Spell(10.001, 0.001, 0)]) == 4.0


@pytest.mark.parametrize(
    ("total", "ended", "rate", "seconds"),
    [(100, 40, 12.0, 5.0), (100, 100, 12.0, 0.0), (100, 0, None, None), (0, 0, 3.0, None)],
)
def test_what_is_left(total: int, ended: int, rate: float | None, seconds: float | None) -> None:
    assert left_s(total, ended, rate) == seconds


spells = st.builds(
    Spell,
    end_s=st.integers(1000, 2000).map(float),
    took_s=st.integers(1, 50).map(float),
    images=st.integers(1, 64),
)


@given(st.lists(spells, min_size=1, max_size=30))
def test_the_rate_is_that_over_the_seconds_in_which_anybody_worked(some: list[Spell]) -> None:
    busy = {s for one in some for s in range(int(one.end_s - one.took_s), int(one.end_s))}
    assert images_per_s(some) == pytest.approx(sum(one.images for one in some) / len(busy))


@given(spells)
def test_a_spell_survives_its_text(spell: Spell) -> None:
    assert Spell.parse(str(spell)) == spell
