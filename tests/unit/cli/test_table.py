"""Tables are aligned: text to the left, numbers to the right."""

from __future__ import annotations

from offshelf.commands.output import percent, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    shown = table(("name", "n", "share"), [("a", 5, percent(0.5)), ("longer", 1000, percent(1))])
    assert shown.splitlines() == [
        "name       n    share",
        "a          5   50.0 %",
        "longer  1000  100.0 %",
    ]


def test_table_without_rows_is_its_header() -> None:
    assert table(("a", "b"), []) == "a  b"
