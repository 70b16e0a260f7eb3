"""Writes the files that have to be written before they can be served, one at a time."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool

from offshelf.errors import ExportPending

if TYPE_CHECKING:
    from offshelf.exports.columns import ColumnsExport
    from offshelf.exports.virtual import VirtualFile

# For so long a request waits for its file before it is told to come again.
WAIT_S: Final = 20.0


@dataclass(slots=True)
class _Writing:
    done: Future[None]
    total: int
    rows: list[int] = field(default_factory=lambda: [0])


class Exporter:
    """Has one thread, so that however many files are asked for, one is written at a time.

    `scratch` is where a file lies until it is in the store, None the system's place for that.
    """

    def __init__(self, scratch: Path | None, wait_s: float = WAIT_S) -> None:
        self._scratch = scratch
        self._wait_s = wait_s
        self._thread = ThreadPoolExecutor(1, "export")
        self._writing: dict[str, _Writing] = {}

    async def file(self, export: ColumnsExport) -> VirtualFile:
        """The file, written first if need be.

        Raises ExportPending where that takes longer than a request is to wait; it goes on, and
        who asks again finds it. Raises DependencyError without pyarrow or where writing failed.
        """
        await run_in_threadpool(export.check)
        found = await run_in_threadpool(export.find)
        if found is not None:
            return found
        await self._written(export)
        found = await run_in_threadpool(export.find)
        if found is None:
            raise ExportPending("the file was removed while it was asked for; ask again")
        return found

    def close(self) -> None:
        """Begin nothing more; what is being written is written again by who asks next."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _written(self, export: ColumnsExport) -> None:
        writing = self._writing.get(export.key)
        if writing is None:
            writing = _Writing(Future(), sum(export.table.rows))
            self._writing[export.key] = writing
            self._thread.submit(self._write, export, writing)
        waiting = asyncio.wrap_future(writing.done)
        try:
            await asyncio.wait_for(asyncio.shield(waiting), self._wait_s)
        except TimeoutError:
            raise ExportPending(
                f"the file is being written: {writing.rows[0]} of {writing.total} rows; ask again"
            ) from None

    def _write(self, export: ColumnsExport, writing: _Writing) -> None:
        def told(rows: int) -> None:
            writing.rows[0] = rows

        fault: BaseException | None = None
        try:
            if self._scratch is not None:
                self._scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="export-", dir=self._scratch) as folder:
                export.write(Path(folder) / export.kind, told)
        except BaseException as error:  # noqa: BLE001 - who waits for it is told
            fault = error
        # Gone before anybody is told: who asks after a failure begins anew.
        self._writing.pop(export.key, None)
        if fault is None:
            writing.done.set_result(None)
        else:
            writing.done.set_exception(fault)
