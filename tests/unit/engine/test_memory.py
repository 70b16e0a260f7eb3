from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Four buffers of 80 MB, one after another, on a thread; prints the page faults of the last three.
SCRIPT = """
import resource, threading
import numpy as np
from offshelf.engine.memory import keep_freed_memory
assert {call}

def work():
    for turn in range(4):
        np.ones(10_000_000)
        if turn == 0:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_large_buffers_are_used_again_instead_of_fetched_anew() -> None:
    def faults(call: str) -> int:
        script = SCRIPT.format(call=call)
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
        )
        return int(done.stdout)

    assert faults("keep_freed_memory()") * 10 < faults("keep_freed_memory")
