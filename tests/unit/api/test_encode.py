"""Answers in every media type hold the same numbers."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.ipc  # type: ignore[import-untyped]  # it has no type stubs
import pytest
from hypothesis import given
from hypothesis import settings as under
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from offshelf.api import encode
from offshelf.api.features import Extraction, TapRows
from offshelf.schemas.features import FeaturesAnswer, Item
from tests.unit.api.fakes import DIGEST, WEIGHTS, files, values_of

if TYPE_CHECKING:
    import httpx
    from numpy.typing import NDArray

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
ROWS = arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=FINITE)
GOOD_AND_BAD = files(b"a", b"bad", b"b")
EXPECTED = {
    tap: np.stack([values_of(b"a", tap), values_of(b"b", tap)]) for tap in ("conv5", "fc7:pre")
}


def extraction(rows: NDArray[np.float32]) -> Extraction:
    items = [Item(index=i, status="ok", row=i) for i in range(len(rows))]
    return Extraction("alexnet", WEIGHTS, {"fc7": TapRows({}, "f" * 64, rows)}, items)


def decoded(media_type: str, content: bytes) -> NDArray[np.float32]:
    if media_type == encode.NPY:
        return np.load(io.BytesIO(content), allow_pickle=False)  # type: ignore[no-any-return]  # one array
    if media_type == encode.NPZ:
        with np.load(io.BytesIO(content), allow_pickle=False) as npz:
            return npz["fc7"]  # type: ignore[no-any-return]  # one array
    if media_type == encode.ARROW:
        table = pyarrow.ipc.open_stream(content).read_all()
        shape = json.loads(table.schema.field("fc7").metadata[b"shape"])
        flat = table["fc7"].combine_chunks().flatten().to_numpy()
        return flat.reshape(len(table), *shape)  # type: ignore[no-any-return]  # one array
    return np.float32(FeaturesAnswer.model_validate_json(content).taps["fc7"].data)  # type: ignore[return-value]  # of lists


@pytest.mark.parametrize("media_type", [encode.JSON, encode.NPY, encode.NPZ, encode.ARROW])
@under(deadline=None)  # the machine is shared
@given(rows=ROWS)
def test_numbers_survive_every_media_type(media_type: str, rows: NDArray[np.float32]) -> None:
    content = encode.encode(extraction(rows), media_type, "float", "r").content
    found = decoded(media_type, content)
    assert found.shape == rows.shape
    assert np.array_equal(found, rows)


@under(deadline=None)  # the machine is shared
@given(rows=ROWS)
def test_base64_is_little_endian_float32(rows: NDArray[np.float32]) -> None:
    turned = rows.astype(">f4")  # numbers of a machine of the other kind
    content = encode.encode(extraction(turned), encode.JSON, "base64", "r").content
    answer = json.loads(content)["taps"]["fc7"]
    raw = base64.b64decode(answer["data"])
    assert np.array_equal(np.frombuffer(raw, "<f4").reshape(answer["shape"]), rows)


@under(deadline=None)  # the machine is shared
@given(st.sets(st.integers(0, 60)).map(sorted))
def test_kept_ranges_say_which_images_have_rows(kept: list[int]) -> None:
    found: list[int] = []
    for run in filter(None, encode.kept_ranges(kept).split(",")):
        first, _, last = run.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == kept


async def test_npz_has_all_taps_and_the_answer_as_meta(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/v1/features?taps=conv5,fc7:pre", files=GOOD_AND_BAD, headers={"accept": encode.NPZ}
    )
    assert answer.headers["content-type"] == encode.NPZ
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as npz:
        meta = FeaturesAnswer.model_validate_json(npz["meta"].tobytes())
        for tap, expected in EXPECTED.items():
            assert np.array_equal(npz[tap], expected)
            assert meta.taps[tap].shape == list(expected.shape)
    assert [item.row for item in meta.items] == [0, None, 1]
    assert meta.weights.digest == DIGEST


async def test_npy_has_one_tap_and_the_rest_in_headers(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/v1/features?taps=conv5", files=GOOD_AND_BAD, headers={"accept": encode.NPY}
    )
    assert np.array_equal(decoded(encode.NPY, answer.content), EXPECTED["conv5"])
    told = answer.headers
    assert told["offshelf-request-id"] == told["x-request-id"]
    assert told["offshelf-backbone"] == "alexnet"
    assert told["offshelf-weights-digest"] == DIGEST
    assert told["offshelf-weights-label"] == "IMAGENET1K_V1"
    assert told["offshelf-weights-random"] == "false"
    assert len(told["offshelf-fingerprint"]) == 64
    assert (told["offshelf-kept"], told["offshelf-errors"]) == ("0,2", "1")


async def test_arrow_has_a_column_a_tap_and_which_image_each_row_is(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.post(
        "/v1/features?taps=conv5,fc7:pre", files=GOOD_AND_BAD, headers={"accept": encode.ARROW}
    )
    table = pyarrow.ipc.open_stream(answer.content).read_all()
    assert table["index"].to_pylist() == [0, 2]
    meta = FeaturesAnswer.model_validate_json(table.schema.metadata[b"offshelf"])
    for tap, expected in EXPECTED.items():
        assert np.array_equal(np.array(table[tap].to_pylist()), expected.reshape(2, -1))
        told = table.schema.field(tap).metadata[b"fingerprint"].decode()
        assert told == meta.taps[tap].fingerprint


async def test_without_pyarrow_arrow_is_406_that_says_what_is_missing(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    ask = {"accept": encode.ARROW}
    answer = await http.post("/v1/features", files=files(b"a"), headers=ask)
    assert answer.status_code == 406
    assert "pip install 'offshelf[arrow]'" in answer.json()["detail"]
    ask = {"accept": f"{encode.ARROW}, application/json;q=0.1"}
    assert (await http.post("/v1/features", files=files(b"a"), headers=ask)).status_code == 200
