"""Says in one line which images of a dataset no features could be made of, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offshelf.schemas.base import ErrorBody
    from offshelf.schemas.datasets import Dataset

NAMED: Final = 10  # a warning is read by people; the feature set has all of them


def unreadable(dataset: Dataset, errors: Mapping[int, ErrorBody]) -> list[str]:
    """The warning over `errors` (item number -> error), or none where all went well."""
    if not errors:
        return []
    numbers = sorted(errors)
    named = [f"{dataset.items[n].path} ({errors[n].message})" for n in numbers[:NAMED]]
    rest = len(numbers) - len(named)
    more = f" and {rest} more" if rest else ""
    return [
        f"{len(numbers)} of {len(dataset.items)} images could not be read: {', '.join(named)}{more}"
    ]
