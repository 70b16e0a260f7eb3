"""`offshelf extract --local`: the worker's own steps in this process, and a store beside OUTPUT."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from offshelf.bootstrap import LocalWork, local_work
from offshelf.commands.extract_state import PRIVATE, State, images_digest
from offshelf.commands.serving import settings_with
from offshelf.datasets import records as datasets
from offshelf.datasets.archive import Archive
from offshelf.datasets.importing import Wanted, import_dataset
from offshelf.datasets.interface import limits_of
from offshelf.datasets.sources import Sources
from offshelf.errors import UnknownName
from offshelf.exports import records
from offshelf.exports.files import file_of
from offshelf.exports.table import ITEMS, load_table
from offshelf.exports.writing import write_file
from offshelf.heads.features import load_feature_set
from offshelf.queue.in_process import ended
from offshelf.schemas.datasets import FOLDER
from offshelf.schemas.feature_sets import FEATURE_SET, FeatureSetRequest
from offshelf_client._archive import absolute
from offshelf_client._feature_files import Folder, file_name, read_items, write_lists
from offshelf_client._models import Progress, feature_set_info_of
from offshelf_client._progress import showing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from offshelf.core.jobs import Job
    from offshelf.datasets.interface import ImportLimits
    from offshelf.schemas.datasets import DatasetHead
    from offshelf.settings import Settings
    from offshelf.store.interface import Store
    from offshelf_client._progress import Show

OWNER: Final = "default"
# Shards at a time: while one is on the device, the next one's images are decoded.
THREADS: Final = 2


def extract_local(
    source: Path,
    output: Path,
    request: dict[str, Any],
    formats: Sequence[str],
    progress: bool | Literal["force"],
) -> None:
    """Do all of it here. What was done when it is killed is in the store, and not done again."""
    settings = settings_with(data_dir=output.absolute() / PRIVATE).model_copy(
        update={"store_url": None}
    )
    images = absolute(source)
    sources = Sources([str(images)])
    with local_work(settings, sources) as work, showing(progress) as show:
        dataset = _dataset(work.store, sources, settings, images, output)
        known = {name: value for name, value in request.items() if value not in (None, False)}
        wanted = FeatureSetRequest(dataset=dataset, **known)
        job, _ = work.jobs.create(FEATURE_SET, OWNER, wanted.model_dump(mode="json"))
        told = partial(_tell, show)
        job = ended(work.queue.run(job.id, work.jobs, work.steps, THREADS, told))
        _write(work, job.result[FEATURE_SET], output, formats, show)


def _tell(show: Show, job: Job) -> None:
    ended = job.done + job.failed
    pace: dict[str, Any] = {"per_s": job.images_per_s, "left_s": job.left_s}
    show(Progress(job.stage or job.state, ended, job.total or None, job.failed, **pace))


def _dataset(store: Store, sources: Sources, settings: Settings, source: Path, output: Path) -> str:
    """The dataset of the images, unless an earlier run made it of the same files."""
    state, images = State.read(output), images_digest(source)
    if (state.where, state.images) == (PRIVATE, images):
        try:
            return datasets.load_head(store, OWNER, state.dataset).id
        except UnknownName:
            pass  # the store was removed meanwhile
    made = _imported(store, sources, limits_of(settings), source)
    state.with_dataset(PRIVATE, images, made).write(output)
    return made.id


def _imported(store: Store, sources: Sources, limits: ImportLimits, source: Path) -> DatasetHead:
    """The images of a folder stay where they are; those of an archive are copied."""
    wanted = Wanted(OWNER, source.name.split(".")[0], time.time(), layout=FOLDER)
    if source.is_dir():
        where = str(source)
        wanted = replace(wanted, source=where, copied=False)
        head, _ = import_dataset(store, sources.open(where), wanted, limits)
    else:
        with source.open("rb") as file:
            head, _ = import_dataset(store, Archive(file, limits), wanted, limits)
    return head


def _write(
    work: LocalWork, feature_set_id: str, output: Path, formats: Sequence[str], show: Show
) -> None:
    """What a download from a service leaves in a folder."""
    manifest = load_feature_set(work.store, OWNER, feature_set_id)
    card = records.load_card(work.store, OWNER, feature_set_id)
    table = load_table(work.store, card)
    folder = Folder(output, feature_set_info_of(manifest.model_dump(mode="json")))
    names = {file_name(tap, form): f"{tap}.{form}" for form in formats for tap in table.taps}
    for name, remote in {**names, ITEMS: ITEMS}.items():
        file = file_of(work.store, card, table, remote)
        if folder.etag(name) != f'"{file.etag}"':
            unit: Any = "bytes" if hasattr(file, "size") else "images"
            total = getattr(file, "size", card.rows)
            tell = partial(_tell_file, show, name, total, unit)
            folder.note(name, write_file(file, output / name, tell))
    folder.note_errors(write_lists(output, read_items(output / ITEMS)))


def _tell_file(show: Show, name: str, total: int, unit: Any, done: int) -> None:
    show(Progress(name, done, total, unit=unit))
