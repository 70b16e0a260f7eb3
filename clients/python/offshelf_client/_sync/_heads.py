# Generated from _async by generate_sync.py; edit there.
"""`client.heads`: training linear models on features of a dataset, and finding them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offshelf_client._models import comparison_of, head_of, job_of
from offshelf_client._sync._head import Head
from offshelf_client._sync._job import Job
from offshelf_client._sync._pages import rows
from offshelf_client._wire import Call, at, feature_params, query, split_body, submission

if TYPE_CHECKING:
    from offshelf_client._models import Dataset, HeadComparison, HeadKind, Split
    from offshelf_client._sync._transport import Transport


class Heads:
    """`client.heads`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def train(
        self,
        dataset: str | Dataset,
        backbone: str | None = None,
        tap: str = "penultimate",
        kind: HeadKind = "svm",
        C: float = 1.0,  # the name it has everywhere
        *,
        view: str = "center",
        pool: str | None = None,
        normalize: str = "none",
        merge: str = "mean",
        weights: str | None = None,
        split: Split | None = None,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> Job:
        """Train a linear head on the features of a dataset, as a queued job.

        The features are those of `client.features`; stacked ones are learned from in one row.
        `kind` is what is trained: linear SVMs (`svm`, `svm-hinge`, `svm-dropout`), logistic
        regression (`logreg`, `logreg-ovr`, `logreg-dropout`), `ridge`, or `nearest-mean`, which
        has no use for the inverse regularisation `C`; docs/heads.md has them exactly. `split`
        says which images train and which test; without one all of them train. `ProtocolSplit(1)`
        is the first split of the protocol that the dataset was uploaded with. Features that
        the service has already are not extracted again. Trained under a `name` that exists, it is
        the next version of it. Raises UnknownNameError,
        InvalidParameterError, WeightsMissingError. Example:
        `job = client.heads.train(dataset, tap="fc7", split=RandomSplit(30))`, then
        `job.wait()` and `head = job.head()`.
        """
        body = {
            "dataset": dataset if isinstance(dataset, str) else dataset.id,
            "kind": kind,
            "C": C,
            "name": name,
            "split": split_body(split),
            **feature_params(backbone, tap, view, pool, normalize, weights, merge),
        }
        call = submission("/v1/heads", body, idempotency_key)
        return Job(self._transport, job_of(self._transport.json(call)))

    def get(self, head: str) -> Head:
        """A head by its id, or as `name` (the newest version), `name:3` or `name:tag`.

        Raises UnknownNameError. Example: `client.heads.get("flowers:2")`.
        """
        data = self._transport.json(Call("GET", at("heads", head)))
        return Head(self._transport, head_of(data))

    def list(
        self,
        limit: int | None = None,
        *,
        name: str | None = None,
        dataset: str | None = None,
        kind: HeadKind | None = None,
        tag: str | None = None,
    ) -> list[Head]:
        """All heads, or the first `limit`, that are of this name, dataset (its id), kind and tag.

        Example: `client.heads.list(name="flowers")`.
        """
        found = rows(
            self._transport, "/v1/heads", limit, name=name, dataset=dataset, kind=kind, tag=tag
        )
        return [Head(self._transport, head_of(data)) for data in found]

    def compare(self, a: str, b: str) -> HeadComparison:
        """What differs between two heads, each by its id or name, and the figures of both.

        `fair` says whether the test figures may be set against each other, `reasons` why not.
        Raises UnknownNameError. Example: `client.heads.compare("flowers:1", "flowers:2")`.
        """
        call = Call("GET", "/v1/heads/compare", query(head=[a, b]))
        return comparison_of(self._transport.json(call))

    def delete(self, head: str) -> None:
        """Remove a head. Raises UnknownNameError. Example: `client.heads.delete(id)`."""
        self._transport.send(Call("DELETE", at("heads", head), safe=False))
