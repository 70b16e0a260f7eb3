"""The composition root: the one place that names concrete adapters and puts them together."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from offshelf.cache.opening import open_cache
from offshelf.datasets.interface import limits_of
from offshelf.datasets.sources import Sources
from offshelf.errors import DependencyError, NoWorker
from offshelf.queue import connection
from offshelf.queue.broker import Attempts, JobBroker
from offshelf.queue.directory import RedisDirectory
from offshelf.queue.embedded import EmbeddedValkey
from offshelf.queue.events import MAX_FOLLOWERS, RedisEvents
from offshelf.queue.in_process import InProcessJobs, InProcessQueue
from offshelf.queue.interactive import AsyncInteractive, RedisInbox
from offshelf.queue.jobs import RedisJobs
from offshelf.queue.selftests import RedisSelfTests
from offshelf.queue.tasks import DramatiqJobQueue, declare_actors
from offshelf.schemas.features import FeatureParams
from offshelf.store.objects import ObjectStore
from offshelf.supervisor import Child, Supervisor, end_with_parent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from fastapi import FastAPI

    from offshelf.backbones.catalogue import Catalogue
    from offshelf.cache.interface import Values
    from offshelf.engine.extractor import Extractor
    from offshelf.engine.interface import Resident
    from offshelf.schemas.backbones import BackboneBody
    from offshelf.settings import Settings
    from offshelf.worker.content_cache import ContentCache
    from offshelf.worker.metrics import WorkerMetrics
    from offshelf.worker.post import Post
    from offshelf.worker.process import WorkerProcess
    from offshelf.worker.steps import JobSteps

log = logging.getLogger(__name__)

API_GRACE_S: Final = 15.0
# What a worker may take beyond its drain time to end: twice `worker.process.CLOSE_S`, for the
# device and for the last heartbeat, and what its interpreter takes.
WORKER_GRACE_S: Final = 30.0
START_FAILED: Final = 3  # the status of an API that could not start
# For so long a process that has done its work may wait for threads that hang.
EXIT_S: Final = 5.0
# For so long the end of a local run waits for the batch that is on the device.
LOCAL_CLOSE_S: Final = 10.0


def serve(settings: Settings) -> None:
    """Run everything on this machine until SIGTERM or SIGINT; stop it in order.

    Without a Redis URL the embedded server is started first and stopped last.
    """
    _configure_log(settings)
    _check_port(settings)
    embedded = None if settings.redis_url else _embedded(settings)
    children = [
        Child("worker", _command("worker"), {}, settings.drain_s + WORKER_GRACE_S),
        Child("api", _command("api"), {}, API_GRACE_S),
    ]
    supervisor = Supervisor(children, keep=_keeper(embedded))
    # Before anything is started: a signal from here on ends in an orderly stop of what there is.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    try:
        url = settings.redis_url or (embedded.start() if embedded else "")
        _open_cache(settings, url)  # a wrong one is told here, once
        environment = settings.model_copy(update={"redis_url": url}).environment()
        for child in children:
            child.environment = environment
        log.info(
            "offshelf on http://%s:%d, data in %s", settings.host, settings.port, settings.data_dir
        )
        supervisor.run()
    finally:
        if embedded is not None:
            embedded.stop()


def run_api(settings: Settings) -> None:
    """Serve the HTTP API until told to stop."""
    import uvicorn

    _configure_log(settings)
    _follow_parent(settings)
    with _redis_url(settings) as url:
        app = build_api(settings, url)
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level=settings.log_level,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(API_GRACE_S) - 5,
        )
        server = uvicorn.Server(config)
        app.state.closing = lambda: server.should_exit
        with suppress(KeyboardInterrupt):
            server.run()
        if not server.started:
            sys.exit(START_FAILED)


def build_api(settings: Settings, redis_url: str) -> FastAPI:
    """The ASGI application over Redis at `redis_url` and the store of the settings."""
    from offshelf.api.app import create_app
    from offshelf.api.services import Services

    state = connection.connect(redis_url, connection.STATE)
    followers = connection.connect_async(redis_url, connection.STATE, connections=MAX_FOLLOWERS)
    interactive = AsyncInteractive(
        client=connection.connect_async(redis_url, connection.STATE),
        reader=connection.connect_async(redis_url, connection.STATE, retries=0),
        api_id=uuid.uuid4().hex,
        max_queued=settings.max_queued_images,
    )

    @asynccontextmanager
    async def asking() -> AsyncIterator[None]:
        await interactive.start()
        try:
            yield
        finally:
            await interactive.close()

    services = Services(
        store=ObjectStore.open(settings.resolved_store_url),
        jobs=RedisJobs(state, settings.job_ttl_s),
        job_queue=DramatiqJobQueue(_broker(settings, redis_url)),
        events=RedisEvents(followers),
        interactive=interactive,
        directory=RedisDirectory(state),
        selftests=RedisSelfTests(state),
        sources=Sources(settings.dataset_roots),
        resources=(asking(),),
    )
    return create_app(services, settings)


def run_worker(settings: Settings) -> int:
    """Own the device and work until told to stop; the exit status."""
    _configure_log(settings)
    _follow_parent(settings)
    _bound_spinning()
    with _redis_url(settings) as url:
        process = build_worker(settings, url)
        process.handle_signals()
        status = process.run()
    end_for_certain(status, EXIT_S)
    return status


def end_for_certain(status: int, timeout_s: float) -> None:
    """Let this process end with `status` within `timeout_s`, even where a thread hangs.

    The interpreter joins its threads, and one that is in a device's driver may never return.
    """

    def end() -> None:
        log.critical("a thread hangs; the process ends without it (status %d)", status)
        logging.shutdown()
        os._exit(status)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()


def build_worker(settings: Settings, redis_url: str) -> WorkerProcess:
    """A worker over Redis at `redis_url`, the store of the settings and the torch engine."""
    from offshelf.backbones.catalogue import Catalogue
    from offshelf.engine.extractor import Extractor
    from offshelf.engine.selftest import SelfTest
    from offshelf.engine.torch_engine import TorchEngine
    from offshelf.heads.whitening import load as load_whitening
    from offshelf.worker.content_cache import ContentCache
    from offshelf.worker.health import Health
    from offshelf.worker.intake import Intake
    from offshelf.worker.metrics import WorkerMetrics
    from offshelf.worker.post import Post
    from offshelf.worker.process import Identity, Timing, WorkerProcess
    from offshelf.worker.selftesting import SelfTesting

    on_cpu = settings.model_copy(update={"device": "cpu"})
    state = connection.connect(redis_url, connection.STATE)
    jobs, metrics, health = RedisJobs(state, settings.job_ttl_s), WorkerMetrics(), Health()
    catalogue = Catalogue(settings.weights_dir)
    engine = TorchEngine(settings, catalogue)
    extractor = Extractor(
        engine,
        settings,
        whitenings=partial(load_whitening, ObjectStore.open(settings.resolved_store_url)),
        observer=metrics,
        on_broken=health.broken,
    )
    broker = _broker(settings, redis_url)
    worker_id, directory = uuid.uuid4().hex, RedisDirectory(state)
    post = Post(
        worker_id,
        settings.default_backbone,
        extractor.residency,
        lambda: _catalogue(catalogue, settings, extractor.residency.loaded().values()),
        directory.stations,
        fetches=not settings.offline,
    )
    cache = ContentCache(_open_cache(settings, redis_url), metrics)
    _declare_steps(settings, broker, jobs, extractor, metrics, post, cache)
    inbox = RedisInbox(connection.connect(redis_url, connection.STATE))
    return WorkerProcess(
        identity=Identity(
            id=worker_id,
            engine=engine.name,
            device=engine.device,
            default_backbone=settings.default_backbone,
            started_s=time.time(),
        ),
        health=health,
        extractor=extractor,
        intake=Intake(
            inbox,
            extractor,
            metrics,
            settings.max_inflight_images,
            health,
            post,
            max_answer_bytes=settings.max_answer_bytes,
            cache=cache,
        ),
        broker=broker,
        jobs=jobs,
        directory=directory,
        post=post,
        selftesting=SelfTesting(
            worker_id,
            RedisSelfTests(connection.connect(redis_url, connection.STATE)),
            SelfTest(extractor, engine.device, lambda: TorchEngine(on_cpu, catalogue)),
        ),
        metrics=metrics,
        preload=[FeatureParams(backbone=name) for name in settings.preload_names],
        timing=Timing(settings.worker_beat_s, settings.drain_s),
    )


def _declare_steps(
    settings: Settings,
    broker: JobBroker,
    jobs: RedisJobs,
    extractor: Extractor,
    metrics: WorkerMetrics,
    post: Post,
    cache: ContentCache,
) -> None:
    """Let the broker run the steps of jobs, each within its bound of tries."""
    from offshelf.worker.handing_on import HandingOn
    from offshelf.worker.steps import JobSteps
    from offshelf.worker.training import Trainer

    queue = DramatiqJobQueue(broker)
    steps = JobSteps(
        jobs=jobs,
        store=ObjectStore.open(settings.resolved_store_url),
        extractor=extractor,
        queue=queue,
        trainer=Trainer(settings.train_timeout_s, settings.data_dir / "scratch"),
        metrics=metrics,
        shard_images=settings.shard_images,
        sources=Sources(settings.dataset_roots),
        limits=limits_of(settings),
        cache=cache,
        settings=settings,
    )
    handler = HandingOn(steps, jobs, queue, post)
    broker.add_middleware(Attempts(jobs, handler, settings.max_attempts))
    declare_actors(broker, handler)


@dataclass(frozen=True, slots=True)
class LocalWork:
    """What does jobs in this process: the worker's steps over a queue in memory and a store."""

    store: ObjectStore
    jobs: InProcessJobs
    queue: InProcessQueue
    steps: JobSteps


