"""`/v1/backbones`: what the live workers can run."""

from __future__ import annotations

# ruff: noqa: TC001 - FastAPI reads the annotations of routes at run time
from typing import TYPE_CHECKING

from fastapi import APIRouter

from offshelf.api.openapi import problems
from offshelf.api.services import Services, ServicesOf
from offshelf.errors import NoWorker, UnknownName
from offshelf.registry import unknown
from offshelf.schemas.backbones import BackboneBody, Residence, VariantBody, WorkerBody
from offshelf.schemas.base import Page

if TYPE_CHECKING:
    from collections.abc import Sequence

router = APIRouter(prefix="/v1/backbones", tags=["backbones"])


@router.get("", summary="List backbones", operation_id="list_backbones", responses=problems(503))
def list_backbones(services: ServicesOf) -> Page[BackboneBody]:
    """Every backbone that a live worker has: taps, preprocessing and weights."""
    found = _merged(services)
    return Page(items=[found[name] for name in sorted(found)], has_more=False)


@router.get(
    "/{name}", summary="Show a backbone", operation_id="get_backbone", responses=problems(404, 503)
)
def get_backbone(name: str, services: ServicesOf) -> BackboneBody:
    """One backbone: its taps with dimensions, stride and receptive field, and its weights."""
    found = _merged(services)
    if name not in found:
        raise UnknownName(unknown("backbone", name[:200], sorted(found)))
    return found[name]


def _merged(services: Services) -> dict[str, BackboneBody]:
    """By name; where workers differ, the one that has the weights speaks for the backbone."""
    workers = services.directory.workers()
    catalogues = services.directory.catalogues()
    if not workers or not catalogues:
        raise NoWorker("no worker is alive, so it is not known which backbones there are")
    found: dict[str, BackboneBody] = {}
    for backbone in (backbone for told in catalogues.values() for backbone in told):
        known = found.get(backbone.name)
        found[backbone.name] = _both(known, backbone) if known else backbone
    where = _residences(workers)
    return {
        name: body.model_copy(update={"resident": where.get(name, [])})
        for name, body in found.items()
    }


def _residences(workers: Sequence[WorkerBody]) -> dict[str, list[Residence]]:
    """Where each backbone is on a device."""
    found: dict[str, list[Residence]] = {}
    for worker in workers:
        for told in worker.resident:
            found.setdefault(told.backbone, []).append(
                Residence(
                    worker=worker.id,
                    host=worker.host,
                    device=worker.device,
                    weights=told.weights,
                    bytes=told.bytes,
                    state=told.state,
                )
            )
    return found


def _both(one: BackboneBody, other: BackboneBody) -> BackboneBody:
    better = other if other.weights.get("present") and not one.weights.get("present") else one
    variants = _united(better.variants, [*one.variants, *other.variants])
    return better.model_copy(update={"default": one.default or other.default, "variants": variants})


def _united(first: Sequence[VariantBody], told: Sequence[VariantBody]) -> list[VariantBody]:
    """Those of `first`, then those that only others know; present where any worker has it."""
    present = {variant.name for variant in told if variant.present}
    found = {variant.name: variant for variant in [*reversed(told), *reversed(first)]}
    order = dict.fromkeys(variant.name for variant in [*first, *told])
    return [found[name].model_copy(update={"present": name in present}) for name in order]
