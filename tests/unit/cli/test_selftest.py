"""What `offshelf selftest` prints of a report, with all that a worker may leave empty."""

from __future__ import annotations

import pytest

from offshelf.commands.selftest import _shown
from offshelf_client import SelfTestReport


@pytest.mark.parametrize(
    ("weights", "device", "first"),
    [
        ("", "", "nosuch (0123abcd)"),
        ("random:0", "", "nosuch random:0 (0123abcd)"),
        ("", "cpu", "nosuch on cpu (0123abcd)"),
        ("random:0", "cpu", "nosuch random:0 on cpu (0123abcd)"),
    ],
)
def test_what_is_not_known_leaves_no_gap(weights: str, device: str, first: str) -> None:
    report = SelfTestReport(
        worker="0123abcdef", host="h", backbone="nosuch", weights=weights, device=device,
        passed=True,
    )  # fmt: skip
    assert _shown(report).splitlines()[0] == f"{first}: passed"