@contextmanager
def local_work(settings: Settings, sources: Sources) -> Iterator[LocalWork]:
    """The worker's steps in this process, without Redis and without HTTP, while the block runs.

    Registered images are read where `sources` allows.
    """
    from offshelf.backbones.catalogue import Catalogue
    from offshelf.engine.extractor import Extractor
    from offshelf.engine.torch_engine import TorchEngine
    from offshelf.heads.whitening import load as load_whitening
    from offshelf.worker.metrics import WorkerMetrics
    from offshelf.worker.steps import JobSteps
    from offshelf.worker.training import Trainer

    store, jobs, queue = (
        ObjectStore.open(settings.resolved_store_url),
        InProcessJobs(),
        InProcessQueue(),
    )
    metrics = WorkerMetrics()
    extractor = Extractor(
        TorchEngine(settings, Catalogue(settings.weights_dir)),
        settings,
        whitenings=partial(load_whitening, store),
        observer=metrics,
    )
    steps = JobSteps(
        jobs=jobs,
        store=store,
        extractor=extractor,
        queue=queue,
        trainer=Trainer(settings.train_timeout_s, settings.data_dir / "scratch"),
        metrics=metrics,
        shard_images=settings.shard_images,
        sources=sources,
    )
    try:
        yield LocalWork(store, jobs, queue, steps)
    finally:
        extractor.close(LOCAL_CLOSE_S)


