"""What every part of the wire is made of: strict models, names, errors, pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from offshelf.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from offshelf.errors import ErrorInfo

# Names come back in answers, and in an error for every image: short ones, no small request
# grows into a large answer.
MAX_NAME_CHARS: Final = 64
# Of a normalisation: digests have 64 digits each.
MAX_CHAIN_CHARS: Final = 512
Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
T = TypeVar("T")


def canonical(read: Callable[[str], str]) -> AfterValidator:
    """Brings a text to its one form, in pydantic's way."""

    def validate(text: str) -> str:
        try:
            return read(text)
        except InvalidParameter as error:
            raise PydanticCustomError(error.code, "{why}", {"why": str(error)}) from error

    return AfterValidator(validate)


class Strict(BaseModel):
    """A model that refuses unknown fields, so that a misspelt parameter is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorBody(Strict):
    """Why an item failed."""

    code: str
    message: str
    retryable: bool = False

    @classmethod
    def of(cls, info: ErrorInfo) -> ErrorBody:
        """An error as it travels between processes, as a client sees it."""
        return cls(code=info.code, message=info.message, retryable=info.retryable)


class WeightsBody(Strict):
    """Which weights answered. `random` is true where nothing was ever learned.

    `asked` is what to pass as `weights` to get them again; none for the backbone's own.
    """

    source: str
    label: str
    digest: str
    licence: str
    random: bool
    asked: str | None = None


class Page(Strict, Generic[T]):
    """A page of a list; `after` is what to pass as `after` for the next one."""

    items: list[T]
    has_more: bool
    after: str | None = None


class Problem(BaseModel):
    """RFC 9457 problem details, with our code, whether a retry can help, and the request id."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    request_id: str
