"""Asks every worker for a self-test, over a list each and a reply list an ask."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from offshelf.queue.connection import PREFIX, translated
from offshelf.schemas.health import SelfTestReport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import redis

# How long one blocking read waits; below the client's time-out.
BLOCK_S: Final = 1.0
# A reply list is gone so long after the last reply.
REPLIES_TTL_S: Final = 60


def asks_key(worker_id: str) -> str:
    """List, with a TTL: the asks for one worker."""
    return f"{PREFIX}selftest:{worker_id}"


def replies_key(ask_id: str) -> str:
    """List, with a TTL: the reports on one ask."""
    return f"{PREFIX}selftest-replies:{ask_id}"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be tested; nobody waits after `deadline_s` (Unix time)."""

    id: str
    backbone: str | None
    weights: str | None
    deadline_s: float


class RedisSelfTests:
    """`interface.SelfTests`, and the workers' side of it. `clock` gives Unix time."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock

    def ask(
        self,
        workers: Collection[str],
        backbone: str | None,
        weights: str | None,
        timeout_s: float,
    ) -> dict[str, SelfTestReport]:
        """The reports of these workers, by id; those that did not answer in time are not there."""
        ask = Ask(uuid.uuid4().hex, backbone, weights, self._clock() + timeout_s)
        with translated(), self._client.pipeline(transaction=True) as pipe:
            for worker_id in workers:
                pipe.rpush(asks_key(worker_id), json.dumps(asdict(ask)))
                pipe.expire(asks_key(worker_id), int(timeout_s) + 1)
            pipe.execute()
        reports: dict[str, SelfTestReport] = {}
        while len(reports) < len(workers) and self._clock() < ask.deadline_s:
            with translated():
                found: Any = self._client.blpop([replies_key(ask.id)], BLOCK_S)
            if found:
                report = SelfTestReport.model_validate_json(found[1])
                reports[report.worker] = report
        return reports

    def take(self, worker_id: str) -> Ask | None:
        """The next ask for this worker that somebody waits for; waits a moment for one."""
        with translated():
            found: Any = self._client.blpop([asks_key(worker_id)], BLOCK_S)
        ask = Ask(**json.loads(found[1])) if found else None
        return ask if ask is not None and ask.deadline_s > self._clock() else None

    def answer(self, ask: Ask, report: SelfTestReport) -> None:
        """Send a report to whoever asked."""
        with translated(), self._client.pipeline(transaction=True) as pipe:
            pipe.rpush(replies_key(ask.id), report.model_dump_json())
            pipe.expire(replies_key(ask.id), REPLIES_TTL_S)
            pipe.execute()