def worker_health(settings: Settings) -> None:
    """Raise NoWorker unless a live worker of this host says that it is ready."""
    with _redis_url(settings) as url:
        directory = RedisDirectory(connection.connect(url, connection.STATE))
        here = [body for body in directory.workers() if body.host == socket.gethostname()]
    if not any(body.ready for body in here):
        raise NoWorker("; ".join(body.detail for body in here) or "no live worker on this host")


def _catalogue(
    catalogue: Catalogue, settings: Settings, residents: Iterable[Resident]
) -> list[BackboneBody]:
    """The backbones as the worker publishes them: all that can be listed, and what is loaded."""
    from offshelf.backbones.weights import locate
    from offshelf.worker.catalogue import describe

    cards = catalogue.cards()
    listed = {card.name for card in cards}
    loaded = {r.card.name: r.card for r in residents if r.card.name not in listed}
    return describe(
        [*cards, *loaded.values()],
        lambda card: locate(card, settings),
        settings.default_backbone,
    )


def _open_cache(settings: Settings, redis_url: str) -> Values | None:
    return open_cache(settings, lambda: connection.connect(redis_url, connection.BROKER))


def _broker(settings: Settings, redis_url: str) -> JobBroker:
    return JobBroker(
        connection.connect(redis_url, connection.BROKER),
        heartbeat_timeout_s=settings.heartbeat_timeout_s,
        maintenance_chance=settings.maintenance_chance,
    )


@contextmanager
def _redis_url(settings: Settings) -> Iterator[str]:
    """The Redis URL of the settings, or the embedded server for as long as it is needed."""
    if settings.redis_url:
        yield settings.redis_url
        return
    embedded = _embedded(settings)
    try:
        yield embedded.start()
    finally:
        embedded.stop()


def _embedded(settings: Settings) -> EmbeddedValkey:
    return EmbeddedValkey(settings.data_dir / "valkey")


def _keeper(embedded: EmbeddedValkey | None) -> Callable[[], None]:
    """What keeps the embedded server alive; one that does not come back now is tried again."""

    def keep() -> None:
        if embedded is None:
            return
        try:
            if embedded.ensure():
                log.warning("the embedded server had died; it runs again")
        except DependencyError as error:
            log.error("the embedded server: %s", error)  # noqa: TRY400 - expected, and tried again

    return keep


def _bound_spinning() -> None:
    """Let OpenMP's threads spin only briefly at a barrier, then sleep; before torch is imported.

    By default they spin for milliseconds, against the threads that decode, train and serve on
    the same cores. Measured on two cores (SqueezeNet 1.0, median ms a forward pass of 1 and of 8
    images): idle machine 9.7 and 64 by default, 10.2 and 68 so; with one core busy 26 (p90 176)
    and 286 by default, 32 (p90 32) and 156 so.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def _command(part: str) -> list[str]:
    return [sys.executable, "-m", "offshelf.cli", part]


def _check_port(settings: Settings) -> None:
    """Fail early and clearly where the port is taken."""
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise DependencyError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
                "choose another with --port or OFFSHELF_PORT"
            ) from error


def _follow_parent(settings: Settings) -> None:
    if settings.parent_pid is not None:
        end_with_parent(settings.parent_pid)


def _configure_log(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    # Each of these says a line a request or a message at INFO.
    for name in ("httpx", "dramatiq.broker"):
        logging.getLogger(name).setLevel(logging.WARNING)
