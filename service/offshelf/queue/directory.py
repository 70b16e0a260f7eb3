"""Which workers are alive: each writes a record that dies with its heartbeat."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from offshelf.core.routing import Station
from offshelf.queue.connection import PREFIX, text, translated
from offshelf.queue.routes import LIST_PREFIX, QUEUED, ROUTES_KEY
from offshelf.schemas.backbones import BackboneBody, BackboneList, WorkerBody

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

# Set: ids of the workers that have published; those without a record are dead.
WORKERS_KEY: Final = f"{PREFIX}workers"
# The fields of a station that are sets of backbones.
_SETS: Final = ("serves", "holds", "resident")
# For so long it is known that a worker left with everything answered.
LEFT_S: Final = 120


def worker_key(worker_id: str) -> str:
    """String, with a TTL: the worker's `WorkerBody` as JSON."""
    return f"{PREFIX}worker:{worker_id}"


def station_key(worker_id: str) -> str:
    """String, with the same TTL: the worker's `Station`, small to read often."""
    return f"{PREFIX}worker:{worker_id}:station"


def catalogue_key(worker_id: str) -> str:
    """String, with the same TTL: the worker's `BackboneBody`s as JSON, which seldom change."""
    return f"{PREFIX}worker:{worker_id}:backbones"


def left_key(worker_id: str) -> str:
    """String, with a TTL: the worker has left and owes nobody an answer."""
    return f"{PREFIX}left:{worker_id}"


class RedisDirectory:
    """`interface.Directory`, and the workers' side of it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._catalogue: list[BackboneBody] = []

    def workers(self) -> list[WorkerBody]:
        """The live workers, by id."""
        ids, records = self._told(worker_key)
        dead = [name for name, record in zip(ids, records, strict=True) if record is None]
        if dead:
            with translated():
                self._client.srem(WORKERS_KEY, *dead)
        return [WorkerBody.model_validate_json(text) for text in records if text is not None]

    def catalogues(self) -> dict[str, list[BackboneBody]]:
        """The backbones of each live worker, by its id."""
        pairs = zip(*self._told(catalogue_key), strict=True)
        return {name: BackboneList.validate_json(told) for name, told in pairs if told is not None}

    def stations(self) -> dict[str, Station]:
        """What each live worker tells of itself for routing, by its id."""
        return stations_of(*self._told(station_key))

    def _told(self, key: Callable[[str], str]) -> tuple[list[str], list[Any]]:
        """The ids of all workers, and what each has under a key; None for who has gone."""
        with translated():
            ids = sorted(text(member) for member in self._client.smembers(WORKERS_KEY))
            return ids, self._client.mget([key(name) for name in ids]) if ids else []

    def queued_images(self) -> int:
        """Images that wait for a worker, on all routes."""
        with translated():
            return int(self._client.eval(QUEUED, 1, ROUTES_KEY, LIST_PREFIX))

    def ping(self) -> None:
        """Raise DependencyError when Redis does not answer."""
        with translated():
            self._client.ping()

    def publish(
        self, body: WorkerBody, station: Station, catalogue: list[BackboneBody], ttl_s: float
    ) -> None:
        """Write a worker's record; it is gone `ttl_s` seconds after the last call.

        The catalogue is large and seldom changes: it is written when it has, or was lost.
        """
        ttl_ms = max(1, int(ttl_s * 1000))
        changed = catalogue is not self._catalogue and catalogue != self._catalogue
        with translated(), self._client.pipeline(transaction=True) as pipe:
            pipe.set(worker_key(body.id), body.model_dump_json(), px=ttl_ms)
            pipe.set(station_key(body.id), station_json(station), px=ttl_ms)
            pipe.sadd(WORKERS_KEY, body.id)
            pipe.pexpire(catalogue_key(body.id), ttl_ms)
            *_, there = pipe.execute()
            if changed or not there:
                backbones = BackboneList.dump_json(catalogue)
                self._client.set(catalogue_key(body.id), backbones, px=ttl_ms)
        self._catalogue = catalogue

    def withdraw(self, worker_id: str, answered: bool) -> None:
        """Remove the record of a worker that leaves; `answered`: it owes nobody an answer."""
        with translated(), self._client.pipeline(transaction=True) as pipe:
            if answered:
                pipe.set(left_key(worker_id), 1, ex=LEFT_S)
            keys = (worker_key, station_key, catalogue_key)
            pipe.delete(*(key(worker_id) for key in keys))
            pipe.srem(WORKERS_KEY, worker_id)
            pipe.execute()


def station_json(station: Station) -> str:
    """A station as text."""
    return json.dumps(
        {**asdict(station), **{name: sorted(getattr(station, name)) for name in _SETS}}
    )


def stations_of(ids: list[str], found: list[Any]) -> dict[str, Station]:
    """The stations by the ids of their workers; those without one have gone."""
    told = {name: json.loads(data) for name, data in zip(ids, found, strict=True) if data}
    return {
        name: Station(**{**one, **{field: frozenset(one[field]) for field in _SETS}})
        for name, one in told.items()
    }
