"""The one tree of errors, each with its wire code, HTTP status and whether a retry can help.

OffshelfError
├── RequestError          the caller can mend it
│   ├── InvalidImage            422   ├── UnknownName            404
│   ├── InvalidParameter        422   ├── TooLarge               413
│   ├── FingerprintMismatch     409   ├── NotAcceptable          406
│   ├── UnsupportedMedia        415   ├── MethodNotAllowed       405
│   └── InUse                   409   └── RangeNotSatisfiable    416
├── JobError              the state of a job forbids it
│   ├── JobConflict             409   ├── DeadlineExceeded       504
│   ├── JobCancelled            409   └── JobFailed              500
├── CapacityError         429  come back later (carries Retry-After)
├── DependencyError       503  something we lean on is away
│   ├── WeightsMissing          503   ├── NoWorker               503
│   └── ExportPending           503
└── WorkerError           500  our fault; the text goes to the log, not to the client
    └── DeviceLost              500
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class OffshelfError(Exception):
    """Base of all errors that offshelf raises on purpose."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    @property
    def public_message(self) -> str:
        """What a client may read."""
        return str(self)


class RequestError(OffshelfError):
    """The request is at fault; sending it again unchanged cannot help."""

    code = "invalid_request"
    status = 422


class InvalidImage(RequestError):
    """The bytes are not an image that offshelf reads."""

    code = "invalid_image"


class InvalidParameter(RequestError):
    """A parameter is outside what it may be; the message says what it may be."""

    code = "invalid_parameter"


class UnknownName(RequestError):
    """No backbone, tap, dataset, feature set, transform, head or job of that name."""

    code = "unknown_name"
    status = 404


class TooLarge(RequestError):
    """Over a limit; the message gives the limit."""

    code = "too_large"
    status = 413


class FingerprintMismatch(RequestError):
    """Features of one FeatureSpec were offered to a head or a whitening of another."""

    code = "fingerprint_mismatch"
    status = 409


class NotAcceptable(RequestError):
    """None of the accepted media types can be produced."""

    code = "not_acceptable"
    status = 406


class UnsupportedMedia(RequestError):
    """The request body is of a media type that the route does not read."""

    code = "unsupported_media_type"
    status = 415


class InUse(RequestError):
    """It cannot be deleted: others need it, and the message names them."""

    code = "in_use"
    status = 409


class MethodNotAllowed(RequestError):
    """The route exists, but not for this method."""

    code = "method_not_allowed"
    status = 405


class RangeNotSatisfiable(RequestError):
    """The range that was asked for lies behind the end of the file; the message gives its size."""

    code = "range_not_satisfiable"
    status = 416


class JobError(OffshelfError):
    """The state of a job forbids the operation."""

    code = "job_error"
    status = 409


class JobConflict(JobError):
    """The transition is not allowed from the job's present state, or the key was reused."""

    code = "job_conflict"


class JobCancelled(JobError):
    """The job was cancelled while it ran."""

    code = "job_cancelled"


class JobFailed(JobError):
    """The job ended in failure; the message is its recorded error."""

    code = "job_failed"
    status = 500


class DeadlineExceeded(JobError):
    """The answer did not come before the deadline of the request."""

    code = "deadline_exceeded"
    status = 504
    retryable = True


class CapacityError(OffshelfError):
    """Too much is queued; try again after `retry_after_s` seconds."""

    code = "over_capacity"
    status = 429
    retryable = True

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DependencyError(OffshelfError):
    """Redis, the store or the workers are away.

    The message is for the log: it may name addresses and paths. `public` is what a client may
    read of it.
    """

    code = "dependency_unavailable"
    status = 503
    retryable = True

    def __init__(self, message: str = "", public: str | None = None) -> None:
        super().__init__(message)
        self._public = public

    @property
    def public_message(self) -> str:
        """Bland unless something else was given: addresses and paths stay in the log."""
        return self._public or "something that the service leans on is away; its log has more"


class WeightsMissing(DependencyError):
    """No weights for the backbone here; the message names the file and where to put it.

    `public` is the same without folders of this machine; the message, where that names none.
    """

    code = "weights_missing"
    retryable = False

    @property
    def public_message(self) -> str:
        """Which file, without its folder: who reads it may be on another machine."""
        return self._public or str(self)

    def hide(self, folder: Path) -> None:
        """Leave a folder out of what clients read; the names of the files in it stay."""
        self._public = without_folder(self.public_message, folder)


class NoWorker(DependencyError):
    """No live worker has reported itself."""

    code = "no_worker"

    @property
    def public_message(self) -> str:
        """All of it."""
        return str(self)


class ExportPending(DependencyError):
    """The file is being written; the message says how far it is."""

    code = "export_pending"

    @property
    def public_message(self) -> str:
        """All of it."""
        return str(self)


class WorkerError(OffshelfError):
    """A fault of our own; what it was is in the log under the request id."""

    code = "worker_error"
    retryable = True

    @property
    def public_message(self) -> str:
        """Bland on purpose: internals stay in the log."""
        return "the worker failed on this item; the log has the details"


class DeviceLost(WorkerError):
    """The device is broken for this process: nothing that runs on it can succeed any more."""

    code = "device_lost"


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as data: what travels between processes and stands in per-item results."""

    code: str
    message: str
    status: int
    retryable: bool

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        """Describe any exception; those that are not ours become a bland WorkerError."""
        known = error if isinstance(error, OffshelfError) else WorkerError(str(error))
        return cls(known.code, known.public_message, known.status, known.retryable)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for messages and records."""
        return {
            "code": self.code,
            "message": self.message,
            "status": self.status,
            "retryable": self.retryable,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ErrorInfo:
        """Inverse of `to_dict`."""
        return cls(data["code"], data["message"], int(data["status"]), bool(data["retryable"]))

    def to_exception(self) -> OffshelfError:
        """The exception of this code, for raising on this side of a process boundary."""
        kind = error_codes().get(self.code, WorkerError)
        return kind(self.message)


def without_folder(text: str, folder: Path) -> str:
    """The text with the files of a folder by their names alone."""
    # Paths are told as they were given, and by some libraries as the links in them resolve.
    for known in (folder, folder.resolve()):
        if known.is_absolute() and known.name:
            text = text.replace(f"{known}/", "").replace(str(known), known.name)
    return text


def error_codes() -> dict[str, type[OffshelfError]]:
    """Every wire code and the class that carries it."""
    found: dict[str, type[OffshelfError]] = {}
    todo: list[type[OffshelfError]] = [OffshelfError]
    while todo:
        kind = todo.pop()
        found[kind.code] = kind
        todo.extend(kind.__subclasses__())
    return found
