"""Which workers are alive: each writes a record that dies with its heartbeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf.queue.connection import PREFIX, text, translated
from offshelf.schemas import WorkerBody

if TYPE_CHECKING:
    import redis

# List: packed `ImageRequest`s of all clients, oldest at the left.
INTERACTIVE_KEY: Final = f"{PREFIX}interactive"
# Set: ids of the workers that have published; those without a record are dead.
WORKERS_KEY: Final = f"{PREFIX}workers"
# For so long it is known that a worker left with everything answered.
LEFT_S: Final = 120


def worker_key(worker_id: str) -> str:
    """String, with a TTL: the worker's `WorkerBody` as JSON."""
    return f"{PREFIX}worker:{worker_id}"


def rate_key(worker_id: str) -> str:
    """String, with the same TTL: images a second, small to read for every request."""
    return f"{PREFIX}worker:{worker_id}:rate"


def left_key(worker_id: str) -> str:
    """String, with a TTL: the worker has left and owes nobody an answer."""
    return f"{PREFIX}left:{worker_id}"


class RedisDirectory:
    """`interface.Directory`, and the workers' side of it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def workers(self) -> list[WorkerBody]:
        """The live workers, by id."""
        with translated():
            ids = sorted(text(member) for member in self._client.smembers(WORKERS_KEY))
            records = self._client.mget([worker_key(worker_id) for worker_id in ids]) if ids else []
            dead = [name for name, text in zip(ids, records, strict=True) if text is None]
            if dead:
                self._client.srem(WORKERS_KEY, *dead)
        return [WorkerBody.model_validate_json(text) for text in records if text is not None]

    def queued_images(self) -> int:
        """Images that wait for a worker on the interactive queue."""
        with translated():
            return int(self._client.llen(INTERACTIVE_KEY))

    def ping(self) -> None:
        """Raise DependencyError when Redis does not answer."""
        with translated():
            self._client.ping()

    def publish(self, body: WorkerBody, ttl_s: float) -> None:
        """Write a worker's record; it is gone `ttl_s` seconds after the last call."""
        ttl_ms = max(1, int(ttl_s * 1000))
        with translated(), self._client.pipeline(transaction=True) as pipe:
            pipe.set(worker_key(body.id), body.model_dump_json(), px=ttl_ms)
            pipe.set(rate_key(body.id), body.images_per_s, px=ttl_ms)
            pipe.sadd(WORKERS_KEY, body.id)
            pipe.execute()

    def withdraw(self, worker_id: str, answered: bool) -> None:
        """Remove the record of a worker that leaves; `answered`: it owes nobody an answer."""
        with translated(), self._client.pipeline(transaction=True) as pipe:
            if answered:
                pipe.set(left_key(worker_id), 1, ex=LEFT_S)
            pipe.delete(worker_key(worker_id), rate_key(worker_id))
            pipe.srem(WORKERS_KEY, worker_id)
            pipe.execute()
