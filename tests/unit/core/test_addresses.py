"""What is left of a URL in a message."""

from __future__ import annotations

import pytest

from offshelf.core.addresses import shown


@pytest.mark.parametrize(
    ("url", "left"),
    [
        ("https://me:secret@host:81/a/b?token=secret#secret", "https://host:81/a/b"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("file:///srv/store", "file:///srv/store"),
        ("http://[secret", "the given URL"),
    ],
)
def test_secrets_are_left_out(url: str, left: str) -> None:
    assert shown(url) == left
