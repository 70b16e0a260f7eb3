from __future__ import annotations

import itertools

import pytest

from offshelf.core.jobs import ENTERED_FROM, TERMINAL, Job, JobState, check_transition
from offshelf.errors import JobConflict


def test_every_state_says_where_it_is_entered_from() -> None:
    assert set(ENTERED_FROM) == set(JobState)


@pytest.mark.parametrize(("state", "to"), list(itertools.product(sorted(TERMINAL), JobState)))
def test_an_ended_job_stays_as_it_is(state: JobState, to: JobState) -> None:
    with pytest.raises(JobConflict, match="it cannot become"):
        check_transition("j", state, to)


@pytest.mark.parametrize(
    ("state", "to"),
    [
        ("queued", "running"),
        ("running", "running"),
        ("running", "cancelling"),
        ("cancelling", "cancelled"),
        ("cancelling", "succeeded"),
        ("running", "succeeded"),
        ("queued", "failed"),
    ],
)
def test_the_ways_of_a_job_are_open(state: str, to: str) -> None:
    check_transition("j", JobState(state), JobState(to))


def test_a_job_that_is_cancelling_does_not_run_again() -> None:
    with pytest.raises(JobConflict):
        check_transition("j", JobState.CANCELLING, JobState.RUNNING)


def test_finished_is_terminal() -> None:
    for state in JobState:
        job = Job("j", "head", "default", state, {}, 0.0)
        assert job.finished == (state in TERMINAL)
