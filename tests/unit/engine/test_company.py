from __future__ import annotations

import itertools
import random
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from offshelf.core.batching import Lane
from offshelf.engine.batcher import Item
from offshelf.engine.company import Company
from offshelf.engine.extractor import Extractor
from offshelf.errors import InvalidImage
from offshelf.schemas.features import FeatureParams
from offshelf.settings import Settings
from tests.reference.pictures import encode
from tests.unit.engine.fakes import MEAN, FakeEngine, FakeResident, pixels

if TYPE_CHECKING:
    from concurrent.futures import Future

SOON_S = 20.0


def item(value: int) -> Item:
    return Item((pixels(value),), FakeResident(), (MEAN,), Lane.BULK)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_all_come_at_once_in_the_order_of_their_places(order: tuple[int, ...]) -> None:
    company = Company(3)
    arrive, items = [company.expect() for _ in range(3)], [item(n) for n in range(3)]
    came = [arrive[place](items[place]) for place in order]
    assert came == [[], [], items]
    assert all(one.company is company for one in items)


def test_those_that_fail_are_left_out() -> None:
    company = Company(3)
    arrive, last = [company.expect() for _ in range(3)], item(2)
    assert [list(arrive[n](one)) for n, one in enumerate([None, None, last])] == [[], [], [last]]
    nobody = Company(1)
    assert list(nobody.expect()(None)) == []


def test_batches_are_the_same_however_images_and_strangers_come() -> None:
    """Two runs, among other bulk images in another order: the same batches of the company's."""
    first, second = batches(seed=1), batches(seed=2)
    assert first == second == [[10, 11, 12, 13], [14, 16, 17]]


def test_an_image_that_cannot_be_read_does_not_keep_the_others_waiting() -> None:
    """Whichever it is: the last to arrive lets the others go."""

    def gone() -> bytes:
        raise InvalidImage("it has changed since it was registered")

    image = encode(Image.new("RGB", (9, 7), (3, 3, 3)))
    for place in range(3):
        extractor = Extractor(FakeEngine(), Settings(default_backbone="fake", decode_threads=1))
        with extractor.resolve(FeatureParams(taps=["mean"])) as plan:
            resident: Any = plan.resident
            company = Company(3)
            images = [gone if n == place else lambda: image for n in range(3)]
            futures = [extractor.submit(one, plan, Lane.BULK, company=company) for one in images]
            _, waiting = wait(futures, SOON_S)
        assert not waiting
        failed = [future.exception() for future in futures]
        assert [str(one) for one in failed if one] == ["it has changed since it was registered"]
        assert isinstance(failed[place], InvalidImage)
        assert [batch for batch in resident.batches if 3 in batch] == [[3, 3]]
        extractor.close(5)


def batches(seed: int) -> list[list[int]]:
    """What ran with whom: eight images, of which one is broken, in companies of four."""
    engine, settings = FakeEngine(), Settings(default_backbone="fake", decode_threads=4)
    extractor = Extractor(engine, settings)
    images = [encode(Image.new("RGB", (9, 7), (v, v, v))) for v in range(10, 18)]
    images[5] = b"not an image"
    strangers = [encode(Image.new("RGB", (9, 7), (v, v, v))) for v in range(100, 140)]
    random.Random(seed).shuffle(strangers)
    with extractor.resolve(FeatureParams(taps=["mean"])) as plan:
        resident: Any = plan.resident
        companies = [Company(4), Company(4)]
        futures: list[Future[Any]] = []
        others: list[Future[Any]] = []
        for place, image in enumerate(images):
            others += [extractor.submit(strangers.pop(), plan, Lane.BULK) for _ in range(seed + 1)]
            company = companies[place // 4]
            futures.append(extractor.submit(image, plan, Lane.BULK, company=company))
        wait([*futures, *others], SOON_S)
    assert isinstance(futures[5].exception(), InvalidImage)
    extractor.close(5)
    return sorted(batch for batch in resident.batches if 10 <= batch[0] < 100)
