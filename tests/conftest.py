"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real weights and images for tests, outside the repository; skips where they are absent."""
    root = Path(os.environ.get("OFFSHELF_TEST_DATA") or Path(__file__).parents[2] / "shared")
    if not (root / "weights").is_dir() or not (root / "data").is_dir():
        pytest.skip(f"no test data at {root}; set OFFSHELF_TEST_DATA to a folder that has it")
    return root.resolve()
