"""The Dramatiq broker as offshelf runs it: quick to wake, sure to recover, bounded in tries."""

from __future__ import annotations

import logging
import time
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import redis
from dramatiq import Broker, Consumer, MessageProxy, Middleware
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import SkipMessage

from offshelf.errors import DependencyError, JobFailed, OffshelfError
from offshelf.queue.connection import PREFIX, text
from offshelf.queue.tasks import BULK, PLANNING, TRAINING, step_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from offshelf.queue.interface import Jobs
    from offshelf.queue.tasks import StepHandler

log = logging.getLogger(__name__)

NAMESPACE: Final = f"{PREFIX}broker"
# Messages that a worker holds at once, running ones included. One training fills the cores.
CAPACITY: Final[Mapping[str, int]] = {PLANNING: 4, BULK: 8, TRAINING: 1}
# How long a consumer may sleep between two looks at an empty queue.
POLL_MS: Final[Mapping[str, int]] = {PLANNING: 100, BULK: 200, TRAINING: 500}
DELAY_CAPACITY: Final = 256
DELAY_POLL_MS: Final = 500
# So that a message taken from any queue finds a thread.
WORKER_THREADS: Final = sum(CAPACITY.values()) + 2
DEAD_MESSAGE_TTL_MS: Final = 7 * 86_400_000

RETRY_MIN_S: Final = 0.5
RETRY_MAX_S: Final = 60.0
INSIST_S: Final = 1.0


class JobBroker(RedisBroker):
    """A RedisBroker that knows which messages it holds.

    So it can hand them back when its worker leaves, and pick up those that a lost connection
    swallowed on the way: Redis counts them as ours, and as long as we live nobody else would.
    """

    def __init__(
        self, client: redis.Redis, *, heartbeat_timeout_s: float, maintenance_chance: int
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # not annotated there
            client=client,
            middleware=[],
            namespace=NAMESPACE,
            heartbeat_timeout=int(heartbeat_timeout_s * 1000),
            maintenance_chance=maintenance_chance,
            dead_message_ttl=DEAD_MESSAGE_TTL_MS,
        )
        self._held: dict[str, dict[str, MessageProxy]] = {}
        self._lock = Lock()

    def consume(
        self,
        queue_name: str,
        prefetch: int = 1,  # noqa: ARG002 - the signature is Dramatiq's
        timeout: int = 5000,  # noqa: ARG002 - as above
    ) -> Consumer:
        """A consumer with our capacity and polling; `prefetch` and `timeout` are ignored."""
        try:
            self._recover(queue_name)
        except redis.RedisError as error:
            raise _closed(error) from None
        capacity = CAPACITY.get(queue_name, DELAY_CAPACITY)
        poll_ms = POLL_MS.get(queue_name, DELAY_POLL_MS)
        return _HoldingConsumer(self, queue_name, super().consume(queue_name, capacity, poll_ms))

    def hold(self, queue_name: str, message: MessageProxy) -> None:
        """Note a message that was fetched."""
        with self._lock:
            self._held.setdefault(queue_name, {})[_redis_id(message)] = message

    def holds(self, message: MessageProxy) -> bool:
        """Whether a message is still ours; one that was handed back is somebody else's."""
        with self._lock:
            return _redis_id(message) in self._held.get(message.queue_name, {})

    def let_go(self, queue_name: str, messages: Iterable[MessageProxy]) -> None:
        """Note messages that are done with, or in the queue again."""
        with self._lock:
            for message in messages:
                self._held.get(queue_name, {}).pop(_redis_id(message), None)

    def hand_back(self) -> list[MessageProxy]:
        """Put all that is still held back into its queue; those messages."""
        with self._lock:
            held, self._held = self._held, {}
        for queue_name, messages in held.items():
            if messages:
                self.do_requeue(queue_name, *messages)
        return [message for messages in held.values() for message in messages.values()]

    def dead_letters(self, queue_name: str) -> int:
        """How many messages of a queue were given up and are kept for a look."""
        return int(self.client.zcard(f"{NAMESPACE}:{queue_name}.XQ"))

    def _recover(self, queue_name: str) -> None:
        """Requeue what Redis thinks we have and we have not.

        Called before a consumer begins, so nothing of this queue is on its way. What its
        predecessor had delayed in memory was dropped with it: that is let go of first.
        """
        with self._lock:
            if queue_name in self.delay_queues:
                self._held.pop(queue_name, None)
            held = set(self._held.get(queue_name, {}))
        acks = f"{NAMESPACE}:__acks__.{self.broker_id}.{queue_name}"
        ours = {text(member) for member in self.client.smembers(acks)}
        lost = ours - held
        if lost:
            log.warning("%d messages of %s were lost on the way; requeued", len(lost), queue_name)
            self.do_requeue(queue_name, *lost)


