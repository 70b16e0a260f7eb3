"""How much one client may have waiting, so that nobody takes all the room: counted in images."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from offshelf.api.services import OWNER
from offshelf.errors import CapacityError
from offshelf.queue.interactive import ASSUMED_IMAGES_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import Request

    from offshelf.api.services import Services
    from offshelf.settings import Settings

# Names who asks among those who share an address, as behind a proxy.
CLIENT_HEADER: Final = "X-Client"
MAX_NAME_CHARS: Final = 64
MIN_RETRY_S: Final = 1.0
MAX_RETRY_S: Final = 600.0


class ClientImages:
    """The images that each client waits for, at this API process.

    `rate` says how many images a second are answered, for Retry-After.
    """

    def __init__(self, limit: int, rate: float = ASSUMED_IMAGES_PER_S) -> None:
        self._limit = limit
        self._rate = rate
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def waiting(self, client: str, images: int) -> Iterator[None]:
        """Count images while they wait; CapacityError where the client has too many already.

        Who has none waiting is never refused: a large request is one that is allowed.
        """
        already = self._waiting[client]
        if already and already + images > self._limit:
            raise CapacityError(
                f"{already} images of this client wait already, and with these {images} it would "
                f"be more than the limit of {self._limit}",
                _bounded(already / self._rate),
            )
        self._waiting[client] += images
        try:
            yield
        finally:
            self._waiting[client] -= images
            if not self._waiting[client]:
                del self._waiting[client]


def client_of(request: Request) -> str:
    """Who asks: the address, and the name that the client gives itself beside it."""
    address = request.client.host if request.client else ""
    return f"{address} {request.headers.get(CLIENT_HEADER, '')[:MAX_NAME_CHARS]}"


def admit_job(services: Services, settings: Settings, images: int) -> None:
    """CapacityError where too many jobs are open, or too many of their images have yet to come.

    Who has no image waiting is never refused.
    """
    jobs = services.jobs.open(OWNER)
    if len(jobs) >= settings.max_open_jobs:
        raise CapacityError(
            f"{len(jobs)} jobs have not ended and the limit is {settings.max_open_jobs}",
            _bounded(
                min((job.left_s for job in jobs if job.left_s is not None), default=MAX_RETRY_S)
            ),
        )
    left = sum(job.left for job in jobs)
    if left and left + images > settings.max_bulk_images:
        rate = sum(job.images_per_s or 0.0 for job in jobs) or ASSUMED_IMAGES_PER_S
        excess = left + images - settings.max_bulk_images
        raise CapacityError(
            f"{left} images of jobs wait, and with these {images} it would be more than the limit "
            f"of {settings.max_bulk_images}",
            _bounded(min(left, excess) / rate),
        )


def _bounded(seconds: float) -> float:
    return max(MIN_RETRY_S, min(MAX_RETRY_S, seconds))
