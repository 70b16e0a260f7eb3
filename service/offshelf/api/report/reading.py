"""What the store has for a report on a head, and what to say of what it has not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offshelf.datasets import records
from offshelf.errors import UnknownName
from offshelf.heads.evaluation import record, report

if TYPE_CHECKING:
    from offshelf.schemas.datasets import Dataset
    from offshelf.schemas.heads import Head
    from offshelf.schemas.reports import HeadReport
    from offshelf.store.interface import Store


@dataclass(frozen=True, slots=True)
class Reported:
    """A report, and the dataset whose samples it names; None where that is gone."""

    report: HeadReport
    dataset: Dataset | None


def read(store: Store, head: Head) -> Reported:
    """The report on a head. UnknownName for one that was tested but kept nothing of it.

    Of a head without a test side only the training figures are known, and the report says so.
    """
    evaluation = _evaluation(store, head)
    dataset = None
    with suppress(UnknownName):
        dataset = records.load(store, head.owner, head.dataset)
    return Reported(report.build(head, evaluation, dataset), dataset)


def _evaluation(store: Store, head: Head) -> record.Evaluation | None:
    try:
        return record.load(store, head.owner, head.id)
    except UnknownName:
        if head.test is None:
            return None
        raise UnknownName(
            f"head {head.id!r} was trained before the scores of its test were kept, so there is "
            "no report on it: train it again. Its card has its figures"
        ) from None
