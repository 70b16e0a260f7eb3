"""What the documents promise is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from offshelf.backbones.interface import BACKBONES
from offshelf.datasets.protocols.interface import PROTOCOLS
from offshelf.errors import error_codes
from offshelf.heads.interface import SOLVERS
from offshelf.settings import Settings

ROOT = Path(__file__).parents[2]


def test_settings_page_lists_every_setting_and_no_other() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(documented) == sorted(Settings.model_fields)


def test_errors_page_lists_every_code_with_its_status() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page, re.MULTILINE))
    assert rows == {code: str(kind.status) for code, kind in error_codes().items()}


def test_protocols_page_lists_every_protocol_with_its_splits_and_first_figure() -> None:
    page = (ROOT / "docs" / "protocols.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| .* \| ([^|]+) \| (\d+) \|$", page, re.MULTILINE)
    figures = {
        "accuracy": "accuracy",
        "mean_class_accuracy": "mean per-class accuracy",
        "map_11pt": "mAP, 11 points",
        "map_all_point": "mAP, all points",
    }
    cards = [PROTOCOLS.get(name).card for name in PROTOCOLS.names()]
    expected = {card.name: (figures[card.metrics[0]], str(card.splits)) for card in cards}
    found = {name: (figure.split(", or")[0], splits) for name, figure, splits in rows}
    assert found == expected


def test_backbones_page_lists_every_network_and_no_other() -> None:
    page = (ROOT / "docs" / "backbones.md").read_text()
    rows = re.findall(r"^\| (`.*?`.*?) \| `", page, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([a-z]\w*)`", row)}
    listed |= {f"vgg{depth}_bn" for depth in (11, 13, 16, 19)}  # "and each with `_bn`"
    published = {name for name in BACKBONES.names() if BACKBONES.get(name).weights.url}
    assert listed == published


def test_heads_page_lists_every_kind() -> None:
    page = (ROOT / "docs" / "heads.md").read_text()
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)) == SOLVERS.names()


def test_settings_survive_the_way_through_the_environment(monkeypatch) -> None:
    settings = Settings(port=1234, preload="alexnet, vgg16", linger_ms=0.5, data_dir=Path("/x"))
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
    assert settings.preload_names == ["alexnet", "vgg16"]
