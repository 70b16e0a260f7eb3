"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, and none of them fails by the clock: machines are shared.
settings.register_profile(
    "offshelf", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("offshelf")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is `large` unless the -m of the command line speaks of it."""
    if "large" in config.option.markexpr:
        return
    large = [item for item in items if item.get_closest_marker("large")]
    config.hook.pytest_deselected(items=large)
    items[:] = [item for item in items if item not in set(large)]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real weights and images for tests, outside the repository; skips where they are absent."""
    root = Path(os.environ.get("OFFSHELF_TEST_DATA") or Path(__file__).parents[2] / "shared")
    if not (root / "weights").is_dir() or not (root / "data").is_dir():
        pytest.skip(f"no test data at {root}; set OFFSHELF_TEST_DATA to a folder that has it")
    return root.resolve()
