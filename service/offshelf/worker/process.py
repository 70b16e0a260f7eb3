"""The worker process: it starts, serves, notices when it is sick, and leaves in order.

On the way out: no new work; what runs may finish within a bound; the rest goes back to the
queue; then the replies, the device and the record. Heartbeats go on until the end.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from dataclasses import dataclass
from os import getpid
from typing import TYPE_CHECKING, Final

import redis
from dramatiq import Worker

from offshelf.errors import DependencyError, OffshelfError, WorkerError
from offshelf.queue.broker import WORKER_THREADS
from offshelf.queue.tasks import QUEUE_OF, DramatiqJobQueue, Step, step_name
from offshelf.schemas.backbones import WorkerBody

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from offshelf.queue.broker import JobBroker
    from offshelf.queue.directory import RedisDirectory
    from offshelf.queue.jobs import RedisJobs
    from offshelf.schemas.features import FeatureParams
    from offshelf.worker.health import Health
    from offshelf.worker.intake import Intake
    from offshelf.worker.interface import Extractor
    from offshelf.worker.metrics import WorkerMetrics
    from offshelf.worker.post import Post
    from offshelf.worker.selftesting import SelfTesting

log = logging.getLogger(__name__)

# A record outlives so many missed beats, and at least so many seconds (a long pause of Python).
BEATS_TO_LIVE: Final = 5
RECORD_MIN_S: Final = 5.0
CANARY_S: Final = 30.0
CANARY_TIMEOUT_S: Final = 60.0
# How often the queues are looked over, and from what age on a queued job is told to them again.
SWEEP_S: Final = 30.0
# How often Dramatiq's threads look whether they are to stop.
WORKER_TIMEOUT_MS: Final = 200
CLOSE_S: Final = 10.0
# How fast the rate of images follows: the weight of the latest beat with work in it.
RATE_WEIGHT: Final = 0.3


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is, in its record."""

    id: str
    engine: str
    device: str
    default_backbone: str
    started_s: float


@dataclass(frozen=True, slots=True)
class Timing:
    """How often it beats, tries the canary and sweeps; how long it may take to leave. Seconds."""

    beat_s: float
    drain_s: float
    canary_s: float = CANARY_S
    sweep_s: float = SWEEP_S


