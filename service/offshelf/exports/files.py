"""Which file a name stands for, of those that a feature set has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf.errors import UnknownName
from offshelf.exports import arrays
from offshelf.exports.columns import ARROW, PARQUET, ColumnsExport
from offshelf.exports.table import ITEMS

if TYPE_CHECKING:
    from offshelf.exports.table import Table
    from offshelf.exports.virtual import VirtualFile
    from offshelf.schemas.feature_sets import FeatureSetCard
    from offshelf.store.interface import Store

NPY: Final = "npy"
SAFETENSORS: Final = "safetensors"
FORMATS: Final = (NPY, SAFETENSORS, PARQUET, ARROW)


def file_of(
    store: Store, card: FeatureSetCard, table: Table, name: str
) -> VirtualFile | ColumnsExport:
    """`items.jsonl`, or `<tap>.<format>`; UnknownName says what there is.

    What comes as a ColumnsExport has yet to be written, or found.
    """
    if name == ITEMS:
        return arrays.items(store, table, card)
    tap, _, form = name.rpartition(".")
    if form not in FORMATS or tap not in table.taps:
        taps, forms = ", ".join(table.taps), ", ".join(FORMATS)
        raise UnknownName(
            f"feature set {card.id} has no file {name!r}; there are {ITEMS} and TAP.FORMAT, "
            f"with the taps {taps} and the formats {forms}"
        )
    if form == NPY:
        return arrays.npy(store, table, tap)
    if form == SAFETENSORS:
        return arrays.safetensors(store, table, tap, card)
    return ColumnsExport(store, table, card, tap, form)
