"""The client: features of images, backbones, and the doors to datasets, heads and jobs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from offshelf_client._async._datasets import AsyncDatasets
from offshelf_client._async._feature_sets import AsyncFeatureSets
from offshelf_client._async._heads import AsyncHeads
from offshelf_client._async._images import send_images
from offshelf_client._async._jobs import AsyncJobs
from offshelf_client._async._transforms import AsyncTransforms
from offshelf_client._async._transport import AsyncTransport
from offshelf_client._batches import BATCH_IMAGES, CONCURRENCY
from offshelf_client._boxes import BATCH_BOXED, box_fields, check_boxes, check_count
from offshelf_client._config import Retry, Timeout, base_url
from offshelf_client._errors import ApiError, ImagesFailed
from offshelf_client._features import Features, Part, all_failed, joined, part_of, unsent
from offshelf_client._models import Backbone, SelfTest, backbone_of, self_test_of
from offshelf_client._paging import rows_of
from offshelf_client._wire import (
    NPZ,
    Call,
    Form,
    at,
    feature_params,
    image_form,
    query,
    sendable,
    tap_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    import httpx

    from offshelf_client._boxes import Boxes
    from offshelf_client._images import Encoded, Images
    from offshelf_client._progress import ProgressOption


class AsyncClient:
    """Speaks with one offshelf service; safe to share between tasks and threads.

    `url` is the service's address (else the variable OFFSHELF_URL, else this machine's port
    8765). `transport` is httpx's, for tests and special networks. Use it in a `with` block, or
    call its closing method in the end. Example:

        async with AsyncClient() as client:
            features = await client.features("photos/", taps=["fc6", "fc7:pre"])
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: Timeout | None = None,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = base_url(url)
        self._transport = AsyncTransport(
            self.url, timeout or Timeout(), retry or Retry(), transport
        )
        self.datasets = AsyncDatasets(self._transport)
        self.feature_sets = AsyncFeatureSets(self._transport)
        self.heads = AsyncHeads(self._transport)
        self.jobs = AsyncJobs(self._transport)
        self.transforms = AsyncTransforms(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def features(
        self,
        images: Images,
        backbone: str | None = None,
        taps: str | Sequence[str] = "penultimate",
        view: str = "center",
        pool: str | None = None,
        normalize: str = "none",
        weights: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        *,
        merge: str = "mean",
        boxes: Boxes | None = None,
        windows: str | None = None,
        batch_size: int = BATCH_IMAGES,
        concurrency: int = CONCURRENCY,
        progress: ProgressOption = False,
    ) -> Features:
        """The activations of one or many images at one or many taps, in one pass.

        `images`: a path, a folder (all images in it, sorted), bytes, a uint8 array (H, W, 3) or
        (H, W), a PIL image, a binary file, or an iterable of those. Many images go in several
        requests of `batch_size`, `concurrency` of them at a time, with only those in memory.

        `taps`: `"fc7"` (after its ReLU), `"fc7:pre"` (before it), `["conv5", "fc6"]`, ...
        `view`: `center` (the weights' own preset), `warp` (aspect ignored), `squash`,
        `five_crop`, `ten_crop`, `multi_scale:256,384`, `dense:256,384` (whole images),
        `razavian`, any of them with `+hflip`, `+vflip`, `+rotate:DEG`, `+mirror`. `merge` says
        what becomes of several inputs: their `mean`, `concat`, or `stack`. `pool` for maps:
        `none`, `avg`, `max`, `grid:N`, `pyramid:1,2,4`; None is the tap's own. `normalize`:
        `none`, or steps such as `l2`, `power:0.5,l2`, `l2,whiten:<id>,l2` (see
        `client.transforms`). `weights`: None for the trained ones, `random:<seed>` for seeded
        random ones.

        `boxes`: for every image a list of (left, top, right, bottom) in pixels; `windows`:
        `pyramid`, `pyramid:1,1.3,2;overlap=0.65` or `stride:SIDE,STEP`. Either way each box has
        a row, and the answer's `.image_index` and `.boxes` say which: cut out and seen by the
        view as an image is, or, under the view `maps:Q1,Q2`, pooled from the maps of the whole
        image (`pool` also `align:N`), which is much faster. They go 2 images a request.

        Returns tap -> float32 (N, D), or (N, C, H, W) for maps that are not pooled, with an
        axis of inputs after the first under `merge="stack"`. With
        `on_error="skip"` images that fail have no row, and `.kept` says which have one.
        Raises ImagesFailed, which lists all that failed, otherwise; UnreadableImage for a path
        that is not there and where there are no images at all; UnknownNameError,
        InvalidParameterError, WeightsMissingError; OverCapacityError, NoWorkerError,
        ConnectionFailed, TimedOut after all retries.

        Example: `(await client.features("cat.jpg", taps="fc7"))["fc7"]` is (1, 4096).
        """
        names = tap_names(taps)
        fields: Form = feature_params(backbone, names, view, pool, normalize, weights, merge)
        check_boxes(boxes, windows)
        boxed = boxes is not None or windows is not None
        parts = await send_images(
            images,
            partial(self._ask, fields, lambda sent: box_fields(boxes, windows, sent)),
            lambda part: part.items,
            batch_size=min(batch_size, BATCH_BOXED) if boxed else batch_size,
            concurrency=concurrency,
            progress=progress,
        )
        features = joined(parts, names, boxed)
        check_count(boxes, len(features.items))
        failed = [item for item in features.items if item.status == "error"]
        if failed and on_error == "raise":
            raise ImagesFailed(failed, len(features.items))
        return features

    async def backbones(self) -> list[Backbone]:
        """The networks that the service runs. Example: `(await client.backbones())[0].taps`."""
        page = await self._transport.json(Call("GET", "/v1/backbones"))
        return [backbone_of(data) for data in rows_of(page)]

    async def backbone(self, name: str) -> Backbone:
        """One network. Raises UnknownNameError. Example: `await client.backbone("alexnet")`."""
        return backbone_of(await self._transport.json(Call("GET", at("backbones", name))))

    async def health(self, live: bool = False) -> dict[str, Any]:
        """What the service says of itself; with `live` only whether its process is there.

        Raises DependencyError or NoWorkerError when it is not ready, after the retries of this
        client. Example: `(await client.health())["workers"]`.
        """
        path = "/livez" if live else "/readyz"
        told: dict[str, Any] = await self._transport.json(Call("GET", path))
        return told

    async def selftest(self, backbone: str | None = None, weights: str | None = None) -> SelfTest:
        """Let every worker try a backbone: features on record, batches, devices, resizers.

        Takes as long as loading it and some batches do. Raises NoWorkerError. Example:
        `(await client.selftest("alexnet", weights="random:0")).passed`.
        """
        given = query(backbone=backbone, weights=weights)
        return self_test_of(await self._transport.json(Call("GET", "/v1/selftest", given)))

    async def _ask(
        self,
        fields: Form,
        more: Callable[[Sequence[Encoded]], Form],
        images: Sequence[Encoded],
    ) -> Part:
        sent = sendable(images)
        if not sent:
            return unsent(images)
        call = Call("POST", "/v1/features", image_form(sent, fields | more(sent)), {"Accept": NPZ})
        try:
            return part_of(images, sent, (await self._transport.send(call)).content)
        except ApiError as error:
            items = all_failed(images, sent, error)
            if items is None:
                raise
            return Part(items, {}, None)
