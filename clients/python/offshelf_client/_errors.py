"""The errors that the SDK raises, and the one place where foreign exceptions become them.

OffshelfError
├── ApiError                       the service answered with a problem
│   ├── InvalidRequestError            invalid_request
│   │   ├── InvalidImageError          invalid_image
│   │   ├── InvalidParameterError      invalid_parameter
│   │   ├── UnknownNameError           unknown_name
│   │   ├── TooLargeError              too_large
│   │   ├── FingerprintMismatchError   fingerprint_mismatch
│   │   ├── MethodNotAllowedError      method_not_allowed
│   │   ├── NotAcceptableError         not_acceptable
│   │   ├── RangeNotSatisfiableError   range_not_satisfiable
│   │   ├── UnsupportedMediaError      unsupported_media_type
│   │   └── InUseError                 in_use
│   ├── JobError                       job_error
│   │   ├── JobConflictError           job_conflict
│   │   ├── JobCancelledError          job_cancelled
│   │   ├── JobFailedError             job_failed
│   │   └── DeadlineExceededError      deadline_exceeded
│   ├── OverCapacityError              over_capacity
│   ├── DependencyError                dependency_unavailable
│   │   ├── ExportPendingError         export_pending
│   │   ├── WeightsMissingError        weights_missing
│   │   └── NoWorkerError              no_worker
│   └── InternalError                  internal_error
│       └── WorkerError                worker_error
│           └── DeviceLostError        device_lost
├── TransportError                 no answer came
│   ├── ConnectionFailed               nobody there, or the line broke
│   └── TimedOut                       a time-out of ours ran out
├── UnexpectedAnswer               an answer came that is not offshelf's
├── UnreadableImage                an image could not be read on this side
└── ImagesFailed                   some images of a call failed; `.items` lists them all
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from offshelf_client._models import Item


class OffshelfError(Exception):
    """Base of every error that the SDK raises on purpose."""


class ApiError(OffshelfError):
    """The service refused or failed.

    `code` is the wire code, `status` the HTTP status, `retryable` whether the same call can
    work later, `request_id` what to look for in the server's log, `problem` the whole problem
    document (RFC 9457), `retry_after_s` what the server asked to wait, in seconds.
    """

    wire_code: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int = 0,
        retryable: bool = False,
        request_id: str = "",
        problem: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.wire_code
        self.status = status
        self.retryable = retryable
        self.request_id = request_id
        self.problem: dict[str, Any] = dict(problem or {})
        self.retry_after_s = retry_after_s


class InvalidRequestError(ApiError):
    """The request is at fault; sending it again unchanged cannot help."""

    wire_code = "invalid_request"


class InvalidImageError(InvalidRequestError):
    """The bytes are not an image that offshelf reads."""

    wire_code = "invalid_image"


class InvalidParameterError(InvalidRequestError):
    """A parameter is outside what it may be; the message says what it may be."""

    wire_code = "invalid_parameter"


class UnknownNameError(InvalidRequestError):
    """No backbone, tap, dataset, head or job of that name."""

    wire_code = "unknown_name"


class TooLargeError(InvalidRequestError):
    """Over a limit of the server; the message gives the limit."""

    wire_code = "too_large"


class FingerprintMismatchError(InvalidRequestError):
    """Features of one FeatureSpec were offered to a head of another."""

    wire_code = "fingerprint_mismatch"


class MethodNotAllowedError(InvalidRequestError):
    """The route exists, but not for this method: the server is of another version."""

    wire_code = "method_not_allowed"


class NotAcceptableError(InvalidRequestError):
    """The server cannot produce any of the media types that were asked for."""

    wire_code = "not_acceptable"


class UnsupportedMediaError(InvalidRequestError):
    """The server does not read a request body of this media type."""

    wire_code = "unsupported_media_type"


class InUseError(InvalidRequestError):
    """It cannot be deleted: others need it."""

    wire_code = "in_use"


class RangeNotSatisfiableError(InvalidRequestError):
    """The range that was asked for lies behind the end of the file."""

    wire_code = "range_not_satisfiable"


class JobError(ApiError):
    """The state of a job forbids the operation."""

    wire_code = "job_error"


class JobConflictError(JobError):
    """The job's state does not allow it, or an Idempotency-Key was used for something else."""

    wire_code = "job_conflict"


