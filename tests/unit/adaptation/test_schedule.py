from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.adaptation.schedule import PRESETS, Plateau, Steps
from offshelf.errors import InvalidParameter


def test_steps_drop_after_their_epochs() -> None:
    rates = [Steps(5, 0.1, (2, 4)).rate([1.0] * epoch) for epoch in range(6)]
    assert rates[:5] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert rates[5] is None


def test_a_plateau_waits_until_the_loss_is_stable() -> None:
    plateau = Plateau(0.1, stages=2, least=0.1)
    assert plateau.rate([]) == plateau.rate([5.0]) == plateau.rate([5.0, 3.0]) == 0.1
    assert plateau.rate([5.0, 3.0, 2.9]) == pytest.approx(0.01)
    # The first epoch of a stage is compared with nothing before it.
    assert plateau.rate([5.0, 3.0, 2.9, 2.9]) == pytest.approx(0.01)
    assert plateau.rate([5.0, 3.0, 2.9, 2.9, 2.8]) is None


@given(st.lists(st.floats(0.01, 10), max_size=80))
def test_a_plateau_ends_and_its_rate_never_rises(losses: list[float]) -> None:
    plateau = Plateau(longest=5)
    rates = [plateau.rate(losses[:epoch]) for epoch in range(len(losses) + 1)]
    told = [0.0 if rate is None else rate for rate in rates]
    assert told == sorted(told, reverse=True)
    if len(losses) >= 15:
        assert rates[-1] is None


def test_presets_are_the_reference_run_s_and_the_paper_s() -> None:
    assert {"steps": Steps(12, 0.01, (8, 11)), "paper": Plateau(0.01, 3)} == PRESETS


def test_a_schedule_without_epochs_is_refused() -> None:
    for make in (lambda: Steps(0), lambda: Steps(first=0.0), lambda: Plateau(stages=0)):
        with pytest.raises(InvalidParameter, match="a rate above 0"):
            make()
