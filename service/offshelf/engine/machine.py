"""What this machine lets a process have."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Final

# Of control groups, version 2 and 1: the limit of the container that we are in.
CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

# How much less of a busy core a thread gets that gives way: a tenth of an equal's share.
NICER: Final = 10
NICEST: Final = 19


def give_way() -> None:
    """Let the other threads of this process go first on busy cores; for the thread that calls.

    Only Linux has a niceness for each thread; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        nice = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(NICEST, nice + NICER))


def host_memory(limits: tuple[Path, ...] = CGROUP_LIMITS) -> int:
    """The bytes of memory that this process may have: the machine's, or its container's if less."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in limits:
        try:
            text = file.read_text().strip()
        except OSError:
            continue  # another version of control groups, or none
        if text.isdecimal():
            most = min(most, int(text))
    return most
