"""Content negotiation as RFC 9110 (12.5.1) has it."""

from __future__ import annotations

import pytest

from offshelf.api.accept import choose
from offshelf.errors import NotAcceptable

JSON, NPZ, TEXT = "application/json", "application/x-npz", "text/plain"


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/x-npz", NPZ),
        ("APPLICATION/X-NPZ", NPZ),
        ("application/json, application/x-npz", JSON),
        ("application/json;q=0.5, application/x-npz", NPZ),
        ("application/json ; Q=0.2 , */* ; q=0.1", JSON),
        ("text/*, application/x-npz;q=0.9", TEXT),
        ("application/json;q=0, */*", NPZ),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("application/json;charset=utf-8", JSON),
        ("application/json;q=nonsense, application/x-npz;q=0.1", NPZ),
        ("application/*;q=0.5, text/plain;q=0.4, application/x-npz;q=0.3", JSON),
    ],
)
def test_the_best_offer_is_chosen(header: str | None, chosen: str) -> None:
    assert choose(header, [JSON, NPZ, TEXT]) == chosen


@pytest.mark.parametrize("header", ["image/png", "*/*;q=0", "application/json;q=0", ";;;"])
def test_nothing_acceptable_names_what_there_is(header: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json"):
        choose(header, [JSON])
