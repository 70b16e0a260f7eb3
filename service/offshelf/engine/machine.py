"""What this machine lets a process have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Of control groups, version 2 and 1: the limit of the container that we are in.
CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


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
