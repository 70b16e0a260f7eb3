"""What a protocol reports of a head: its figures on the split's test, and papers' beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offshelf.datasets.protocols.evaluation import beside, evaluate
from offshelf.datasets.protocols.interface import PROTOCOLS
from offshelf.datasets.protocols.verification import other_counts
from offshelf.errors import InvalidParameter
from offshelf.schemas.heads import ProtocolReport, ProtocolSplit, PublishedRow
from offshelf.worker.lesson import split_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from offshelf.datasets.protocols.interface import Description, Metric
    from offshelf.schemas.heads import HeadRequest


def report_of(
    description: Description | None,
    request: HeadRequest,
    backbone: str,
    scores: NDArray[np.float32],
    kept: NDArray[np.int64],
) -> tuple[ProtocolReport | None, list[str]]:
    """The report on a head of a protocol's split, and warnings; no report for any other head.

    `scores` are those of the test samples that are among `kept`, in their order; all others have
    none. A test whose labels were not published is a warning, and so is a part of a data set: its
    figures do not compare with those of the whole.
    """
    wanted = request.split
    if description is None or not isinstance(wanted, ProtocolSplit):
        return None, []
    split = split_of(description, wanted)
    scored = np.isin(split.test, kept)
    table = np.full((len(split.test), len(description.classes)), -np.inf)
    table[scored] = scores
    try:
        figures = evaluate(description, split, table)
    except InvalidParameter as error:
        return None, [str(error)]
    report = ProtocolReport(
        protocol=description.protocol,
        split=split.name,
        number=wanted.number,
        trained=int(np.isin(split.fitting, kept).sum()),
        tested=len(split.test),
        unscored=int((~scored).sum()),
        figures={str(metric): value for metric, value in figures.items()},
        table=_table(description, figures, f"{backbone} {request.taps[0]}, {request.kind}"),
    )
    other = other_counts(PROTOCOLS.get(description.protocol).card, description)
    if not other:
        return report, []
    return report, [f"no published figure compares: this copy has {', '.join(other)}"]


def _table(
    description: Description, figures: Mapping[Metric, float], method: str
) -> list[PublishedRow]:
    card = PROTOCOLS.get(description.protocol).card
    return [
        PublishedRow(**row.model_dump())
        for metric, value in figures.items()
        for row in beside(card, method, metric, 100 * value)
    ]
