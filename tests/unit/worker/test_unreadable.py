"""The warning about images of a dataset that could not be read."""

from __future__ import annotations

from offshelf.schemas.base import ErrorBody
from offshelf.schemas.datasets import Dataset, DatasetItem
from offshelf.worker.unreadable import unreadable


def dataset_of(count: int) -> Dataset:
    items = [
        DatasetItem(path=f"cup/{n}.jpg", label="cup", sha256="0", bytes=1) for n in range(count)
    ]
    return Dataset(id="d", owner="o", name="n", created_s=0, classes=["cup"], items=items)


def failed(*numbers: int) -> dict[int, ErrorBody]:
    return {n: ErrorBody(code="invalid_image", message=f"bad {n}") for n in numbers}


def test_without_errors_there_is_no_warning() -> None:
    assert unreadable(dataset_of(3), {}) == []


def test_each_image_is_named_with_what_is_wrong_in_the_order_of_the_dataset() -> None:
    assert unreadable(dataset_of(113), failed(7, 2)) == [
        "2 of 113 images could not be read: cup/2.jpg (bad 2), cup/7.jpg (bad 7)"
    ]


def test_no_more_than_ten_are_named() -> None:
    (ten,) = unreadable(dataset_of(20), failed(*range(10)))
    assert ten.endswith("cup/9.jpg (bad 9)")
    (many,) = unreadable(dataset_of(20), failed(*range(13)))
    assert many.startswith("13 of 20 images")
    assert many.endswith("cup/9.jpg (bad 9) and 3 more")
