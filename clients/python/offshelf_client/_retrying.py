"""Whether a failed call is made again, and after which pause: policy only, nobody sleeps here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offshelf_client._errors import ApiError, OffshelfError, TimedOut, TransportError

if TYPE_CHECKING:
    from offshelf_client._config import Retry

RETRIED_STATUSES: Final = frozenset({429, 503, 504})
# With these the server says that it did nothing, so even an unsafe call may be repeated.
UNTOUCHED_STATUSES: Final = frozenset({429, 503})


class Attempts:
    """The tries of one call; made when the first one starts."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._made = 0
        self._deadline_s = retry.clock() + retry.total_s

    def pause_after(self, error: OffshelfError, *, safe: bool) -> float | None:
        """Seconds to wait before the next try; None when there is to be none.

        `safe` says that doing the call twice is the same as doing it once.
        """
        self._made += 1
        if self._made >= self._retry.attempts or not _may_repeat(error, safe=safe):
            return None
        pause = self._pause(error)
        return pause if self._retry.clock() + pause <= self._deadline_s else None

    def _pause(self, error: OffshelfError) -> float:
        retry = self._retry
        ceiling = min(retry.cap_s, retry.base_s * 2.0 ** (self._made - 1))
        jitter = retry.random() * ceiling
        asked = error.retry_after_s if isinstance(error, ApiError) else None
        # Jitter on top of what was asked, or all clients that were refused come back at once.
        return jitter + (asked or 0.0)


def _may_repeat(error: OffshelfError, *, safe: bool) -> bool:
    if isinstance(error, TransportError):
        if not error.sent:
            return True
        # After a read time-out the server may still be at it: a repeat would double the work.
        return safe and not isinstance(error, TimedOut)
    if not isinstance(error, ApiError) or not error.retryable:
        return False
    return error.status in (RETRIED_STATUSES if safe else UNTOUCHED_STATUSES)
