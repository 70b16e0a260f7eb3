from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from offshelf.core.routing import ANY, Station, Takes, held_by_any, route, takes

NAMES = ["alexnet", "vgg16", "resnet50", "squeezenet1_0"]
some = st.frozensets(st.sampled_from(NAMES))


@st.composite
def stations(draw: st.DrawFn) -> Station:
    serves = draw(some)
    resident = frozenset(name for name in serves if draw(st.booleans()))
    return Station(draw(st.sampled_from(NAMES)), serves, resident=resident)


def station(serves: str, resident: str = "", default: str = "alexnet") -> Station:
    return Station(default, frozenset(serves.split()), resident=frozenset(resident.split()))


def test_a_request_goes_where_somebody_can_load_it() -> None:
    workers = [station("alexnet"), station("alexnet vgg16", default="vgg16")]
    assert route("vgg16", workers) == "vgg16"
    assert route("resnet50", workers) == ANY
    assert route("no such name", workers) == ANY
    assert route(None, workers) == "alexnet"
    assert route(None, [station("", default="vgg16"), workers[0]]) == "alexnet"
    assert route(3, workers) == route([], []) == ANY


def test_a_worker_leaves_to_others_what_they_have_and_it_has_not() -> None:
    mine = station("alexnet vgg16 resnet50", "alexnet")
    assert takes(mine, []) == Takes((ANY, "alexnet", "resnet50", "vgg16"))
    others = [station("vgg16 alexnet", "vgg16 alexnet"), station("squeezenet1_0", "squeezenet1_0")]
    assert takes(mine, others) == Takes((ANY, "alexnet", "resnet50"), ("vgg16",))


def test_whose_files_hold_the_weights() -> None:
    fetches = Station("vgg16", frozenset(NAMES))
    has = Station("vgg16", frozenset(NAMES), holds=frozenset(["alexnet"]))
    assert held_by_any("alexnet", [fetches, has])
    assert not held_by_any("vgg16", [fetches, has])
    assert not held_by_any(None, [fetches, has])
    assert held_by_any(None, [replace(has, default="alexnet")])


@given(st.lists(stations(), min_size=1, max_size=4), st.sampled_from([*NAMES, None, "nosuch"]))
def test_every_route_is_waited_on_by_somebody_who_can_serve_it(
    workers: list[Station], backbone: str | None
) -> None:
    name = route(backbone, workers)
    waiting = [
        one
        for place, one in enumerate(workers)
        if name in takes(one, workers[:place] + workers[place + 1 :]).own
    ]
    assert waiting
    assert name == ANY or all(name in one.serves for one in waiting)
    # Where some have it on the device, only those wait for it.
    if any(name in one.resident for one in workers):
        assert all(name in one.resident for one in waiting)
