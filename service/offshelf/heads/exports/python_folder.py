"""A folder as a zip that predicts with numpy alone: a script, the weights and the card."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from offshelf.heads import standalone
from offshelf.heads.exports.interface import FORMATS, Format

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offshelf.heads.model import LinearHead

# The earliest that a zip can say, so that the same head gives the same bytes.
NO_TIME: Final = (1980, 1, 1, 0, 0, 0)


def pack(head: LinearHead) -> bytes:
    """`head.py`, `weights.npz` and `card.json` in a zip."""
    script = Path(standalone.__file__).read_text(encoding="utf-8")
    return _zipped(
        {
            "head.py": script.encode(),
            "card.json": head.card.model_dump_json(indent=1).encode(),
            "weights.npz": _zipped(
                {"coef.npy": _npy(head.coef), "intercept.npy": _npy(head.intercept)}
            ),
        }
    )


def _npy(array: NDArray[np.float32]) -> bytes:
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(array), allow_pickle=False)
    return out.getvalue()


def _zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, NO_TIME), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


FORMATS.add("python", Format("python", ".zip", "application/zip", pack))
