"""Resolves what requests ask for once a group, and where nobody else waits for a load."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pydantic import ValidationError

from offshelf.errors import DeadlineExceeded, InvalidParameter
from offshelf.schemas.features import FeatureParams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from offshelf.engine.extractor import Plan
    from offshelf.queue.messages import ImageRequest
    from offshelf.worker.interface import Extractor

    Resolve: TypeAlias = Callable[[FeatureParams], Plan | None]

# Backbones that may load at the same time; all requests for the same one share a thread.
LOADERS: Final = 32


class Resolving:
    """Hands each group of equal requests to `planned` with its plan, or to `refused`.

    Groups are by the backbone, then by all else that is asked for. What is on the device is
    resolved at once on a thread that never waits; the rest on others, one a backbone. The plan is
    closed when `planned` returns.
    """

    def __init__(
        self,
        extractor: Extractor,
        planned: Callable[[Sequence[ImageRequest], Plan], None],
        refused: Callable[[Sequence[ImageRequest], Exception], None],
    ) -> None:
        self._extractor = extractor
        self._planned = planned
        self._refused = refused
        self._lock = threading.Lock()
        # Backbone and weights, as asked for -> feature parameters as JSON -> requests.
        self._waiting: dict[str, dict[str, list[ImageRequest]]] = {}
        self._quick = ThreadPoolExecutor(1, thread_name_prefix="resolve")
        self._loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="load")

    def add(self, request: ImageRequest) -> None:
        """Take a request; returns at once."""
        load = json.dumps([request.params.get(name) for name in ("backbone", "weights")])
        with self._lock:
            new = load not in self._waiting
            groups = self._waiting.setdefault(load, {})
            groups.setdefault(json.dumps(request.params, sort_keys=True), []).append(request)
        if new:
            self._quick.submit(self._resolve_all, load, self._extractor.resolve_loaded)

    def crowded(self, limit: int) -> list[tuple[Any, Any]]:
        """The backbones, with their weights, for which so many requests or more wait."""
        with self._lock:
            counts = {load: sum(map(len, g.values())) for load, g in self._waiting.items()}
        return [tuple(json.loads(load)) for load, count in counts.items() if count >= limit]

    def drop_expired(self, now_s: float) -> None:
        """Refuse those that nobody waits for any more: a load may take longer than they may."""
        expired: list[ImageRequest] = []
        with self._lock:
            for groups in self._waiting.values():
                for params in list(groups):
                    expired += [one for one in groups[params] if one.deadline_s <= now_s]
                    groups[params] = [one for one in groups[params] if one.deadline_s > now_s]
                    if not groups[params]:
                        del groups[params]
        if expired:
            late = DeadlineExceeded("the deadline passed while the backbone was being loaded")
            self._refused(expired, late)

    def close(self) -> None:
        """Begin nothing more."""
        for pool in (self._quick, self._loaders):
            pool.shutdown(wait=False, cancel_futures=True)

    def _resolve_all(self, load: str, resolve: Resolve) -> None:
        """Everything that waits for a backbone; whoever comes after that is a new group.

        Where it is not loaded the same goes on on a thread that may wait for it.
        """
        while (params := self._next_group(load)) is not None:
            if not self._resolve(load, params, resolve):
                self._loaders.submit(self._resolve_all, load, self._extractor.resolve)
                return

    def _next_group(self, load: str) -> str | None:
        """One set of parameters that somebody asks for; None when nobody is left."""
        with self._lock:
            groups = self._waiting[load]
            if not groups:
                del self._waiting[load]
                return None
            return next(iter(groups))

    def _take(self, load: str, params: str) -> Sequence[ImageRequest]:
        """All who ask for it now; whoever gave up meanwhile is not among them."""
        with self._lock:
            return self._waiting[load].pop(params, [])

    def _resolve(self, load: str, params: str, resolve: Resolve) -> bool:
        """Plan for a group, and hand it on; False where that would mean to wait.

        It is taken only when there is a plan: until then its members may give up.
        """
        try:
            plan = resolve(FeatureParams.model_validate_json(params))
            if plan is None:
                return False
            with plan:
                self._hand_on(self._take(load, params), plan)
        except ValidationError as error:
            wrong = InvalidParameter(f"feature parameters: {error}")
            self._refused(self._take(load, params), wrong)
        except Exception as error:  # noqa: BLE001 - every request taken is answered
            self._refused(self._take(load, params), error)
        return True

    def _hand_on(self, requests: Sequence[ImageRequest], plan: Plan) -> None:
        try:
            self._planned(requests, plan)
        except Exception as error:  # noqa: BLE001 - every request taken is answered
            self._refused(requests, error)
