"""The events of a job as they come: a replay from the stream, then what is new."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from offshelf.core.jobs import TERMINAL, JobState
from offshelf.core.pace import left_s
from offshelf.errors import CapacityError, UnknownName
from offshelf.queue.connection import text, translated
from offshelf.queue.event_ids import check_event_id
from offshelf.queue.jobs import events_key, record_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import redis.asyncio

# Whoever follows looks up after each, so it bounds how long a stopping API waits for them.
SILENCE_S: Final = 2.0
RETRY_AFTER_S: Final = 10.0
PAGE: Final = 256
# Each of them holds a connection nearly all the time.
MAX_FOLLOWERS: Final = 256


class RedisEvents:
    """`interface.JobEvents` over the streams that `scripts.py` writes.

    Each event is a dict with `type` (`state` or `progress`) and the fields of the record at that
    time. `client` is for nothing else and has `max_followers` connections. `silence_s` must stay
    below its time-out.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        silence_s: float = SILENCE_S,
        max_followers: int = MAX_FOLLOWERS,
    ) -> None:
        self._client = client
        self._silence_ms = max(1, int(silence_s * 1000))
        self._max_followers = max_followers
        self._followers = 0

    async def follow(self, job_id: str, after: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield (event id, data) from the one after `after` (`0`: from the first) to the last.

        Yields ("", {}) at once when the job is there and can be followed, and after each
        `silence_s` without an event. UnknownName for a job that there is not, InvalidParameter
        for an `after` that is no event id, CapacityError when too many follow.
        """
        last = check_event_id(after)
        if self._followers >= self._max_followers:
            raise CapacityError(
                f"{self._followers} streams of events are open and that is the limit", RETRY_AFTER_S
            )
        self._followers += 1
        try:
            if await self._state(job_id) is None:
                raise UnknownName(f"no job {job_id!r}")
            yield "", {}
            async with aclosing(self._events(job_id, last)) as events:
                async for event in events:
                    yield event
        finally:
            self._followers -= 1

    async def _events(self, job_id: str, last: str) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
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
    for name in ("total", "done", "failed", "reused", "images_per_s", "error", "result", "search"):
        if name in data:
            data[name] = json.loads(data[name])
    computed = data.get("done", 0) - data.get("reused", 0)
    return {**data, "computed": computed, "left_s": _left_s(data)}


def _left_s(data: dict[str, Any]) -> float | None:
    """How long the rest of the job takes, as it went at this event; None where nobody can tell."""
    if data.get("state") in TERMINAL:
        return None
    ended = data.get("done", 0) + data.get("failed", 0)
    return left_s(data.get("total", 0), ended, data.get("images_per_s"))
