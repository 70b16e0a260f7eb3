# Generated from _async by generate_sync.py; edit there.
"""A job: looking at it, following it, waiting for it, cancelling it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from offshelf_client import _io_sync
from offshelf_client._errors import (
    ApiError,
    JobConflictError,
    OffshelfError,
    TransportError,
    UnexpectedAnswer,
)
from offshelf_client._models import (
    Dataset,
    JobEvent,
    JobStatus,
    dataset_of,
    feature_set_info_of,
    feature_set_parts,
    head_of,
    job_of,
)
from offshelf_client._progress import ProgressOption, showing
from offshelf_client._sse import EventParser
from offshelf_client._sync._feature_set import FeatureSet
from offshelf_client._sync._head import Head
from offshelf_client._waiting import (
    Deadline,
    described,
    ended,
    may_come_back,
    progress_of,
    status_after,
)
from offshelf_client._wire import Call, at

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from offshelf_client._progress import Show
    from offshelf_client._sync._transport import Transport

# The server breaks the silence of an event stream about every 10 s.
SILENCE_S: Final = 30.0
POLL_S: Final = 1.0
BROKEN_STREAMS: Final = 3
# How much later than asked a wait may end.
SLACK_S: Final = 1.0


class Job:
    """Queued work. Its fields say how it was when last asked; `refresh` asks again.

    Example: `job = client.heads.train(dataset); job.wait(progress=True)`.
    """

    def __init__(self, transport: Transport, status: JobStatus) -> None:
        self._transport = transport
        self.status = status

    def __repr__(self) -> str:
        s = self.status
        return f"<{type(self).__name__} {s.id} {s.kind} {s.state} {s.done}/{s.total}>"

    @property
    def id(self) -> str:
        """Its identifier."""
        return self.status.id

    @property
    def state(self) -> str:
        """`queued`, `running`, `cancelling`, `succeeded`, `failed` or `cancelled`."""
        return self.status.state

    @property
    def result(self) -> dict[str, Any]:
        """What it made, by identifiers; empty until it has succeeded."""
        return self.status.result

    def refresh(self) -> Job:
        """Ask how it is now. Raises UnknownNameError when its record has expired."""
        data = self._transport.json(Call("GET", at("jobs", self.id)))
        self.status = job_of(data)
        return self

    def cancel(self) -> Job:
        """Ask for its end; a job that has already ended stays as it is."""
        call = Call("DELETE", at("jobs", self.id))
        try:
            self._transport.send(call)
        except JobConflictError:
            self.refresh()
            if not self.status.finished:
                raise
        return self.refresh()

    def events(self, after: str = "") -> Iterator[JobEvent]:
        """Every event after the one with id `after` (empty: from the first), to the last.

        A broken connection is taken up again where it broke. Raises TransportError or ApiError
        when that fails again and again.
        """
        with closing(self._events(after, Deadline(None))) as events:
            for event in events:
                if event is not None:
                    yield event

    def wait(
        self,
        progress: ProgressOption = False,
        timeout: float | None = None,
    ) -> Job:
        """Wait until it has succeeded. `timeout` is in seconds; None waits as long as it takes.

        `progress`: True shows a bar on standard error if that is a terminal, `"force"` anyway;
        a callable gets each `Progress`. Raises JobFailedError, JobCancelledError, and TimedOut
        (the job goes on). Example: `job.wait(progress=True, timeout=600)`.
        """
        deadline = Deadline(timeout, self._transport.retry.clock)
        with showing(progress) as show:
            show(progress_of(self.status))
            if not self.status.finished:
                self._follow(deadline, show)
        ended(self.status)
        return self

    def head(self) -> Head:
        """The head that it trained. Raises JobConflictError unless it is a head's and succeeded."""
        self._succeeded()
        if "head" not in self.result:
            raise JobConflictError(f"job {self.id} is a {self.status.kind}: it trains no head")
        data = self._transport.json(Call("GET", at("heads", self.result["head"])))
        return Head(self._transport, head_of(data))

    def feature_set(self) -> FeatureSet:
        """The feature set that it made; JobConflictError unless it is one's and succeeded."""
        self._succeeded()
        made = self.result.get("feature_set")
        if made is None:
            raise JobConflictError(f"job {self.id}, a {self.status.kind}, makes no feature set")
        data = self._transport.json(Call("GET", at("feature-sets", made)))
        return FeatureSet(self._transport, feature_set_info_of(data), *feature_set_parts(data))

    def _succeeded(self) -> None:
        if not self.status.finished:
            self.refresh()
        if not self.status.finished:
            raise JobConflictError(
                f"job {self.id} has not ended: it is {described(self.status)}; call wait() first"
            )
        ended(self.status)

    def dataset(self) -> Dataset:
        """Wait for the dataset that it registers. Raises JobConflictError for another's job."""
        if self.status.kind != "dataset":
            raise JobConflictError(f"job {self.id} is a {self.status.kind}: it makes no dataset")
        self.wait()
        data = self._transport.json(Call("GET", at("datasets", self.result["dataset"])))
        return dataset_of(data)

    def _follow(self, deadline: Deadline, show: Show) -> None:
        """Show events until the end; ask from time to time where events do not come."""
        try:
            with closing(self._events("", deadline)) as events:
                for event in events:
                    deadline.check(self.id)
                    if event is not None:
                        self.status = status_after(self.status, event)
                        show(progress_of(self.status))
            self.refresh()
        except (ApiError, TransportError, UnexpectedAnswer):
            deadline.check(self.id)
            self._poll(deadline, show)

    def _poll(self, deadline: Deadline, show: Show) -> None:
        while not (self.refresh()).status.finished:
            show(progress_of(self.status))
            deadline.check(self.id)
            _io_sync.pause(deadline.at_most(POLL_S), self._transport.retry.sleep)
        show(progress_of(self.status))

    def _events(self, last: str, deadline: Deadline) -> Generator[JobEvent | None]:
        """Events, and None for every sign of life between them."""
        broken = 0
        while True:
            try:
                with closing(self._connection(last, deadline)) as events:
                    for event in events:
                        broken = 0
                        yield event
                        if event is not None:
                            last = event.id or last
                            if event.terminal:
                                return
            except OffshelfError as error:
                deadline.check(self.id)
                broken += 1
                if broken >= BROKEN_STREAMS or not may_come_back(error):
                    raise
            deadline.check(self.id)
            if (self.refresh()).status.finished and not broken:
                return
            _io_sync.pause(
                deadline.at_most(POLL_S * self._transport.retry.random()),
                self._transport.retry.sleep,
            )

    def _connection(self, last: str, deadline: Deadline) -> Generator[JobEvent | None]:
        """The events of one connection; it ends with the stream, or to shorten its time-out."""
        silence_s = deadline.at_most(SILENCE_S)
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        call = Call("GET", at("jobs", self.id, "events"), headers=headers)
        parser = EventParser()
        with self._transport.lines(call, silence_s) as lines:
            for line in lines:
                beat = line.startswith(":")
                event = parser.feed(line)
                if beat or event is not None:
                    yield event
                if beat and deadline.at_most(silence_s) < silence_s - SLACK_S:
                    return
