"""Whether the weights files of this machine are what they should be, read from the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from offshelf.backbones.records import record, recorded, sha256_now
from offshelf.backbones.state_dict import read_network
from offshelf.backbones.weights import locate, mismatch, provenance
from offshelf.errors import WeightsMissing

if TYPE_CHECKING:
    from pathlib import Path

    from offshelf.backbones.interface import Card
    from offshelf.backbones.weights import Location
    from offshelf.settings import Settings

Status: TypeAlias = Literal["ok", "damaged", "not recorded", "missing", "bad card"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of looking at the weights of one card; `detail` says what is wrong, if anything."""

    backbone: str
    weights: str
    status: Status
    path: Path | None = None
    sha256: str | None = None
    detail: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing has to be done."""
        return self.status in ("ok", "not recorded")


def verify(card: Card, settings: Settings, *, recording: bool = False) -> Verdict:
    """Hash the file that `load` would read, and read it as the weights of its network.

    `recording` puts the hash of a sound file on record where there is none yet.
    """
    place = locate(card, settings)
    if place is None:
        return Verdict(card.name, card.weights.name, "missing", detail="no file is here")
    label, _ = provenance(card, place)
    try:
        sha256 = sha256_now(place.path)
        status = _status(card, place, sha256)
        read_network(card, place.path)
        if recording and place.source != "package" and recorded(place.path) is None:
            record(place.path, sha256)
            status = "ok"
    except (WeightsMissing, OSError) as error:
        return Verdict(card.name, label, "damaged", place.path, detail=str(error))
    return Verdict(card.name, label, status, place.path, sha256)


def _status(card: Card, place: Location, sha256: str) -> Status:
    """Of a file by its hash alone; WeightsMissing where it is not what was promised."""
    if place.source == "package":
        return "ok"
    known, published = recorded(place.path), card.weights
    if known is not None:
        if known != sha256:
            raise WeightsMissing(mismatch(card, place.path, sha256, known))
        return "ok"
    if not published.sha256_prefix or place.path.name != published.filename:
        return "not recorded"
    if not sha256.startswith(published.sha256_prefix):
        raise WeightsMissing(mismatch(card, place.path, sha256, ""))
    return "ok"
