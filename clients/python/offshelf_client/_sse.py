"""Reads server-sent events (the HTML standard, 9.2) line by line."""

from __future__ import annotations

import json

from offshelf_client._errors import understood
from offshelf_client._models import JobEvent


class EventParser:
    """Gathers lines into events; knows nothing of the connection."""

    def __init__(self) -> None:
        self._id = ""
        self._data: list[str] = []

    def feed(self, line: str) -> JobEvent | None:
        """Take a line without its end; the event that it completes, if any."""
        if not line:
            return self._finish()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "data":
            self._data.append(value)
        return None

    def _finish(self) -> JobEvent | None:
        text, self._data = "\n".join(self._data), []
        if not text:
            return None
        with understood("an event of the job"):
            data = json.loads(text)
            if not isinstance(data, dict):
                raise TypeError(f"an object was expected: {text[:100]}")
        return JobEvent(self._id, data)