class WorkerProcess:
    """Runs one worker until `health` says that it is to end.

    `broker` has its actors and middleware; `post` knows what is published;
    `preload` is loaded and warmed up before the worker calls itself ready.
    """

    def __init__(
        self,
        identity: Identity,
        health: Health,
        extractor: Extractor,
        intake: Intake,
        broker: JobBroker,
        jobs: RedisJobs,
        directory: RedisDirectory,
        post: Post,
        selftesting: SelfTesting,
        metrics: WorkerMetrics,
        preload: Sequence[FeatureParams],
        timing: Timing,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._identity = identity
        self._health = health
        self._extractor = extractor
        self._intake = intake
        self._broker = broker
        self._jobs = jobs
        self._directory = directory
        self._post = post
        self._selftesting = selftesting
        self._metrics = metrics
        self._preload = preload
        self._timing = timing
        self._clock = clock
        self._worker = Worker(
            broker, worker_threads=WORKER_THREADS, worker_timeout=WORKER_TIMEOUT_MS
        )
        self._first_steps = DramatiqJobQueue(broker)
        self._left = threading.Event()
        self._answered_all = True
        self._swept_s = float("-inf")
        self._rate = 0.0

    def run(self) -> int:
        """Serve until the end; the process's exit status: 0, or 1 if something broke."""
        beat = threading.Thread(target=self._beat_forever, name="heartbeat", daemon=True)
        beat.start()
        self._warm_up()
        if not self._health.ended:
            self._intake.start()
            self._selftesting.start()
            self._worker.start()
            self._watch_device()
            self._drain()
        self._selftesting.stop(CLOSE_S)
        self._extractor.close(CLOSE_S)
        self._left.set()
        beat.join(CLOSE_S)
        return 1 if self._health.is_broken else 0

    def handle_signals(self) -> None:
        """Let SIGTERM and SIGINT ask for the end; for the main thread."""

        def on_signal(number: int, _frame: FrameType | None) -> None:
            log.info("%s: draining", signal.Signals(number).name)
            self._health.stop()

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)

    def _warm_up(self) -> None:
        """Load what is to be there from the start. Missing weights are no reason not to serve."""
        missing = []
        for params in self._preload:
            if self._health.ended:
                return
            try:
                with self._extractor.resolve(params):
                    pass
            except WorkerError as error:
                self._health.broken(error)
            except OffshelfError as error:
                log.warning("cannot preload %s: %s", params.backbone, error)
                missing.append(str(error))
        self._health.say(ready=True, detail="; ".join(missing))

    def _watch_device(self) -> None:
        """Until the end: the canary unless answers prove that all is well."""
        proofs = self._intake.proofs
        while not self._health.ended:
            suspected = self._health.wait(self._timing.canary_s)
            # Nothing to do, or what there is hangs: a forward pass may never return.
            unproven = self._intake.inflight == 0 or self._intake.proofs == proofs
            if not self._health.ended and (suspected or unproven):
                self._try_canary()
            proofs = self._intake.proofs

    def _try_canary(self) -> None:
        try:
            self._extractor.canaries(CANARY_TIMEOUT_S)
        except WorkerError as error:
            self._health.broken(error)

    def _drain(self) -> None:
        self._health.say(ready=False, detail="draining")
        drain_s = self._timing.drain_s
        if self._health.is_broken:
            drain_s = min(drain_s, CLOSE_S)  # little will be finished
        self._answered_all = False

        def drain() -> None:
            self._answered_all = self._intake.drain(drain_s)

        draining = threading.Thread(target=drain, name="drain", daemon=True)
        draining.start()
        deadline_s = time.monotonic() + drain_s
        self._worker.stop(int(drain_s * 1000))
        self._hand_back()
        draining.join(max(1.0, deadline_s - time.monotonic()))

    def _hand_back(self) -> None:
        """Put what did not finish back into its queue; leaving is not a failed try."""
        try:
            for message in self._broker.hand_back():
                self._jobs.settled(*step_name(message))
        except (redis.RedisError, DependencyError) as error:
            log.warning("unfinished steps are taken up after our heartbeat has died: %s", error)

    def _beat_forever(self) -> None:
        answered, beat_s = 0, time.monotonic()
        while not self._left.is_set():
            self._sweep()
            self._publish()
            self._left.wait(self._timing.beat_s)
            now, now_s = self._intake.answered, time.monotonic()
            if now > answered:
                latest = (now - answered) / (now_s - beat_s)
                self._rate += RATE_WEIGHT * (latest - self._rate) if self._rate else latest
            answered, beat_s = now, now_s
        try:
            self._directory.withdraw(self._identity.id, self._answered_all)
        except DependencyError:
            log.info("the record of this worker is left to expire")

    def _sweep(self) -> None:
        """Now and then: count the dead letters, and tell the queue of jobs it may not know of."""
        if time.monotonic() < self._swept_s + self._timing.sweep_s:
            return
        self._swept_s = time.monotonic()
        try:
            for queue in set(QUEUE_OF.values()):
                self._metrics.dead_letters(queue, self._broker.dead_letters(queue))
            for job_id in self._jobs.unsure(self._timing.sweep_s):
                self._first_steps.enqueue(Step.START, job_id)
                self._jobs.made_sure(job_id)
        except (redis.RedisError, DependencyError) as error:
            log.warning("the queues were not looked over: %s", error)

    def _publish(self) -> None:
        ttl_s = max(RECORD_MIN_S, BEATS_TO_LIVE * self._timing.beat_s)
        try:
            self._post.look()
            station = self._post.told(self._rate)
            self._directory.publish(self._body(), station, self._post.catalogue, ttl_s)
        except Exception as error:  # noqa: BLE001 - without a next beat we would count as dead
            log.warning("no heartbeat: %r", error)

    def _body(self) -> WorkerBody:
        return WorkerBody(
            id=self._identity.id,
            host=socket.gethostname(),
            pid=getpid(),
            engine=self._identity.engine,
            device=self._identity.device,
            ready=self._health.ready,
            detail=self._health.detail,
            started_s=self._identity.started_s,
            beat_s=self._clock(),
            default_backbone=self._identity.default_backbone,
            resident=self._post.residents(),
            memory_bytes=self._extractor.budget,
            images_per_s=self._rate,
            metrics=self._metrics.text(),
        )
