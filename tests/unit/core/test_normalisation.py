from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offshelf.core.normalisation import MAX_STEPS, Chain, Step, canonical_normalisation
from offshelf.errors import InvalidParameter

DIGEST = "0123456789abcdef" * 4
STEPS = st.one_of(
    st.just(Step("l2")),
    st.integers(0, 4000).map(lambda thousandths: Step("power", power=thousandths / 1000)),
    st.just(Step("whiten", digest=DIGEST)),
)


@given(st.lists(STEPS, max_size=MAX_STEPS).map(tuple))
def test_a_chain_is_read_back_from_its_text_which_is_canonical(steps: tuple[Step, ...]) -> None:
    text = str(Chain(steps))
    assert Chain.parse(text) == Chain(steps)
    assert canonical_normalisation(text) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("none", "none"),
        ("l2", "l2"),
        ("power:0.50,l2", "power:0.5,l2"),
        ("l2,power:2.0", "l2,power:2"),
        (f"l2,whiten:{DIGEST},l2,power:2", f"l2,whiten:{DIGEST},l2,power:2"),
    ],
)
def test_every_chain_has_one_text(text: str, canonical: str) -> None:
    assert canonical_normalisation(text) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "L2", "l2,", "l2,none", "none,l2", "power", "power:-1", "power:4.1", "power:.5",
     "power:nan", "power:1e1", "whiten", "whiten:abc", f"whiten:{DIGEST.upper()}", "l2 ,l2",
     ",".join(["l2"] * (MAX_STEPS + 1))],
)  # fmt: skip
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="normalize"):
        Chain.parse(text)


def test_a_whitening_knows_what_comes_before_it() -> None:
    other = DIGEST[::-1]
    chain = Chain.parse(f"l2,whiten:{DIGEST},power:2,whiten:{other},l2")
    assert chain.before_whitening() == [
        (DIGEST, "l2"),
        (other, f"l2,whiten:{DIGEST},power:2"),
    ]
    assert Chain.parse(f"whiten:{DIGEST}").before_whitening() == [(DIGEST, "none")]
