from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from offshelf.core.intervals import wilson


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_s_interval_is_scipy_s(images: int, share: float) -> None:
    hits = round(share * images)
    expected = binomtest(hits, images).proportion_ci(0.95, method="wilson")
    assert wilson(hits, images) == pytest.approx((expected.low, expected.high), abs=1e-12)