class _HoldingConsumer(Consumer):
    """Tells the broker what it holds, and every Redis error as the one that Dramatiq survives."""

    def __init__(self, broker: JobBroker, queue_name: str, inner: Consumer) -> None:
        self._broker = broker
        self._queue_name = queue_name
        self._inner = inner

    def __next__(self) -> MessageProxy | None:
        try:
            message = next(self._inner)
        except redis.RedisError as error:
            raise _closed(error) from None
        if message is not None:
            self._broker.hold(self._queue_name, message)
        return message

    def ack(self, message: MessageProxy) -> None:
        self._end(self._inner.ack, message)

    def nack(self, message: MessageProxy) -> None:
        self._end(self._inner.nack, message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        messages = list(messages)
        try:
            self._inner.requeue(messages)
        except redis.RedisError as error:
            raise _closed(error) from None
        self._broker.let_go(self._queue_name, messages)

    def close(self) -> None:
        self._inner.close()

    def _end(self, action: Callable[[MessageProxy], None], message: MessageProxy) -> None:
        try:
            action(message)
        except redis.RedisError as error:
            raise _closed(error) from None
        self._broker.let_go(self._queue_name, [message])


class Attempts(Middleware):
    """Bounds the tries of every step, and decides what an error means.

    A try is counted before the step runs, so a step that kills its process is counted too. A
    RequestError or another error that a retry cannot mend fails the job at once; others are tried
    again after a growing pause until there were `max_attempts`; then the message goes to the dead
    letters, for a look at what happened.
    """

    def __init__(
        self,
        jobs: Jobs,
        handler: StepHandler,
        max_attempts: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._jobs = jobs
        self._handler = handler
        self._max_attempts = max_attempts
        self._sleep = sleep

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002
        """Count the try; give the job up if its step has had all it may have."""
        job_id, step = step_name(message)
        tries = self._insist(lambda: self._jobs.tried(job_id, step))
        message.options["tries"] = tries
        if tries > self._max_attempts:
            crashed = JobFailed(
                f"step {step} was started {self._max_attempts} times and never came to an end"
            )
            self._give_up(message, crashed)
            raise SkipMessage(str(crashed))

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any | None = None,  # noqa: ARG002 - the signature is Dramatiq's
        exception: BaseException | None = None,
    ) -> None:
        """Forget the tries of what went well; retry or fail what did not."""
        if isinstance(broker, JobBroker) and not broker.holds(message):
            return  # handed back: how this run of it ended says nothing
        job_id, step = step_name(message)
        tries = int(message.options.get("tries", 1))
        if exception is None:
            self._insist(lambda: self._jobs.settled(job_id, step))
        elif _is_final(exception):
            log.warning("job %s ends at step %s: %s", job_id, step, exception)
            self._insist(lambda: self._handler.fail(job_id, exception))
        elif tries < self._max_attempts:
            delay_ms = int(1000 * min(RETRY_MAX_S, RETRY_MIN_S * 2 ** (tries - 1)))
            log.warning("step %s of job %s will be tried again", step, job_id)
            # Not before Redis has it: what is enqueued here is acknowledged right after.
            self._insist(lambda: broker.enqueue(message.copy(), delay=delay_ms))
        else:
            self._give_up(message, exception)

    def _give_up(self, message: MessageProxy, error: BaseException) -> None:
        job_id, step = step_name(message)
        log.error("job %s failed: step %s is given up: %s", job_id, step, error)
        self._insist(lambda: self._handler.fail(job_id, error))
        message.fail()

    def _insist(self, action: Callable[[], Any]) -> Any:
        """Do it as soon as Redis lets us. Ends with the process, which then still owns the message.

        Dramatiq itself waits like this to acknowledge a message.
        """
        while True:
            try:
                return action()
            except (DependencyError, redis.RedisError) as error:
                log.warning("waiting for Redis: %s", error)
                self._sleep(INSIST_S)


def _is_final(error: BaseException) -> bool:
    """Whether another try would end in the same way."""
    return isinstance(error, OffshelfError) and not error.retryable


def _closed(error: redis.RedisError) -> ConnectionClosed:
    """Dramatiq starts its consumer anew after this one, and gives up after any other."""
    return ConnectionClosed(error)  # type: ignore[no-untyped-call]  # not annotated there


def _redis_id(message: MessageProxy) -> str:
    return str(message.options["redis_message_id"])
