from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from offshelf.cache.entries import key_of, pack, unpack

KEY = key_of("a" * 64, None, "f" * 64)


@given(npst.arrays(np.float32, npst.array_shapes(min_dims=1, max_dims=4, max_side=5)))
def test_a_feature_comes_back_bit_by_bit(feature: np.ndarray) -> None:
    back = unpack(KEY, pack(KEY, feature))
    assert back is not None
    assert back.shape == feature.shape
    assert back.dtype == np.float32
    assert back.tobytes() == feature.tobytes()
    assert back.flags.writeable


@given(st.data())
def test_a_value_that_was_touched_anywhere_is_none(data: st.DataObject) -> None:
    value = pack(KEY, np.arange(6, dtype=np.float32).reshape(2, 3))
    place = data.draw(st.integers(0, len(value) - 1))
    bit = data.draw(st.integers(0, 7))
    touched = bytearray(value)
    touched[place] ^= 1 << bit
    assert unpack(KEY, bytes(touched)) is None
    assert unpack(KEY, value[:place]) is None
    assert unpack(KEY, value + b"\0") is None


def test_a_value_under_another_key_is_none() -> None:
    value = pack(KEY, np.zeros(3, np.float32))
    assert unpack(key_of("a" * 64, None, "e" * 64), value) is None


@pytest.mark.parametrize(
    "other",
    [
        ("b" * 64, None, "f" * 64),
        ("a" * 64, (0.0, 0.0, 9.0, 9.0), "f" * 64),
        ("a" * 64, None, "e" * 64),
    ],
)
def test_image_box_and_fingerprint_are_all_in_the_key(other: tuple) -> None:
    assert key_of(*other) != KEY


def test_boxes_that_differ_in_the_last_bit_are_others() -> None:
    box = (0.1, 0.2, 0.3, 0.4)
    near = (np.nextafter(0.1, 1), 0.2, 0.3, 0.4)
    assert key_of("a", box, "f") != key_of("a", near, "f")
    assert key_of("a", (1, 2, 3, 4), "f") == key_of("a", (1.0, 2.0, 3.0, 4.0), "f")
