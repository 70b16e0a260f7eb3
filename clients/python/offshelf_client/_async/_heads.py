"""`client.heads`: training linear models on features of a dataset, and finding them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from offshelf_client._async._head import AsyncHead
from offshelf_client._async._job import AsyncJob
from offshelf_client._async._pages import rows
from offshelf_client._async._search import AsyncSearch, search
from offshelf_client._learning import ChooseC, c_body, options_body
from offshelf_client._models import comparison_of, head_of, job_of
from offshelf_client._wire import (
    Call,
    at,
    feature_params,
    low_shot_body,
    query,
    split_body,
    submission,
    tap_names,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from offshelf_client._async._transport import AsyncTransport
    from offshelf_client._evaluation import LowShot
    from offshelf_client._learning import COption
    from offshelf_client._models import Dataset, HeadComparison, HeadKind, Split
    from offshelf_client._progress import ProgressOption


class AsyncHeads:
    """`client.heads`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def train(
        self,
        dataset: str | Dataset,
        backbone: str | None = None,
        tap: str = "penultimate",
        kind: HeadKind = "svm",
        C: COption = 1.0,  # the name it has everywhere
        *,
        view: str = "center",
        pool: str | None = None,
        normalize: str = "none",
        merge: str = "mean",
        weights: str | None = None,
        split: Split | None = None,
        class_weight: Literal["balanced"] | Mapping[str, float] | None = None,
        positive_weight: float | None = None,
        standardise: bool | None = None,
        intercept: Literal["free", "regularised", "none"] | None = None,
        intercept_scale: float | None = None,
        dropout: float | None = None,
        seed: int | None = None,
        calibrate: Literal["none", "temperature", "platt"] | None = None,
        low_shot: LowShot | Mapping[str, Any] | None = None,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> AsyncJob:
        """Train a linear head on the features of a dataset, as a queued job.

        The features are those of `client.features`; stacked ones are learned from in one row.
        `kind` is what is trained: linear SVMs (`svm`, `svm-hinge`, `svm-dropout`), logistic
        regression (`logreg`, `logreg-ovr`, `logreg-dropout`), `ridge`, or `nearest-mean`, which
        has no use for the inverse regularisation `C`; docs/heads.md has them exactly. `C` is a
        number, or `ChooseC("vissl")`: the best of a list on held-out training images. The
        options from `class_weight` to `calibrate` are docs/heads.md's too; those left out are
        the kind's own. `split` says which images train and which test; without one all of them
        train. `ProtocolSplit(1)` is the first split of the protocol that the dataset was
        uploaded with. `low_shot`, e.g. `LowShot((1, 2, 4))`, also draws a low-shot curve, for
        the head's `evaluation()`. Features that the service has already are not extracted again.
        Trained under a `name` that exists, it is the next version of it. Raises UnknownNameError,
        InvalidParameterError, WeightsMissingError. Example:
        `job = await client.heads.train(dataset, tap="fc7", split=RandomSplit(30))`, then
        `await job.wait()` and `head = await job.head()`.
        """
        body = {
            "dataset": dataset if isinstance(dataset, str) else dataset.id,
            "kind": kind,
            "C": c_body(C),
            "name": name,
            "split": split_body(split),
            **low_shot_body(low_shot),
            **feature_params(backbone, tap, view, pool, normalize, weights, merge),
            **options_body(
                class_weight=class_weight,
                positive_weight=positive_weight,
                standardise=standardise,
                intercept=intercept,
                intercept_scale=intercept_scale,
                dropout=dropout,
                seed=seed,
                calibrate=calibrate,
            ),
        }
        call = submission("/v1/heads", body, idempotency_key)
        return AsyncJob(self._transport, job_of(await self._transport.json(call)))

    async def search(
        self,
        dataset: str | Dataset,
        backbone: str | None = None,
        taps: str | Sequence[str] = "penultimate",
        kinds: HeadKind | Sequence[HeadKind] = "svm",
        C: COption | None = None,
        *,
        views: str | Sequence[str] = "center",
        pools: str | Sequence[str | None] | None = None,
        normalizes: str | Sequence[str] = "l2",
        merge: str = "mean",
        weights: str | None = None,
        split: Split | None = None,
        name: str = "",
        keep: bool = False,
        progress: ProgressOption = False,
        **options: Any,
    ) -> AsyncSearch:
        """Try every combination of taps, views, pools, normalisations and kinds of heads.

        Each is a head of `train` whose C is chosen on held-out training images (`C` is
        `ChooseC()` if it is left out), and the one that does best on those is taken: what the
        heads do on test images is not looked at. It alone becomes a version of `name`. All
        taps are extracted in one pass. `options` are those of `train`. The other heads are
        deleted unless `keep`. Lists of
        normalisations hold whole chains: `["l2", "power:0.5,l2"]`. Raises what `train` and
        waiting for it raise; what is queued is cancelled then. Example:
        `found = await client.heads.search(dataset, taps=["fc6", "fc7"])`, `found.best.C`.
        """
        lists = {"view": views, "pool": pools, "normalize": normalizes, "kind": kinds}
        settings = {
            option: [given] if given is None or isinstance(given, str) else list(given)
            for option, given in lists.items()
        }
        if isinstance(C, float | int):
            raise TypeError(f"a search chooses C: a list, as in ChooseC([0.1, 1, 10]), not {C}")
        training = {"C": ChooseC() if C is None else C, "split": split, **options}
        if name:
            await self.list(1, name=name)  # one that cannot be is refused now, not in the end
        found = await search(
            self,
            self._transport,
            dataset,
            tap_names(taps),
            settings,
            {"backbone": backbone, "weights": weights, "merge": merge},
            training,
            keep=keep,
            progress=progress,
        )
        if name:
            await found.head.give_name(name)
        return found

    async def get(self, head: str) -> AsyncHead:
        """A head by its id, or as `name` (the newest version), `name:3` or `name:tag`.

        Raises UnknownNameError. Example: `await client.heads.get("flowers:2")`.
        """
        data = await self._transport.json(Call("GET", at("heads", head)))
        return AsyncHead(self._transport, head_of(data))

    async def list(
        self,
        limit: int | None = None,
        *,
        name: str | None = None,
        dataset: str | None = None,
        kind: HeadKind | None = None,
        tag: str | None = None,
    ) -> list[AsyncHead]:
        """All heads, or the first `limit`, that are of this name, dataset (its id), kind and tag.

        Example: `await client.heads.list(name="flowers")`.
        """
        found = await rows(
            self._transport, "/v1/heads", limit, name=name, dataset=dataset, kind=kind, tag=tag
        )
        return [AsyncHead(self._transport, head_of(data)) for data in found]

    async def compare(self, a: str, b: str) -> HeadComparison:
        """What differs between two heads, each by its id or name, and the figures of both.

        `fair` says whether the test figures may be set against each other, `reasons` why not.
        Raises UnknownNameError. Example: `await client.heads.compare("flowers:1", "flowers:2")`.
        """
        call = Call("GET", "/v1/heads/compare", query(head=[a, b]))
        return comparison_of(await self._transport.json(call))

    async def delete(self, head: str) -> None:
        """Remove a head. Raises UnknownNameError. Example: `await client.heads.delete(id)`."""
        await self._transport.send(Call("DELETE", at("heads", head), safe=False))
