from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from offshelf.core.routing import ANY, Station, Takes
from offshelf.errors import DependencyError
from offshelf.schemas.backbones import BackboneBody, VariantBody
from offshelf.worker import post as module
from offshelf.worker.post import Post
from tests.unit.worker.fakes import FakeResident

if TYPE_CHECKING:
    import pytest


def body(name: str, present: bool, url: str = "") -> BackboneBody:
    return BackboneBody(
        name=name,
        taps=[],
        aliases={},
        preprocessing={},
        classes=10,
        paper="",
        weights={"present": present, "url": url},
    )


@dataclass
class Rig:
    """A post with everything around it for a test to set."""

    there: dict[tuple[str, str | None], FakeResident] = field(default_factory=dict)
    on_their_way: list[tuple[str, str | None]] = field(default_factory=list)
    bodies: list[BackboneBody] = field(
        default_factory=lambda: [
            body("here", present=True),
            body("fetchable", present=False, url="https://example.org/f.pth"),
            body("nowhere", present=False),
        ]
    )
    stations: dict[str, Station] = field(default_factory=dict)
    away: bool = False
    looks: int = 0
    fetches: bool = True
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.post = Post(
            "me",
            "here",
            self,  # type: ignore[arg-type]
            self.describe,
            self.others,
            fetches=self.fetches,
            clock=lambda: self.now_s,
        )

    def loaded(self) -> dict[tuple[str, str | None], FakeResident]:
        return self.there

    def coming(self) -> list[tuple[str, str | None]]:
        return self.on_their_way

    def describe(self) -> list[BackboneBody]:
        self.looks += 1
        return self.bodies

    def others(self) -> dict[str, Station]:
        if self.away:
            raise DependencyError("away")
        return self.stations


def test_it_tells_what_it_has_what_it_can_fetch_and_what_is_loaded() -> None:
    rig = Rig(there={("here", None): FakeResident()}, on_their_way=[("fetchable", None)])
    rig.post.look()
    station = rig.post.told(12.5)
    assert station == Station(
        "here",
        serves=frozenset({"here", "fetchable"}),
        holds=frozenset({"here"}),
        resident=frozenset({"here", "fetchable"}),
        images_per_s=12.5,
    )
    told = [(one.backbone, one.weights, one.state) for one in rig.post.residents()]
    assert told == [("here", "random:0", "ready"), ("fetchable", "", "loading")]


def test_where_nothing_is_fetched_only_what_is_here_is_served() -> None:
    rig = Rig(fetches=False)
    rig.post.look()
    assert rig.post.told(0.0).serves == {"here"}


def test_its_own_station_is_no_other_worker() -> None:
    mine = Station("here", frozenset({"here"}), frozenset({"here"}), frozenset({"here"}))
    rig = Rig(stations={"me": mine})
    rig.post.look()
    assert rig.post.takes() == Takes((ANY, "fetchable", "here"))
    assert rig.post.lacks("here", None) is None


def test_what_another_has_loaded_is_left_to_it() -> None:
    other = Station("here", frozenset({"here"}), frozenset({"here"}), frozenset({"here"}))
    rig = Rig(stations={"me": other, "you": other})
    rig.post.look()
    assert rig.post.takes() == Takes((ANY, "fetchable"), ("here",))
    assert rig.post.lacks(None, None) == "here"


def test_what_could_not_be_fetched_is_not_taken_again_for_a_while() -> None:
    other = Station("here", frozenset({"fetchable"}), frozenset({"fetchable"}))
    rig = Rig(stations={"you": other})
    rig.post.look()
    assert rig.post.lacks("fetchable", None) == "fetchable"
    assert "fetchable" not in rig.post.takes().own
    assert "fetchable" not in rig.post.told(0).serves
    assert rig.post.lacks(None, None) is None  # nobody else has the default one
    rig.now_s += module.LACKS_S + 1
    assert {"fetchable", "here"} <= set(rig.post.takes().own)


def test_files_are_looked_for_now_and_then() -> None:
    rig = Rig()
    for _ in range(2 * module.CATALOGUE_BEATS):
        rig.post.look()
    assert rig.looks == 2


def test_without_redis_it_goes_on_with_what_it_knew() -> None:
    other = Station("here", frozenset({"here"}), frozenset({"here"}))
    rig = Rig(stations={"you": other})
    rig.post.look()
    rig.away = True
    rig.post.look()
    assert rig.post.lacks("here", None) == "here"


def variants(body: BackboneBody, **present: bool) -> BackboneBody:
    found = [
        VariantBody(name=name, top1=None, licence="", preprocessing={}, present=there)
        for name, there in present.items()
    ]
    return body.model_copy(update={"variants": found})


def test_each_set_of_weights_is_a_route_and_the_pinned_one_has_two_names() -> None:
    bodies = [variants(body("net", present=True), V1=True, V2=False, V3=True)]
    rig = Rig(bodies=bodies, fetches=False, there={("net", "V3"): FakeResident()})
    rig.post.look()
    station = rig.post.told(0.0)
    assert station.serves == station.holds == {"net", "net@V1", "net@V3"}
    assert station.resident == {"net@V3"}
    fetching = Rig(bodies=bodies)
    fetching.post.look()
    assert fetching.post.told(0.0).serves == {"net", "net@V1", "net@V2", "net@V3"}


def test_missing_other_weights_say_nothing_of_the_own_ones() -> None:
    bodies = [variants(body("net", present=True), V1=True, V2=True)]
    rig = Rig(bodies=bodies, there={("net", None): FakeResident(), ("net", "V2"): FakeResident()})
    rig.post.look()
    assert rig.post.lacks("net", "V2") is None
    station = rig.post.told(0.0)
    assert {"net", "net@V1"} == station.serves == station.holds == station.resident
    assert "net" in rig.post.takes().own
    assert not rig.post.is_elsewhere_alone("net", None)


def test_random_weights_on_the_device_attract_nothing() -> None:
    rig = Rig(there={("here", "random:0"): FakeResident()})
    rig.post.look()
    assert rig.post.told(0.0).resident == frozenset()


def test_a_listing_that_fails_or_takes_long_stops_no_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    rig, gate = Rig(), threading.Event()
    monkeypatch.setattr(rig.post, "_describe", lambda: gate.wait(20) and rig.bodies)
    rig.post.look()
    assert rig.post.catalogue == []
    gate.set()
    rig.post._looking.join(20)
    assert rig.post.knows("here")
    monkeypatch.setattr(rig.post, "_describe", lambda: 1 / 0)
    for _ in range(module.CATALOGUE_BEATS):
        rig.post.look()
    assert rig.post.knows("here")


def test_what_too_many_wait_for_already_is_not_taken() -> None:
    rig = Rig()
    rig.post.look()
    assert rig.post.takes([("fetchable", None)]).own == (ANY, "here")
    assert rig.post.takes([(None, "random:1"), ("fetchable", "V9")]).own == (ANY, "fetchable")


def test_what_is_loaded_and_not_listed_is_looked_for_at_once() -> None:
    rig = Rig()
    rig.post.look()
    rig.there[("timm:tiny", None)] = FakeResident()
    rig.bodies = [*rig.bodies, body("timm:tiny", present=True)]
    rig.post.look()
    assert "timm:tiny" in {told.name for told in rig.post.catalogue}
    assert "timm:tiny" in rig.post.told(0.0).holds
    rig.post.look()
    assert rig.looks == 2
