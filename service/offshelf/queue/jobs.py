"""Job records in Redis: state, counts and events, each change one atomic step."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from offshelf.core.jobs import ENTERED_FROM, TERMINAL, Job, JobState, check_transition
from offshelf.core.pace import SPELLS_KEPT, Spell, images_per_s
from offshelf.errors import ErrorInfo, JobConflict, UnknownName
from offshelf.queue import scripts
from offshelf.queue.connection import PREFIX, text, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import redis
    from redis.commands.core import Script


def record_key(job_id: str) -> str:
    """Hash: the record. Its fields are those of `core.jobs.Job`, and `shards`, how many."""
    return f"{PREFIX}job:{job_id}"


def shards_key(job_id: str) -> str:
    """Set: the numbers of the shards that are done."""
    return f"{record_key(job_id)}:shards"


def tries_key(job_id: str) -> str:
    """Hash: step -> how often it was started since it last ended cleanly."""
    return f"{record_key(job_id)}:tries"


def pace_key(job_id: str) -> str:
    """List: the latest spells of work on the job, as `core.pace.Spell` writes them."""
    return f"{record_key(job_id)}:pace"


def events_key(job_id: str) -> str:
    """Stream: one entry a change; see `events.py` for its fields."""
    return f"{record_key(job_id)}:events"


# Sorted set: ids of the queued jobs that nobody has made sure of, by time of creation.
UNSURE_KEY: Final = f"{PREFIX}jobs-unsure"
# The stage of a job for which nothing runs: its next step is in the queue for trainings.
WAITING_TO_TRAIN: Final = "waiting to train"
# The stage of a job that fits a head for every C on every fold.
CHOOSING: Final = "choosing C"


def owner_key(owner: str) -> str:
    """Sorted set: the ids of an owner's jobs, all with score 0. Ids sort by time of creation."""
    return f"{PREFIX}jobs:{owner}"


# Start of the name of a set, which ends with the owner: ids of the jobs that have not ended.
OPEN_PREFIX: Final = f"{PREFIX}jobs-open:"


def idempotency_key(owner: str, key: str) -> str:
    """String: what a client's Idempotency-Key stands for, `<digest of the params> <job id>`."""
    return f"{PREFIX}idempotency:{owner}:{hashlib.sha256(key.encode()).hexdigest()}"


