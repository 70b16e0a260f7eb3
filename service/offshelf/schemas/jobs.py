"""Jobs as the API shows them."""

from __future__ import annotations

from typing import Any

from offshelf.core.jobs import JobState
from offshelf.schemas.base import ErrorBody, Strict


class SearchBody(Strict):
    """How far a search for C is: `done` of at most `total` fits, and the one that ended last.

    Folds are numbered from 1. `score` is None where it cannot be told.
    """

    done: int
    total: int
    C: float
    fold: int
    score: float | None


class JobBody(Strict):
    """A job as the API shows it.

    `done` and `failed` of `total` images have come to their end. Of those done, `reused` were
    there already and `computed` are new; they come at `images_per_s`, measured over the latest
    shards, and at that rate the rest takes `left_s`. `search` is of a head whose C is chosen.
    """

    id: str
    kind: str
    state: JobState
    stage: str
    created_s: float
    started_s: float | None
    finished_s: float | None
    total: int
    done: int
    failed: int
    attempts: int
    params: dict[str, Any]
    error: ErrorBody | None
    result: dict[str, Any]
    links: dict[str, str]
    reused: int = 0
    computed: int = 0
    images_per_s: float | None = None
    left_s: float | None = None
    search: SearchBody | None = None
