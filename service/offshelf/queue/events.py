"""The events of a job as they come: a replay from the stream, then what is new."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from offshelf.core.jobs import TERMINAL, JobState
from offshelf.errors import InvalidParameter, UnknownName
from offshelf.queue.connection import text, translated
from offshelf.queue.jobs import events_key, record_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis.asyncio

SILENCE_S: Final = 10.0
PAGE: Final = 256

_EVENT_ID = re.compile(r"\d{1,20}(-\d{1,20})?")


class RedisEvents:
    """`interface.JobEvents` over the streams that `scripts.py` writes.

    Each event is a dict with `type` (`state`, `progress` or `detail`) and the fields of the
    record at that time. `silence_s` must stay below the client's time-out.
    """

    def __init__(self, client: redis.asyncio.Redis, silence_s: float = SILENCE_S) -> None:
        self._client = client
        self._silence_ms = max(1, int(silence_s * 1000))

    async def follow(self, job_id: str, after: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield (event id, data) from the one after `after` (`0`: from the first) to the last.

        Yields ("", {}) after each `silence_s` without an event. UnknownName for a job that there
        is not, InvalidParameter for an `after` that is no event id.
        """
        if not _EVENT_ID.fullmatch(after):
            raise InvalidParameter(f"{after!r} is not the id of an event")
        last = after
        block_ms: int | None = None  # the past first, without waiting
        while True:
            # Before reading: what this state has written is then in the stream already.
            state = await self._state(job_id)
            if state is None:
                raise UnknownName(f"no job {job_id!r}")
            events = await self._read(job_id, last, block_ms)
            for last, data in events:
                yield last, data
                if data.get("state") in TERMINAL:
                    return
            if not events:
                if state in TERMINAL:
                    return
                if block_ms is not None:
                    yield "", {}
            block_ms = self._silence_ms if len(events) < PAGE else None

    async def _state(self, job_id: str) -> JobState | None:
        with translated():
            state = await self._client.hget(record_key(job_id), "state")
        return None if state is None else JobState(text(state))

    async def _read(
        self, job_id: str, after: str, block_ms: int | None
    ) -> list[tuple[str, dict[str, Any]]]:
        with translated():
            found: Any = await self._client.xread(
                {events_key(job_id): after}, count=PAGE, block=block_ms
            )
        entries = found[0][1] if found else []
        return [(text(event_id), _event(fields)) for event_id, fields in entries]


def _event(fields: dict[Any, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {text(name): text(value) for name, value in fields.items()}
    for name in ("total", "done", "failed", "error", "result", "detail"):
        if name in data:
            data[name] = json.loads(data[name])
    return data