class JobCancelledError(JobError):
    """The job that was waited for was cancelled."""

    wire_code = "job_cancelled"


class JobFailedError(JobError):
    """The job that was waited for failed; `code` and the message are its recorded error."""

    wire_code = "job_failed"


class DeadlineExceededError(JobError):
    """The answer was not ready before the server's deadline."""

    wire_code = "deadline_exceeded"


class OverCapacityError(ApiError):
    """Too much is queued at the server, also after all retries."""

    wire_code = "over_capacity"


class DependencyError(ApiError):
    """Something that the service leans on is away."""

    wire_code = "dependency_unavailable"


class WeightsMissingError(DependencyError):
    """The server has no weights for the backbone; the message says where to put them."""

    wire_code = "weights_missing"


class ExportPendingError(DependencyError):
    """The file is being written; the same call works later."""

    wire_code = "export_pending"


class NoWorkerError(DependencyError):
    """No worker is alive."""

    wire_code = "no_worker"


class InternalError(ApiError):
    """The service is at fault; its log has the details under the request id."""

    wire_code = "internal_error"


class WorkerError(InternalError):
    """A worker failed on the request."""

    wire_code = "worker_error"


class DeviceLostError(WorkerError):
    """The device of a worker broke under the request; that worker is started anew."""

    wire_code = "device_lost"


class TransportError(OffshelfError):
    """No answer came. `sent` says whether the server may have seen the request."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class ConnectionFailed(TransportError):
    """Nobody answers at the address, or the line broke."""


class TimedOut(TransportError, TimeoutError):
    """A time-out of the client ran out."""


class UnexpectedAnswer(OffshelfError):
    """What came back is not an answer of offshelf's API; the address may be wrong."""


class UnreadableImage(OffshelfError):
    """An image could not be read or encoded on this side."""


class ImagesFailed(OffshelfError):
    """Some images of a call failed. `items` holds the failed ones: index, name and error."""

    def __init__(self, items: Sequence[Item], total: int) -> None:
        self.items = tuple(items)
        self.total = total
        lines = [f"{len(items)} of {total} images failed:"]
        lines += [f"  {item.describe()}" for item in items[:20]]
        if len(items) > 20:
            lines.append(f"  ... and {len(items) - 20} more; all are in .items")
        super().__init__("\n".join(lines))


def error_codes() -> dict[str, type[ApiError]]:
    """Every wire code and the class that is raised for it."""
    found: dict[str, type[ApiError]] = {}
    todo: list[type[ApiError]] = [ApiError]
    while todo:
        kind = todo.pop()
        if kind.wire_code:
            found[kind.wire_code] = kind
        todo.extend(kind.__subclasses__())
    return found


@contextmanager
def translated(what: str, url: str) -> Iterator[None]:
    """Turn every exception of httpx inside the block into one of ours.

    `what` was being done, with the service at `url`.
    """
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise TimedOut(_unreachable(url, error), sent=False) from error
    except httpx.PoolTimeout as error:
        raise TimedOut(f"{what}: {_text(error)}", sent=False) from error
    except httpx.TimeoutException as error:
        raise TimedOut(f"{what}: {_text(error)}") from error
    except (httpx.ConnectError, httpx.ProxyError) as error:
        raise ConnectionFailed(_unreachable(url, error), sent=False) from error
    except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
        message = f"{what}: the connection to {url} broke: {_text(error)}"
        raise ConnectionFailed(message) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict) as error:
        raise UnexpectedAnswer(f"{what}: {_text(error)}") from error


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Turn what reading a malformed answer raises into UnexpectedAnswer."""
    try:
        yield
    except (KeyError, TypeError, ValueError, LookupError, AttributeError, OSError) as error:
        raise UnexpectedAnswer(f"{what} is not what offshelf answers: {error!r}") from error


def _unreachable(url: str, error: Exception) -> str:
    reason = re.sub(r"^\[Errno -?\d+\] ", "", _text(error))
    return f"cannot reach {url}: {reason}; start it with `offshelf serve` or set OFFSHELF_URL"


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
