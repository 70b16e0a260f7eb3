"""Runs the self-tests that this worker is asked for, one at a time."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING, Final, Protocol

from offshelf.errors import DependencyError, ErrorInfo, OffshelfError, WorkerError
from offshelf.schemas.base import ErrorBody
from offshelf.schemas.health import SelfTestReport

if TYPE_CHECKING:
    from offshelf.queue.selftests import Ask, RedisSelfTests

log = logging.getLogger(__name__)

RECONNECT_S: Final = 1.0
# For one batch of a self-test.
BATCH_TIMEOUT_S: Final = 60.0


class Tester(Protocol):
    """`engine.selftest.SelfTest` is the real one."""

    def run(self, backbone: str | None, weights: str | None, timeout_s: float) -> SelfTestReport:
        """Load a backbone and try it."""
        ...


class SelfTesting:
    """A thread that takes asks until it is stopped; what fails is a report that says so."""

    def __init__(self, worker_id: str, selftests: RedisSelfTests, tester: Tester) -> None:
        self._worker_id = worker_id
        self._selftests = selftests
        self._tester = tester
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="selftest", daemon=True)

    def start(self) -> None:
        """Begin to take asks."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Take no more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                ask = self._selftests.take(self._worker_id)
                if ask is not None:
                    self._selftests.answer(ask, self._report(ask))
            except DependencyError as error:
                log.warning("self-tests wait for Redis: %s", error)
                self._stopping.wait(RECONNECT_S)

    def _report(self, ask: Ask) -> SelfTestReport:
        try:
            report = self._tester.run(ask.backbone, ask.weights, BATCH_TIMEOUT_S)
        except Exception as error:
            mistaken = isinstance(error, OffshelfError) and not isinstance(error, WorkerError)
            log.warning(
                "the self-test of %s could not be run: %s",
                ask.backbone or "the default backbone",
                error,
                exc_info=None if mistaken else error,
            )
            told = ErrorBody.of(ErrorInfo.of(error))
            report = SelfTestReport(backbone=ask.backbone or "", passed=False, error=told)
        return report.model_copy(update={"worker": self._worker_id, "host": socket.gethostname()})
