"""Which exceptions a user is told in one line, and how."""

from __future__ import annotations


def one_line(error: BaseException) -> str | None:
    """What to print for an error of the service, the client or the system; None for a bug."""
    # Imported when something failed: `offshelf --help` need not pay for them.
    import offshelf_client
    from offshelf.errors import OffshelfError

    if isinstance(error, offshelf_client.ApiError) and error.request_id:
        return f"{_joined(error)} [{error.code}, request {error.request_id}]{_notes(error)}"
    if isinstance(error, offshelf_client.OffshelfError | OffshelfError | OSError):
        return _joined(error) + _notes(error)
    return None


def _joined(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


def _notes(error: BaseException) -> str:
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
