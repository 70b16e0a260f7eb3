"""What every protocol must keep to, by discovery; and descriptions that cannot be."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from offshelf.datasets.protocols import tree
from offshelf.datasets.protocols.interface import PROTOCOLS, Card, Description, Item, Split
from offshelf.datasets.protocols.verification import Verification, verify
from offshelf.errors import InvalidParameter, UnknownName
from tests.unit.datasets.protocols.copies import pictures, write

if TYPE_CHECKING:
    from pathlib import Path

NAMES = PROTOCOLS.names()


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_all_and_goes_through_json(name: str) -> None:
    card = PROTOCOLS.get(name).card
    assert card.name == name
    assert card.splits >= 1
    assert all((card.title, card.source, card.layout, card.procedure))
    assert Card.model_validate_json(card.model_dump_json()) == card
    for row in card.published:
        assert row.metric in card.metrics
        assert 1 < row.value < 100  # per cent
        assert row.source
        assert row.method
    assert len({(row.method, row.source) for row in card.published}) == len(card.published)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_no_copy_and_nothing_is_fetched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a protocol went to the network")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(InvalidParameter):
        PROTOCOLS.get(name).read(tmp_path)
    found = verify(PROTOCOLS.get(name), tmp_path)
    assert not found.right
    assert found.sentences()
    assert Verification.model_validate_json(found.model_dump_json()) == found
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_protocol_is_told_what_is_near() -> None:
    with pytest.raises(UnknownName, match=r"no protocol named 'sun379'; did you mean sun397"):
        PROTOCOLS.get("sun379")


def test_the_papers_of_the_mission_are_there() -> None:
    rows = {
        (name, row.method): row.value
        for name in NAMES
        for row in PROTOCOLS.get(name).card.published
    }
    assert rows["caltech101-decaf", "DeCAF6, SVM with dropout"] == 86.91
    assert rows["sun397-decaf", "DeCAF6, logistic regression"] == 40.94
    assert rows["cub200", "DeCAF6, logistic regression"] == 58.75
    assert rows["mit67", "OverFeat, augmented, SVM (CNNaug-SVM)"] == 69.0
    assert rows["voc2007", "PRE-1000C"] == 77.7
    assert rows["voc2012", "PRE-1512"] == 82.8
    assert rows["voc2012-action", "PRE-1512U (FC6 and FC7 trained too)"] == 70.2
    assert rows["office31-dslr-webcam-both", "DeCAF6, SVM"] == 94.79


def description(**changes: Any) -> Description:
    fields = {
        "protocol": "mine",
        "classes": ("a", "b"),
        "multi_label": False,
        "metrics": ("accuracy",),
        "items": tuple(Item(key=k, path=k, labels=(i % 2,)) for i, k in enumerate("wxyz")),
        "splits": (Split(name="1", train=(0, 1), val=(2,), test=(3,)),),
    }
    return Description(**(fields | changes))


def test_fitting_is_train_and_val_together() -> None:
    data = description()
    assert data.splits[0].fitting == (0, 1, 2)
    assert json.loads(data.model_dump_json())["splits"][0]["val"] == [2]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"items": ()}, "no labelled image"),
        ({"classes": ()}, "no labelled image"),
        ({"items": (Item(key="a", path="a", labels=(0,)),) * 2}, "'a' is there twice"),
        ({"items": (Item(key="a", path="a", labels=(2,)),)}, r"labels \(2,\); 1 from 0 to 1"),
        ({"items": (Item(key="a", path="a", labels=(0, 1)),)}, "1 from 0 to 1 needed"),
        ({"multi_label": True}, r"w: labels \(0,\); 2 from -1 to 1 needed"),
        ({"splits": (Split(name="1", train=(0, 4)),)}, "item numbers that are not there"),
        ({"splits": (Split(name="1", train=(-1,)),)}, "item numbers that are not there"),
        ({"splits": (Split(name="k", train=(0,), test=(1, 0)),)}, "split k: 'w' is in it twice"),
    ],
)
def test_a_description_that_cannot_be_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidParameter, match=told):
        description(**changes)


def test_protocols_are_read_where_torch_is_not_installed(tmp_path: Path) -> None:
    write(pictures(tmp_path, ["a.jpg"]), {"labels.csv": "path,label\na.jpg,cat\n"})
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'sklearn')))\n"
        "from pathlib import Path\n"
        "from offshelf.datasets.protocols.interface import PROTOCOLS\n"
        "print(len(PROTOCOLS.names()), PROTOCOLS.get('csv').read(Path(sys.argv[1])).classes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{len(NAMES)} ('cat',)\n"


def test_a_list_of_too_many_lines_is_refused_before_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MAX_LINES", 3)
    (tmp_path / "list.txt").write_text("a\nb\nc")
    assert [text for _, text in tree.Tree(tmp_path).lines("list.txt")] == ["a", "b", "c"]
    (tmp_path / "list.txt").write_text("a\nb\nc\nd")
    with pytest.raises(InvalidParameter, match=r"list\.txt: more than 3 lines"):
        tree.Tree(tmp_path).lines("list.txt")