class RedisJobs:
    """`interface.Jobs` in Redis; see `scripts.py` for what happens inside one step.

    `ttl_s` is how long a finished job, and an idempotency key, are kept. `clock` gives Unix time,
    `token` the random part of an id.
    """

    def __init__(
        self,
        client: redis.Redis,
        ttl_s: int,
        clock: Callable[[], float] = time.time,
        token: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._client = client
        self._ttl_s = ttl_s
        self._clock = clock
        self._token = token
        self._create = client.register_script(scripts.CREATE)
        self._change = client.register_script(scripts.CHANGE)
        self._plan = client.register_script(scripts.PLAN)
        self._shard_done = client.register_script(scripts.SHARD_DONE)
        self._searched = client.register_script(scripts.SEARCHED)
        self._tried = client.register_script(scripts.TRIED)

    def create(
        self,
        kind: str,
        owner: str,
        params: Mapping[str, Any],
        idempotency_key: str | None = None,
        total: int = 0,
    ) -> tuple[Job, bool]:
        """A new queued job, or the first one of that key; whether it is new.

        `total` is how many items it will have, as far as that is known.
        """
        now_s = self._clock()
        # Sorts by time: the index needs no scores and a cursor outlives the job it names.
        job = Job(
            id=f"{int(now_s * 1e6):014x}{self._token()}",
            kind=kind,
            owner=owner,
            state=JobState.QUEUED,
            params=dict(params),
            created_s=now_s,
            stage="queued",
            total=total,
        )
        first = self._first(job, idempotency_key)
        return (job, True) if first == job.id else (self.get(first, owner), False)

    def _first(self, job: Job, key: str | None) -> str:
        """Write the record unless its idempotency key is taken; the id that the key stands for."""
        digest = hashlib.sha256(_json([job.kind, job.params]).encode()).hexdigest()
        found = self._run(
            self._create,
            [
                record_key(job.id),
                events_key(job.id),
                owner_key(job.owner),
                _idempotency(job.owner, key),
                UNSURE_KEY,
                OPEN_PREFIX + job.owner,
            ],
            [job.id, digest, self._ttl_s, _json(job.created_s), *_pairs(_encode(job))],
        )
        known_digest, _, job_id = found.decode().partition(" ")
        if known_digest != digest:
            raise JobConflict(f"Idempotency-Key {key!r} was used for job {job_id}, which differs")
        return str(job_id)

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """The record; UnknownName when there is none (or it belongs to another owner)."""
        with translated():
            fields = self._client.hgetall(record_key(job_id))
        job = _decode(fields) if fields else None
        if job is None or owner not in (None, job.owner):
            raise UnknownName(f"no job {job_id!r}")
        return job

    def list(self, owner: str, after: str | None, limit: int) -> tuple[Sequence[Job], bool]:
        """Newest first, from the job after `after`; whether there are more."""
        found: list[Job] = []
        cursor = after
        while len(found) <= limit:
            ids = self._ids(owner, cursor, limit + 1)
            found += self._records(owner, ids)
            if len(ids) <= limit:
                break
            cursor = ids[-1]
        return found[:limit], len(found) > limit

    def _ids(self, owner: str, after: str | None, count: int) -> Sequence[str]:
        start = "+" if after is None else f"({after}"
        with translated():
            ids = self._client.zrevrangebylex(owner_key(owner), start, "-", start=0, num=count)
        return [text(job_id) for job_id in ids]

    def _records(self, owner: str, ids: Sequence[str]) -> Sequence[Job]:
        """The records that are still there; ids of those that are not leave the index."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(record_key(job_id))
            records = pipe.execute()
            gone = [job_id for job_id, fields in zip(ids, records, strict=True) if not fields]
            if gone:
                self._client.zrem(owner_key(owner), *gone)
        return [_decode(fields) for fields in records if fields]

    def open(self, owner: str) -> Sequence[Job]:
        """The jobs of an owner that have not ended, in no order."""
        with translated():
            members: Any = self._client.smembers(OPEN_PREFIX + owner)
            ids = [text(member) for member in members]
            jobs = self._records(owner, ids)
            if gone := set(ids) - {job.id for job in jobs}:
                self._client.srem(OPEN_PREFIX + owner, *gone)
        return jobs

    def advance(
        self,
        job_id: str,
        to: JobState,
        *,
        stage: str | None = None,
        error: ErrorInfo | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> Job:
        """Move to a state, atomically, and tell it as an event; JobConflict when not allowed.

        `result` is added to what the record has.
        """
        fields: dict[str, str] = {}
        if stage is not None:
            fields["stage"] = stage
        if error is not None:
            fields["error"] = _json(error.to_dict())
        if result is not None:
            fields["result"] = _json({**self.get(job_id).result, **result})
        if to in TERMINAL:
            fields["stage"] = to.value
        state = self._enter(job_id, to, ENTERED_FROM[to], fields)
        if state is not None:
            check_transition(job_id, state, to)
        return self.get(job_id)

    def cancel(self, job_id: str, owner: str) -> Job:
        """Ask for the end: a job that waits is cancelled at once, a running one starts cancelling.

        Those wait that are queued, or have nothing left to do but to train and have not begun.
        """
        self.get(job_id, owner)
        fields = {"stage": JobState.CANCELLED.value}
        for waits, stage in ((JobState.QUEUED, ""), (JobState.RUNNING, WAITING_TO_TRAIN)):
            if self._enter(job_id, JobState.CANCELLED, frozenset({waits}), fields, stage) is None:
                return self.get(job_id)
        return self.advance(job_id, JobState.CANCELLING)

    def unsure(self, age_s: float, limit: int = 100) -> Sequence[str]:
        """Jobs queued for longer than that, of which nobody knows that a worker will hear.

        Their first message may have died with the process that made the record.
        """
        with translated():
            ids = self._client.zrangebyscore(
                UNSURE_KEY, "-inf", self._clock() - age_s, start=0, num=limit
            )
        return [text(job_id) for job_id in ids]

    def made_sure(self, job_id: str) -> None:
        """A worker has enqueued the first step of a job."""
        with translated():
            self._client.zrem(UNSURE_KEY, job_id)

    def _enter(
        self,
        job_id: str,
        to: JobState,
        allowed: frozenset[JobState],
        fields: Mapping[str, str],
        stage: str = "",
    ) -> JobState | None:
        """Change the state if it is one of `allowed`; None, or the state that forbade it.

        With `stage` the record must also be in that one.
        """
        now = _json(self._clock())
        times = {"started_s": now} if to is JobState.RUNNING else {}
        if to in TERMINAL:
            times = {"finished_s": now}
        state = self._run(
            self._change,
            [
                record_key(job_id),
                events_key(job_id),
                shards_key(job_id),
                tries_key(job_id),
                pace_key(job_id),
                UNSURE_KEY,
                OPEN_PREFIX,
            ],
            [
                job_id,
                stage,
                to.value,
                " ".join(sorted(allowed)),
                self._ttl_s if to in TERMINAL else 0,
                len(times),
                *_pairs({**times, **fields}),
            ],
        )
        if state == b"gone":
            raise UnknownName(f"no job {job_id!r}")
        return None if state == b"ok" else JobState(state.decode())

    def plan(self, job_id: str, stage: str, total: int, shards: int) -> None:
        """Say how many items and shards the job has; a repeat changes nothing."""
        self._run(self._plan, [record_key(job_id), events_key(job_id)], [stage, total, shards])

    def shard_done(
        self,
        job_id: str,
        shard: int,
        done: int,
        failed: int,
        *,
        reused: int = 0,
        took_s: float = 0.0,
    ) -> bool:
        """Count a finished shard once, however often it is told; whether all are finished now.

        `reused` of those done were there already, the others were computed in `took_s`.
        """
        spell = Spell(self._clock(), took_s, done + failed - reused) if took_s > 0 else None
        rate = self._rate(job_id, spell) if spell else None
        keys = [record_key(job_id), events_key(job_id), shards_key(job_id), pace_key(job_id)]
        told = "" if rate is None else _json(round(rate, 3))
        spelled = str(spell) if spell else ""
        args: list[str | int] = [shard, done, failed, reused, spelled, told, SPELLS_KEPT]
        return bool(self._run(self._shard_done, keys, args))

    def _rate(self, job_id: str, latest: Spell) -> float | None:
        """Images a second with the latest spell; one that another worker tells now is not in it."""
        with translated():
            known: Any = self._client.lrange(pace_key(job_id), 1 - SPELLS_KEPT, -1)
        return images_per_s([*(Spell.parse(text(one)) for one in known), latest])

    def searched(self, job_id: str, search: Mapping[str, float | None]) -> None:
        """Say how far the search for C of a running job is, and tell it as an event."""
        keys = [record_key(job_id), events_key(job_id)]
        self._run(self._searched, keys, [CHOOSING, _json(search)])

    def tried(self, job_id: str, step: str) -> int:
        """Count a try of a step of the job; how many there were since it last ended cleanly."""
        return int(self._run(self._tried, [record_key(job_id), tries_key(job_id)], [step]))

    def settled(self, job_id: str, step: str) -> None:
        """Forget the tries of a step: it ended cleanly, or its worker left and handed it back."""
        with translated():
            self._client.hdel(tries_key(job_id), step)

    @staticmethod
    def _run(script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        with translated():
            return script(keys=keys, args=args)


def _idempotency(owner: str, key: str | None) -> str:
    """The key of the script; a job without one gets a name that is never written."""
    return idempotency_key(owner, key) if key is not None else ""


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _pairs(fields: Mapping[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]


_TEXT: Final = ("id", "kind", "owner", "state", "stage")
_COUNTS: Final = ("total", "done", "failed", "reused", "attempts")


def _encode(job: Job) -> dict[str, str]:
    """The fields of a new record; those that are None are left out."""
    fields = {name: str(getattr(job, name)) for name in (*_TEXT, *_COUNTS)}
    return {
        **fields,
        "created_s": _json(job.created_s),
        "params": _json(job.params),
        "result": _json(job.result),
    }


def _decode(raw: Mapping[Any, Any]) -> Job:
    fields = {text(name): text(value) for name, value in raw.items()}
    data: dict[str, Any] = {name: fields[name] for name in _TEXT if name != "state"}
    data.update({name: int(fields.get(name, 0)) for name in _COUNTS})
    data.update({name: json.loads(fields[name]) for name in ("params", "result", "created_s")})
    for name in ("started_s", "finished_s", "images_per_s", "search"):
        data[name] = json.loads(fields.get(name, "null"))
    error = json.loads(fields.get("error", "null"))
    return Job(
        **data,
        state=JobState(fields["state"]),
        error=ErrorInfo.from_dict(error) if error else None,
    )
