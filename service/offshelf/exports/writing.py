"""Writes the files of a feature set into a folder, where the store is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf.exports.columns import ColumnsExport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from offshelf.exports.virtual import VirtualFile


def write_file(file: VirtualFile | ColumnsExport, target: Path, told: Callable[[int], None]) -> str:
    """Write a file whole or not at all; its ETag. `told` hears how far it is: bytes, or rows."""
    part = target.with_name(target.name + ".part")
    if isinstance(file, ColumnsExport):
        file.check()
        file.write_local(part, told)
    else:
        with part.open("wb") as out:
            for chunk in file.read():
                out.write(chunk)
                told(out.tell())
    part.replace(target)
    return f'"{file.etag}"'
