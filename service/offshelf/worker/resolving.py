"""Resolves what requests ask for once a group, and where nobody else waits for a load."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeAlias

from pydantic import ValidationError

from offshelf.errors import InvalidParameter
from offshelf.schemas import FeatureParams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from offshelf.engine.extractor import Plan
    from offshelf.queue.messages import ImageRequest
    from offshelf.worker.interface import Extractor

    Resolve: TypeAlias = Callable[[FeatureParams], Plan | None]

# Backbones that may load at the same time; all requests for the same one share a thread.
LOADERS: Final = 8


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

    def close(self) -> None:
        """Begin nothing more."""
        for pool in (self._quick, self._loaders):
            pool.shutdown(wait=False, cancel_futures=True)

    def _resolve_all(self, load: str, resolve: Resolve) -> None:
        """Everything that waits for a backbone; whoever comes after that is a new group.

        Where it is not loaded the same goes on on a thread that may wait for it.
        """
        while (taken := self._next_group(load)) is not None:
            if not self._resolve(*taken, resolve):
                with self._lock:
                    self._waiting[load].setdefault(taken[0], [])[:0] = taken[1]
                self._loaders.submit(self._resolve_all, load, self._extractor.resolve)
                return

    def _next_group(self, load: str) -> tuple[str, Sequence[ImageRequest]] | None:
        """One set of parameters with all who ask for it; None when nobody is left."""
        with self._lock:
            groups = self._waiting[load]
            if not groups:
                del self._waiting[load]
                return None
            params = next(iter(groups))
            return params, groups.pop(params)

    def _resolve(self, params: str, requests: Sequence[ImageRequest], resolve: Resolve) -> bool:
        """Plan for these requests, and hand them on; False where that would mean to wait."""
        try:
            plan = resolve(FeatureParams.model_validate_json(params))
            if plan is None:
                return False
            with plan:
                self._planned(requests, plan)
        except ValidationError as error:
            self._refused(requests, InvalidParameter(f"feature parameters: {error}"))
        except Exception as error:  # noqa: BLE001 - every request taken is answered
            self._refused(requests, error)
        return True
