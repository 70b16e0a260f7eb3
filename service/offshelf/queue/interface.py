"""The ports of the queue: what the API and the worker ask of Redis, without saying Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from offshelf.core.jobs import Job, JobState
    from offshelf.core.routing import Takes
    from offshelf.errors import ErrorInfo
    from offshelf.queue.messages import ImageReply, ImageRequest
    from offshelf.queue.tasks import Step
    from offshelf.schemas.backbones import BackboneBody, WorkerBody
    from offshelf.schemas.health import SelfTestReport


class Jobs(Protocol):
    """Job records: state, counts and events. Every method raises DependencyError without Redis."""

    def create(
        self,
        kind: str,
        owner: str,
        params: Mapping[str, Any],
        idempotency_key: str | None = None,
        total: int = 0,
    ) -> tuple[Job, bool]:
        """A new queued job, or the first one of that key; whether it is new.

        The same key with other params raises JobConflict. `total` is how many items it will have,
        as far as that is known.
        """
        ...

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """The record; UnknownName when there is none (or it belongs to another owner)."""
        ...

    def list(self, owner: str, after: str | None, limit: int) -> tuple[Sequence[Job], bool]:
        """Newest first, from the job after `after`; whether there are more."""
        ...

    def open(self, owner: str) -> Sequence[Job]:
        """The jobs of an owner that have not ended, in no order."""
        ...

    def advance(
        self,
        job_id: str,
        to: JobState,
        *,
        stage: str | None = None,
        error: ErrorInfo | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> Job:
        """Move to a state, atomically, and tell it as an event; JobConflict when not allowed."""
        ...

    def cancel(self, job_id: str, owner: str) -> Job:
        """Ask for the end: a queued job is cancelled at once, a running one starts cancelling."""
        ...

    def plan(self, job_id: str, stage: str, total: int, shards: int) -> None:
        """Say how many items and shards the job has; a repeat changes nothing."""
        ...

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
        ...

    def searched(self, job_id: str, search: Mapping[str, float | None]) -> None:
        """Say how far the search for C of a running job is, and tell it as an event."""
        ...

    def tried(self, job_id: str, step: str) -> int:
        """Count a try of a step of the job; how many there were since it last ended cleanly."""
        ...

    def settled(self, job_id: str, step: str) -> None:
        """Forget the tries of a step: it ended cleanly, or its worker left and handed it back."""
        ...


class JobQueue(Protocol):
    """Hands jobs to the workers."""

    def submit(self, job: Job) -> None:
        """Enqueue the first step of a job; doing it twice does no harm."""
        ...


class StepQueue(Protocol):
    """Hands the next step of a job to whichever worker is free."""

    def enqueue(
        self, step: Step, job_id: str, index: int | None = None, delay_s: float = 0.0
    ) -> None:
        """Enqueue a step; `index` is the shard's number, for `Step.SHARD` only."""
        ...


class JobEvents(Protocol):
    """The events of a job, as they come."""

    def follow(self, job_id: str, after: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield (event id, data) from the one after `after` (`0`: from the first) to the last.

        Yields ("", {}) at once when the job can be followed, and about every 10 s of silence, so
        that the line can be kept open. Before that UnknownName, or CapacityError when too many
        follow.
        """
        ...


class Interactive(Protocol):
    """The API's side of request and reply."""

    @property
    def inbox(self) -> str:
        """Where replies are to go: `reply_to` of every request."""
        ...

    async def ask(self, requests: Sequence[ImageRequest]) -> list[ImageReply]:
        """Send images and wait for all their replies, in order.

        Raises CapacityError when too many images wait, NoWorker when nobody is there, and
        DeadlineExceeded.
        """
        ...


class Inbox(Protocol):
    """The worker's side of request and reply."""

    def take(self, max_images: int, timeout_s: float, takes: Takes) -> list[ImageRequest]:
        """Up to so many waiting requests of one route, oldest first; none when none came in time.

        Routes take turns. Foreign ones are looked at where nothing came of the own.
        """
        ...

    def put_back(self, route: str, requests: Sequence[ImageRequest]) -> None:
        """Put requests that were taken where they came from, for another worker."""
        ...

    def reply(self, replies: Sequence[tuple[str, ImageReply]]) -> None:
        """Send replies, each to the `reply_to` of its request, in one round trip.

        One that is refused is logged and takes no other with it.
        """
        ...

    def gone(self, request_ids: Collection[str]) -> Mapping[str, float]:
        """Of these requests those that nobody waits for any more, each with the Unix time since."""
        ...


class Directory(Protocol):
    """Which workers are alive and what they hold."""

    def workers(self) -> list[WorkerBody]:
        """The live workers, by id."""
        ...

    def catalogues(self) -> Mapping[str, Sequence[BackboneBody]]:
        """The backbones of each live worker, by its id."""
        ...

    def queued_images(self) -> int:
        """Images that wait for a worker, on all routes."""
        ...

    def ping(self) -> None:
        """Raise DependencyError when Redis does not answer."""
        ...


class SelfTests(Protocol):
    """The API's side of self-tests."""

    def ask(
        self,
        workers: Collection[str],
        backbone: str | None,
        weights: str | None,
        timeout_s: float,
    ) -> Mapping[str, SelfTestReport]:
        """The reports of these workers, by id; those that did not answer in time are not there."""
        ...
