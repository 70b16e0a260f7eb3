"""From image bytes to named features: the worker's one way in, for requests and for jobs."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, Self

from offshelf.core.batching import Lane, Policy
from offshelf.core.normalisation import Chain
from offshelf.core.spec import MERGES, FeatureSpec, check_choice
from offshelf.core.view import View
from offshelf.engine.batcher import Batcher, Item, Rows
from offshelf.engine.canary import canary_outputs, canary_pixels, check_canary
from offshelf.engine.decode import Limits, decode
from offshelf.engine.interface import Features, Output, Pixels, Resident
from offshelf.engine.machine import give_way
from offshelf.engine.observer import Observer, Unobserved
from offshelf.engine.place import Place, check_whitenings
from offshelf.engine.regions import cut
from offshelf.engine.residency import Hold, Residency
from offshelf.engine.views import view
from offshelf.engine.windowing import boxes_of, gathered, items_of
from offshelf.errors import (
    DeadlineExceeded,
    InvalidParameter,
    OffshelfError,
    UnknownName,
    WorkerError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from offshelf.core.boxes import Box
    from offshelf.engine.company import Arrive, Company
    from offshelf.engine.interface import Engine
    from offshelf.engine.whitening import Whitening
    from offshelf.engine.windowing import Boxed, Windows
    from offshelf.schemas.features import FeatureParams
    from offshelf.settings import Settings

log = logging.getLogger(__name__)

VALUE_BYTES: Final = 4  # float32
WHITENINGS_KEPT: Final = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request comes to, its names checked: by requested tap, a spec and an output.

    It holds the backbone on the device until it is closed; so does every image until it ends.
    """

    hold: Hold
    specs: dict[str, FeatureSpec]
    outputs: dict[str, Output]
    view: View
    bytes_per_image: int
    """What the features of one image come to, all taps together."""

    @property
    def resident(self) -> Resident:
        """The backbone."""
        return self.hold.resident

    def deliver(self, rows: Rows) -> dict[str, Features]:
        """Features by requested tap, of those by output."""
        return {tap: rows[output] for tap, output in self.outputs.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.release()


class Extractor:
    """Decodes in a pool, batches, runs, and hands out features by the requested taps' names.

    `whitenings` finds a PCA-whitening by its digest. `clock` measures durations, `now` is Unix
    time for deadlines. `on_broken` is called once if the device breaks; all that waits has failed
    by then and all that comes fails.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        whitenings: Callable[[str], Whitening] | None = None,
        observer: Observer | None = None,
        on_broken: Callable[[BaseException], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._default = settings.default_backbone
        self._limits = Limits(settings.max_image_bytes, settings.max_image_pixels)
        self._whitening = lru_cache(WHITENINGS_KEPT)(whitenings or _no_whitenings)
        self._observer = observer or Unobserved()
        self._clock = clock
        self._now = now
        self.budget = settings.max_device_bytes or engine.memory
        self.residency = Residency(
            engine, self.budget, self._observer, clock, max_resident=settings.max_resident
        )
        policy = Policy(
            max_inputs=settings.max_batch,
            linger_s=settings.linger_ms / 1000,
            bulk_bound_s=settings.bulk_batch_ms / 1000,
        )
        self._batcher = Batcher(
            policy, observer=self._observer, on_broken=on_broken, clock=clock, now=now
        )
        # A pool for each lane: a request does not queue behind a thousand images of a job.
        begin = {Lane.INTERACTIVE: None, Lane.BULK: give_way}
        self._pools = {
            lane: ThreadPoolExecutor(
                settings.decode_threads, f"decode-{lane.name.lower()}", begin[lane]
            )
            for lane in Lane
        }

    def resolve(self, params: FeatureParams) -> Plan:
        """Check the names and load the backbone; blocks while it loads. To be used in a `with`.

        Raises UnknownName, InvalidParameter, WeightsMissing, TooLarge, or FingerprintMismatch for
        a whitening of other features.
        """
        return self._plan(self.hold(params.backbone, params.weights), params)

    def _plan(self, hold: Hold, params: FeatureParams) -> Plan:
        """The plan over a backbone that is held; where it fails nothing is held."""
        try:
            return self._planned(hold, params)
        except BaseException:
            hold.release()
            raise

    def _planned(self, hold: Hold, params: FeatureParams) -> Plan:
        resident, view = hold.resident, View.parse(params.view)
        check_choice("merge", params.merge, MERGES)
        view.check(resident.card.preprocessing)
        places = {tap: Place.of(resident, tap, view) for tap in params.taps}
        outputs = {tap: self._output(place, params) for tap, place in places.items()}
        specs = {tap: _spec(resident, output, view) for tap, output in outputs.items()}
        for tap, output in outputs.items():
            check_whitenings(output, specs[tap])
        values = sum(places[tap].values(output, view.inputs) for tap, output in outputs.items())
        return Plan(hold, specs, outputs, view, VALUE_BYTES * values)

    def _output(self, place: Place, params: FeatureParams) -> Output:
        """What to hand out at a place, with the whitenings that its normalisation names."""
        chain = Chain.parse(params.normalize)
        whitenings = tuple(self._whitening(digest) for digest, _ in chain.before_whitening())
        pooling = place.pooling(params.pool)
        return Output(place.tap, pooling, str(chain), params.merge, whitenings)

    def resolve_loaded(self, params: FeatureParams) -> Plan | None:
        """`resolve` if the backbone is on the device now; never waits."""
        hold = self.residency.hold_loaded(params.backbone or self._default, params.weights)
        return self._plan(hold, params) if hold else None

    def submit(
        self,
        image: bytes | Callable[[], bytes],
        plan: Plan,
        lane: Lane,
        deadline_s: float | None = None,
        box: Box | None = None,
        company: Company | None = None,
    ) -> Future[dict[str, Features]]:
        """Start on an image; the future gives, by requested tap, the feature in the tap's shape.

        An image that is a function is read by the thread that decodes it; what that raises, the
        future raises. With a `box` that part of the upright image is the image. `deadline_s` is
        Unix time. A future that is cancelled before its image runs is dropped. Images of a
        `company` run in one batch, in the order in which they came here, and nobody else with them.
        It fails with an OffshelfError: InvalidImage, TooLarge, DeadlineExceeded, WorkerError.
        Callbacks of the future may run on the device's thread: they hand over and return.
        """
        future: Future[dict[str, Features]] = Future()
        arrive = company.expect() if company else _alone
        prepare = partial(self._prepare, image, plan, lane, deadline_s, box, future, arrive)
        self._start(prepare, future, plan, lane, arrive)
        return future

    def _start(
        self,
        prepare: Callable[[], None],
        future: Future[Any],
        plan: Plan,
        lane: Lane,
        arrive: Arrive,
    ) -> None:
        """Let a thread of the lane prepare what the future waits for, the backbone being held."""
        hold = plan.hold.share()
        future.add_done_callback(lambda _: hold.release())
        self._batcher.expect(lane)
        try:
            task = self._pools[lane].submit(prepare)
        except RuntimeError:
            self._drop(future, lane, arrive)
        else:
            task.add_done_callback(
                lambda t: self._drop(future, lane, arrive) if t.cancelled() else None
            )

    def submit_windows(
        self,
        image: bytes,
        plan: Plan,
        lane: Lane,
        windows: Windows,
        deadline_s: float | None = None,
    ) -> Future[Boxed]:
        """Start on the windows of an image, which is decoded once; as `submit` otherwise.

        Under a view of maps all are pooled from one pass over the whole image, else each is cut out
        and seen by the view as if it were an image.
        """
        whole: Future[Boxed] = Future()

        def prepare() -> None:
            try:
                self._windows(image, plan, lane, windows, deadline_s, whole)
            except OffshelfError as error:
                _end(whole, error)
            except Exception as error:
                log.exception("the windows of an image could not be prepared")
                _end(whole, WorkerError(f"{type(error).__name__}: {error}"))
            finally:
                self._batcher.unexpect(lane)

        self._start(prepare, whole, plan, lane, _alone)
        return whole

    def _windows(
        self,
        image: bytes,
        plan: Plan,
        lane: Lane,
        windows: Windows,
        deadline_s: float | None,
        whole: Future[Boxed],
    ) -> None:
        """On a thread of the pool: decode, cut piece by piece, and queue each at once."""
        if not self._wanted(whole, deadline_s):
            return
        pixels = decode(image, self._limits)
        boxes = boxes_of(pixels, windows)
        items = []
        for item in items_of(pixels, boxes, plan, lane, deadline_s):
            if whole.done():
                break
            items.append(item)
            self._batcher.submit(item)
        gathered(pixels, boxes, items, whole)

    def hold(self, backbone: str | None, weights: str | None) -> Hold:
        """The backbone on the device, loaded first if need be; blocks."""
        return self.residency.hold(backbone or self._default, weights)

    def probe(
        self, resident: Resident, inputs: Pixels, output: Output, timeout_s: float
    ) -> Features:
        """What inputs (k, H, W, 3) of no image give; they run in one batch."""
        item = Item((inputs,), resident, (output,), Lane.INTERACTIVE)
        try:
            features: Features = self._batcher.submit(item).result(timeout_s)[output]
        except TimeoutError as error:
            raise WorkerError(f"no answer from the device within {timeout_s:g} s") from error
        return features

    def canaries(self, timeout_s: float) -> None:
        """Run a known image through all that is loaded; WorkerError unless all is well."""
        with ExitStack() as held:
            holds = [held.enter_context(hold) for hold in self.residency.hold_all()]
            for hold in holds:
                self._canary(hold.resident, timeout_s)

    def _canary(self, resident: Resident, timeout_s: float) -> None:
        """Run the known image twice with everybody else's."""
        inputs, (output,) = canary_pixels(resident.card), canary_outputs(resident.card)
        first, second = (self.probe(resident, inputs, output, timeout_s) for _ in range(2))
        check_canary(resident.card, first, second)

    def close(self, timeout_s: float) -> None:
        """Finish what was submitted, then stop; what is not done after `timeout_s` fails."""
        give_up_s = self._clock() + timeout_s
        for pool in self._pools.values():
            pool.shutdown(wait=False)
        if not self._batcher.await_expected(timeout_s):
            log.error("not all images were decoded within %.0f s", timeout_s)
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self._batcher.close(max(0.0, give_up_s - self._clock()))

    def _drop(self, future: Future[Any], lane: Lane, arrive: Arrive) -> None:
        """End an image that will not be decoded any more."""
        self._batcher.submit_all(arrive(None))
        self._batcher.unexpect(lane)
        _fail(future, WorkerError("the worker is stopping"))

    def _prepare(
        self,
        image: bytes | Callable[[], bytes],
        plan: Plan,
        lane: Lane,
        deadline_s: float | None,
        box: Box | None,
        future: Future[dict[str, Features]],
        arrive: Arrive,
    ) -> None:
        """On a thread of the pool: decode, cut, and queue for the device."""
        item: Item | None = None
        try:
            if self._wanted(future, deadline_s):
                item = self._item(image, plan, lane, deadline_s, box, future)
        except OffshelfError as error:
            _fail(future, error)
        except Exception as error:
            log.exception("an image could not be prepared")
            _fail(future, WorkerError(f"{type(error).__name__}: {error}"))
        finally:
            self._batcher.submit_all(arrive(item))
            self._batcher.unexpect(lane)

    def _wanted(self, future: Future[Any], deadline_s: float | None) -> bool:
        if deadline_s is not None and deadline_s <= self._now():
            raise DeadlineExceeded("the deadline passed before the image was decoded")
        if future.cancelled():
            future.set_running_or_notify_cancel()
            return False
        return True

    def _item(
        self,
        image: bytes | Callable[[], bytes],
        plan: Plan,
        lane: Lane,
        deadline_s: float | None,
        box: Box | None,
        future: Future[Any],
    ) -> Item:
        data = image() if callable(image) else image
        began_s = self._clock()
        try:
            if plan.view.is_regional:
                raise InvalidParameter(f"view {plan.view} is of boxes: give boxes or windows")
            pixels = cut(decode(data, self._limits), box)
            inputs = view(pixels, plan.view, plan.resident.card.preprocessing)
        finally:
            self._observer.decoded(self._clock() - began_s)
        outputs = tuple(sorted(set(plan.outputs.values()), key=str))
        return Item(inputs, plan.resident, outputs, lane, deadline_s, plan.deliver, future)


def _alone(item: Item | None) -> Sequence[Item]:
    """What can be queued once an image in nobody's company is prepared, or failed: it alone."""
    return [] if item is None else [item]


def _fail(future: Future[Any], error: OffshelfError) -> None:
    """End a future that has not run, unless it was cancelled."""
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


def _end(future: Future[Any], error: OffshelfError) -> None:
    """End a future that never runs itself, unless it has ended."""
    with suppress(InvalidStateError):
        future.set_exception(error)


def _no_whitenings(digest: str) -> Whitening:
    raise UnknownName(f"no transform {digest!r}: there are none here")


def _spec(resident: Resident, output: Output, view: View) -> FeatureSpec:
    return FeatureSpec(
        backbone=resident.card.name,
        weights_digest=resident.weights.digest,
        tap=output.tap,
        view=str(view),
        preprocessing=resident.card.preprocessing,
        pooling=output.pooling,
        normalisation=output.normalisation,
        merge=output.merge,
        architecture=resident.card.architecture,
    )
