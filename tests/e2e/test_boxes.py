"""Boxes and windows over HTTP: each is the image that it shows, or is pooled from the maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from offshelf.core.windows import Pyramid
from offshelf_client import InvalidParameterError
from tests.reference.pictures import encode, picture

if TYPE_CHECKING:
    from offshelf_client import Client

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

IMAGES = [picture(number, *size) for number, size in enumerate([(200, 150), (90, 140), (60, 60)])]
FILES = [encode(image) for image in IMAGES]
BACKBONE = "embednet"


def test_a_box_is_the_image_that_it_shows(client: Client) -> None:
    boxes = [[(0, 0, 80, 90), (20.5, 10, 199, 150)], [(5, 6, 90, 140)], [(10, 10, 70, 70)] * 3]
    found = client.features(FILES, BACKBONE, ["fc7", "conv5"], "squash", boxes=boxes)
    assert found.image_index is not None
    assert found.image_index.tolist() == [0, 0, 1, 2, 2, 2]
    np.testing.assert_array_equal(found.boxes, [box for own in boxes for box in own])
    shown = [
        IMAGES[i].crop((int(box[0]), *box[1:3], box[3]))
        for i, own in enumerate(boxes)
        for box in own[: 3 if i < 2 else 0]
    ] + [IMAGES[2].crop((10, 10, 60, 60))] * 3
    alone = client.features(
        [encode(image) for image in shown], BACKBONE, ["fc7", "conv5"], "squash"
    )
    for tap in ("fc7", "conv5"):
        np.testing.assert_allclose(found[tap], alone[tap], rtol=1e-4, atol=1e-5)
    assert found.fingerprints == alone.fingerprints


@pytest.mark.parametrize(("view", "tap"), [("squash", "fc7"), ("maps:100,200", "conv5")])
def test_windows_are_the_boxes_that_they_say(client: Client, view: str, tap: str) -> None:
    found = client.features(FILES, BACKBONE, tap, view, windows="pyramid:1,2")
    own = [Pyramid((1.0, 2.0)).windows(*image.size) for image in IMAGES]
    np.testing.assert_array_equal(found.boxes, np.concatenate(own))
    again = client.features(FILES, BACKBONE, tap, view, boxes=own)
    np.testing.assert_allclose(found[tap], again[tap], rtol=1e-4, atol=1e-5)
    # Windows show different things, and so they differ.
    assert len(np.unique(found[tap].round(4), axis=0)) == len(found[tap])


def test_poolings_of_boxes_have_their_numbers(client: Client) -> None:
    for pool, cells in (("align:3", 9), ("pyramid:1,2", 5), ("avg", 1)):
        found = client.features(
            FILES[:1], BACKBONE, "conv5", "maps:150", pool, boxes=[[(0, 0, 90, 90), (9, 9, 99, 99)]]
        )
        whole = client.features(FILES[:1], BACKBONE, "conv5", "dense:150", "avg")
        assert found["conv5"].shape == (2, cells * whole["conv5"].shape[1])


def test_one_box_outside_fails_its_image_alone(client: Client) -> None:
    boxes = [[(0, 0, 50, 50)], [(0, 0, 9, 9), (95, 0, 99, 9)], [(0, 0, 60, 60)]]
    found = client.features(FILES, BACKBONE, "fc7", "squash", boxes=boxes, on_error="skip")
    assert found.kept.tolist() == [0, 2]
    error = found.items[1].error
    assert error is not None
    assert "outside the image of 90 x 140 pixels" in error.message


def test_maps_without_boxes_are_refused(client: Client) -> None:
    with pytest.raises(InvalidParameterError, match="give boxes or windows"):
        client.features(FILES, BACKBONE, "conv5", "maps:100")
