"""A trained head: what it is, how well it does, and what it says of images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from offshelf_client import _io_async
from offshelf_client._archive import absolute
from offshelf_client._async._images import send_images
from offshelf_client._batches import BATCH_IMAGES, CONCURRENCY
from offshelf_client._errors import ApiError
from offshelf_client._evaluation import Evaluation, evaluation_of
from offshelf_client._features import all_failed
from offshelf_client._models import HeadInfo, Prediction, Report, head_of
from offshelf_client._predictions import Predicted, predicted, predictions_of
from offshelf_client._wire import Call, at, image_form, json_body, sendable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from offshelf_client._async._transport import AsyncTransport
    from offshelf_client._images import Encoded, Images
    from offshelf_client._models import ExportKind
    from offshelf_client._progress import ProgressOption


class AsyncHead:
    """A linear model on the service. Example: `(await head.predict("cat.jpg"))[0].label`."""

    def __init__(self, transport: AsyncTransport, info: HeadInfo) -> None:
        self._transport = transport
        self.info = info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.info.kind}, {len(self.classes)} classes>"

    @property
    def id(self) -> str:
        """Its identifier."""
        return self.info.id

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that it tells apart."""
        return self.info.classes

    @property
    def report(self) -> Report:
        """How it did on its training and test images."""
        return Report(self.info.train, self.info.test, self.info.protocol)

    async def predict(
        self,
        images: Images,
        *,
        on_error: Literal["raise", "skip"] = "raise",
        batch_size: int = BATCH_IMAGES,
        concurrency: int = CONCURRENCY,
        progress: ProgressOption = False,
    ) -> list[Prediction]:
        """What it says of each image, in order; images as for `client.features`.

        With `on_error="skip"` images that fail are left out; `Prediction.index` says which
        image of the call each is. Raises ImagesFailed, which lists all that failed, otherwise.
        """
        parts = await send_images(
            images,
            self._ask,
            lambda part: part.items,
            batch_size=batch_size,
            concurrency=concurrency,
            progress=progress,
        )
        return predictions_of(parts, on_error)

    async def give_name(self, name: str) -> None:
        """Make it the next version of a name; it was trained without one, and keeps this one.

        Raises InvalidParameterError for a head of another name. Example:
        `await head.give_name("flowers")`, then `head.info.ref` is `flowers:1`.
        """
        call = Call("PUT", at("heads", self.id, "name"), json_body({"name": name}))
        self.info = head_of(await self._transport.json(call))

    async def tag(self, tag: str) -> None:
        """Let a tag stand here; it leaves the head of the same name at which it stood.

        Raises InvalidParameterError for a head without a name. Example: `await head.tag("prod")`.
        """
        call = Call("PUT", at("heads", self.id, "tags", quote(tag, safe="")))
        self.info = head_of(await self._transport.json(call))

    async def untag(self, tag: str) -> None:
        """Take a tag away. Raises UnknownNameError where it does not stand here."""
        where = at("heads", self.id, "tags", quote(tag, safe=""))
        await self._transport.send(Call("DELETE", where, safe=False))
        left = tuple(one for one in self.info.tags if one != tag)
        self.info = replace(self.info, tags=left)

    async def export(
        self,
        kind: ExportKind,
        path: str | Path,
        *,
        progress: ProgressOption = False,
        timeout: float | None = None,  # noqa: ASYNC109  # the same name in the synchronous client
    ) -> Path:
        """Download it as one file, whose sha256 is checked; the path.

        `safetensors`: weights and card. `python`: a zip with a script that needs numpy only.
        `onnx`: from features to scores. `onnx-full`: from uint8 RGB images (N, H, W, 3) to scores,
        network and preprocessing included; a worker makes it, which `progress` and `timeout` are
        for, as in `Job.wait`. docs/registry.md says how to use each. Raises InvalidParameterError
        for a head that has no such form. Example: `await head.export("onnx-full", "head.onnx")`.
        """
        from offshelf_client._async._exports import export

        return await export(self._transport, self.id, kind, path, progress, timeout)

    async def evaluation(self) -> Evaluation:
        """All figures of its test: confusions, classes, calibration, hardest samples.

        Raises UnknownNameError for a head that was trained before the scores of tests were kept.
        Example: `(await head.evaluation()).confusion`.
        """
        return evaluation_of(await self._transport.json(self._report("application/json")))

    async def report_html(self, path: str | Path | None = None) -> str:
        """Its report as one HTML page that needs no other file, written to `path` if one is given.

        Raises what `evaluation` does. Example: `await head.report_html("report.html")`.
        """
        text = (await self._transport.send(self._report("text/html"))).text
        if path is not None:
            file = absolute(path)
            await _io_async.blocking(lambda: file.write_text(text, encoding="utf-8"))
        return text

    async def delete(self) -> None:
        """Remove it from the service."""
        await self._transport.send(Call("DELETE", at("heads", self.id), safe=False))

    def _report(self, accept: str) -> Call:
        return Call("GET", at("heads", self.id, "report"), headers={"Accept": accept})

    async def _ask(self, images: Sequence[Encoded]) -> Predicted:
        sent = sendable(images)
        if not sent:
            return predicted(images, (), {"predictions": []})
        call = Call("POST", at("heads", self.id, "predict"), image_form(sent, {}))
        try:
            return predicted(images, sent, await self._transport.json(call))
        except ApiError as error:
            items = all_failed(images, sent, error)
            if items is None:
                raise
            return Predicted(items, ())
