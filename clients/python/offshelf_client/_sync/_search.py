# Generated from _async by generate_sync.py; edit there.
"""A search over features: a head for every combination, the best by held-out training images."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offshelf_client._errors import OffshelfError, UnexpectedAnswer
from offshelf_client._learning import Candidate, best_of
from offshelf_client._models import Progress
from offshelf_client._progress import showing
from offshelf_client._sync._feature_sets import FeatureSets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from offshelf_client._models import Dataset
    from offshelf_client._progress import ProgressOption
    from offshelf_client._sync._head import Head
    from offshelf_client._sync._heads import Heads
    from offshelf_client._sync._job import Job
    from offshelf_client._sync._transport import Transport


@dataclass(frozen=True, slots=True)
class Search:
    """What was tried, in order; the best of it, and its head. Of equal scores the first is best."""

    candidates: tuple[Candidate, ...]
    best: Candidate
    head: Head


def search(
    heads: Heads,
    transport: Transport,
    dataset: str | Dataset,
    taps: Sequence[str],
    settings: Mapping[str, Sequence[str | None]],
    features: Mapping[str, Any],
    training: Mapping[str, Any],
    *,
    keep: bool,
    progress: ProgressOption,
) -> Search:
    """See `heads.search`. `settings` has lists for `view`, `pool`, `normalize` and `kind`."""
    places = ("view", "pool", "normalize")
    rounds = [
        dict(zip(places, values, strict=True))
        for values in itertools.product(*(settings[name] for name in places))
    ]
    total = len(rounds) * len(taps) * len(settings["kind"])
    found: list[tuple[Candidate, Head]] = []
    jobs: list[Job] = []
    try:
        with showing(progress) as show:
            for place in rounds:
                wanted = {**features, **place}
                jobs = [FeatureSets(transport).create(dataset, taps=taps, **wanted)]
                jobs[0].wait()
                pairs = list(itertools.product(taps, settings["kind"]))
                for tap, kind in pairs:
                    asked = {**wanted, "tap": tap, "kind": kind}
                    jobs.append(heads.train(dataset, **asked, **training))
                for (tap, kind), job in zip(pairs, jobs[1:], strict=True):
                    head = (job.wait()).head()
                    found.append((_candidate({"tap": tap, **place, "kind": kind}, head), head))
                    show(Progress("search", len(found), total, unit="settings"))
    except BaseException:
        for job in jobs:
            with suppress(OffshelfError):
                if not (job.refresh()).status.finished:
                    job.cancel()
        raise
    candidates = tuple(candidate for candidate, _ in found)
    best = candidates.index(best_of(candidates))
    if not keep:
        for place_of, (_, head) in enumerate(found):
            if place_of != best:
                head.delete()
    return Search(candidates, candidates[best], found[best][1])


def _candidate(settings: Mapping[str, Any], head: Head) -> Candidate:
    choice = head.info.choice
    if choice is None:
        raise UnexpectedAnswer(f"head {head.id} does not say how its C was chosen")
    point = next((point for point in choice.path if point.C == head.info.C), None)
    deviation = None if point is None else point.deviation
    return Candidate(dict(settings), head.info.C, choice.score, deviation, head.id)
