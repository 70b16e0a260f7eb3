from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from offshelf.errors import ErrorInfo
from offshelf.queue.messages import ImageReply, ImageRequest, TapRow

TEXT = st.text(max_size=20)
JSON = st.dictionaries(TEXT, st.one_of(st.integers(-(2**40), 2**40), TEXT, st.none()), max_size=3)
SECONDS = st.floats(0, 2**33)
ARRAYS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
    elements=st.floats(width=32, allow_nan=False),
)
ROWS = st.builds(TapRow, JSON, TEXT, ARRAYS)
ERRORS = st.builds(ErrorInfo, TEXT, TEXT, st.integers(400, 599), st.booleans())


@given(
    st.builds(
        ImageRequest,
        TEXT,
        st.integers(0, 2000),
        TEXT,
        SECONDS,
        JSON,
        st.binary(),
        SECONDS,
        st.integers(1, 9),
    )
)
def test_a_request_comes_out_as_it_went_in(request: ImageRequest) -> None:
    assert ImageRequest.unpack(request.pack()) == request


@given(
    st.builds(
        ImageReply,
        TEXT,
        st.integers(0, 2000),
        TEXT,
        JSON,
        st.dictionaries(TEXT, ROWS, max_size=3),
        st.none() | ERRORS,
    )
)
def test_a_reply_comes_out_as_it_went_in(reply: ImageReply) -> None:
    back = ImageReply.unpack(reply.pack())
    assert (back.request_id, back.index, back.error) == (reply.request_id, reply.index, reply.error)
    assert back.weights == reply.weights
    assert back.rows.keys() == reply.rows.keys()
    for tap, row in reply.rows.items():
        assert back.rows[tap].values.dtype == np.dtype("<f4")
        np.testing.assert_array_equal(back.rows[tap].values, row.values)
        assert (back.rows[tap].spec, back.rows[tap].fingerprint) == (row.spec, row.fingerprint)


def test_a_column_of_a_matrix_is_packed_by_its_values_and_not_its_memory() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)[:, 1]
    reply = ImageReply("r", 0, rows={"fc7": TapRow({}, "f", values)})
    assert ImageReply.unpack(reply.pack()).rows["fc7"].values.tolist() == [1.0, 4.0]
