"""What an extraction left in its output folder, so that the next one goes on from there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.schemas.datasets import DatasetHead
    from offshelf_client import Dataset

    Made: TypeAlias = Dataset | DatasetHead

# Inside the output folder: this, and the store of a run without a service.
PRIVATE: Final = ".offshelf"
STATE: Final = "state.json"


@dataclass(frozen=True, slots=True)
class State:
    """Of which images `dataset` was made and where, and the job that was begun with `request`.

    `skipped` are the first of the `skipped_total` files of the images that are not in it, as path
    and reason: a dataset tells those of whoever made it first.
    """

    where: str = ""
    images: str = ""
    dataset: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    job: str = ""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    skipped_total: int = 0

    @classmethod
    def read(cls, out: Path) -> Self:
        """That of an output folder; an empty one where there is none, or none that is read."""
        try:
            return cls(**json.loads((out / PRIVATE / STATE).read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, out: Path) -> None:
        """Keep it; a file of that name is whole."""
        folder = out / PRIVATE
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{STATE}.part"
        part.write_text(json.dumps(asdict(self)))
        part.replace(folder / STATE)

    def with_dataset(self, where: str, images: str, dataset: Made) -> State:
        """After a dataset was made; the job stays if it is the same one."""
        skipped = [(file.path, file.reason) for file in dataset.skipped]
        made = replace(
            self,
            where=where,
            images=images,
            dataset=dataset.id,
            skipped=skipped,
            skipped_total=dataset.skipped_total,
        )
        same = (self.where, self.dataset) == (where, dataset.id)
        return made if same else replace(made, request={}, job="")


def images_digest(source: Path) -> str:
    """Of the names, sizes and times of the files of a folder (or of one archive), not of bytes.

    Whoever changes an image without that showing in any of them has to take another folder.
    """
    digest = hashlib.sha256(str(source.absolute()).encode())
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    for file in files:
        if file.is_file():
            found = file.stat()
            name = file.relative_to(source).as_posix()
            digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
