from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from offshelf.engine.machine import NICER, NICEST, give_way


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
def test_a_thread_that_gives_way_does_so_alone() -> None:
    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = nice()
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        assert pool.submit(nice).result(10) == min(NICEST, before + NICER)
    assert nice() == before
