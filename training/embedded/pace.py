"""Leave a core to others while they need it: two spinning threads on one core crawl."""

from __future__ import annotations

import time

import torch

BUSY = 1.3  # cores' worth of processor time; two free cores give 1.6 and more, one gives 1.0
PATIENCE = 2  # slow steps in a row before a core is given up
RETRY = 60  # steps on one thread before two are tried again


class Pace:
    """Switches between all threads and one, by what the last steps got of the processor.

    oneDNN's barriers spin without yielding, so when another process takes one of two cores a step
    on two threads takes some fifteen times as long, and a step on one thread twice.
    """

    def __init__(self, threads: int) -> None:
        self._all, self._slow, self._left = threads, 0, 0
        self._wall, self._used = time.perf_counter(), time.process_time()

    def step(self) -> None:
        """Call once after each step."""
        wall, used = time.perf_counter(), time.process_time()
        got = (used - self._used) / (wall - self._wall)
        self._wall, self._used = wall, used
        if self._left:
            self._alone()
        elif self._all > 1:
            self._together(got)

    def _alone(self) -> None:
        self._left -= 1
        if not self._left:
            torch.set_num_threads(self._all)

    def _together(self, got: float) -> None:
        self._slow = self._slow + 1 if got < BUSY else 0
        if self._slow == PATIENCE:
            self._slow, self._left = 0, RETRY
            torch.set_num_threads(1)
