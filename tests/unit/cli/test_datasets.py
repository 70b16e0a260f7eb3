"""`offshelf datasets`: protocols as they are listed, and copies as they are judged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from offshelf.cli import app
from offshelf.datasets.protocols.interface import PROTOCOLS
from tests.unit.datasets.protocols.copies import pictures, write

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["datasets", *(str(argument) for argument in arguments)])


def test_protocols_are_listed_and_shown() -> None:
    lines = run("protocols").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["protocol", *PROTOCOLS.names()]
    shown = run("protocols", "caltech101-decaf").stdout
    assert "official counts: 102 classes, 9144 image files, 2550 train, 510 val" in shown
    assert "DeCAF6, SVM with dropout" in shown
    assert "86.91 +- 0.7" in shown
    assert "published" not in run("protocols", "cub200-parts").stdout
    cards = json.loads(run("protocols", "--json").stdout)
    assert [card["name"] for card in cards] == PROTOCOLS.names()
    card = json.loads(run("protocols", "mit67", "--json").stdout)
    assert card["counts"]["train"] == 5360


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A small data set of one's own, as a table."""
    pictures(tmp_path, ["a.jpg", "b.jpg"])
    return write(tmp_path, {"labels.csv": "path,label\na.jpg,cat\nb.jpg,dog\n"})


def test_a_right_copy_is_status_0(own: Path) -> None:
    result = run("verify", "csv", own)
    assert (result.exit_code, result.stdout) == (0, f"{own}: csv is right\n")


def test_what_is_wrong_is_told_with_status_1(own: Path) -> None:
    rows = "".join(f"{n}.jpg,cat\n" for n in range(7))
    write(own, {"labels.csv": f"path,label\nb.jpg\n{rows}"})
    result = run("verify", "csv", own)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "missing images: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 2 more",
        "lists that cannot be read as they are: labels.csv:2: 1 columns; the first line has 2",
        f"{own}: csv is not right",
    ]
    assert "2.jpg and 4 more" in run("verify", "csv", own, "--names", "3").stdout
    result = run("verify", "csv", own, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["faults"]["missing images"] == [f"{n}.jpg" for n in range(7)]


def test_counts_are_shown_beside_the_official_ones(tmp_path: Path) -> None:
    pictures(tmp_path, [f"Images/bar/{n}.jpg" for n in range(3)])
    write(tmp_path, {"TrainImages.txt": "bar/0.jpg\nbar/1.jpg", "TestImages.txt": "bar/2.jpg"})
    result = run("verify", "mit67", tmp_path)
    assert result.exit_code == 1
    assert [line.split() for line in result.stdout.splitlines()[:3]] == [
        ["count", "of", "official", "here"],
        ["classes", "67", "1", "!"],
        ["train", "5360", "2", "!"],
    ]


def test_a_wrong_name_or_folder_is_one_line(tmp_path: Path) -> None:
    result = run("verify", "voc2008", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no protocol named 'voc2008'; did you mean voc20")
    assert run("protocols", "imagenet").exit_code == 1
    assert run("verify", "csv", tmp_path / "nowhere").exit_code == 2
