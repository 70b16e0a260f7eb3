"""Trains adaptation layers on the features of windows, by stochastic gradient descent.

Two ways: on labelled windows (Oquab et al., CVPR 2014), and on images of which only the labels are
known, each scored by its best window (CVPR 2015). After every epoch the whole state goes to the
caller; a training that goes on from such a state ends as if it had never stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from offshelf.adaptation.layers import AdaptationLayers, Output, scaled
from offshelf.adaptation.schedule import Schedule, Steps
from offshelf.errors import InvalidParameter, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    State = dict[str, Any]

HIDDEN: Final = 2048  # of FCa (Oquab et al., CVPR 2014, section 3)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the layers are trained. `scale` None is the root of the dimensions; see `layers`.

    `dropout` is on FCa; the paper's is that of Krizhevsky et al., and not told. `balanced` draws
    every class as often as any other, with replacement, an epoch's count of windows in all.
    `batch` counts windows, or images where only those have labels.
    """

    hidden: int = HIDDEN
    dropout: float = 0.5
    scale: float | None = None
    schedule: Schedule = field(default_factory=Steps)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 256
    balanced: bool = False
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not (0 <= self.dropout < 1 and self.hidden >= 1 and self.batch >= 1):
            raise InvalidParameter("dropout is 0 or more and below 1; hidden and batch 1 or more")

    def scale_of(self, dimensions: int) -> float:
        """The length that features are brought to."""
        return math.sqrt(dimensions) if self.scale is None else self.scale


@dataclass(frozen=True, slots=True)
class Windows:
    """Features of windows (N, D), which may be mapped from a file, and the class of each (N,).

    `rows` are the numbers of those that train; `outputs` is how many classes there are.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    outputs: int

    output: Output = "softmax"

    def order(self, recipe: Recipe, rng: np.random.Generator) -> NDArray[np.int64]:
        """What an epoch goes through, shuffled."""
        if not recipe.balanced:
            return rng.permutation(self.rows)
        labels = self.labels[self.rows]
        present, counts = np.unique(labels, return_counts=True)
        weight = 1.0 / (len(present) * counts[np.searchsorted(present, labels)])
        return rng.choice(self.rows, len(self.rows), p=weight)

    def loss(self, net: _Layers, part: NDArray[np.int64], recipe: Recipe) -> Tensor:
        """The mean cross-entropy of some windows."""
        target = torch.from_numpy(self.labels[part]).to(recipe.device)
        return nn.functional.cross_entropy(net(_rows(self.features, part, recipe)), target)


@dataclass(frozen=True, slots=True)
class Images:
    """Images as bags of windows: those of image i are rows `starts[i]` up to `starts[i + 1]`.

    `labels` (I, K) are 1, -1, or 0 where an image does not count for a class; `rows` are the
    numbers of the images that train.
    """

    features: NDArray[np.float32]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]

    output: Output = "sigmoid"

    @property
    def outputs(self) -> int:
        """How many classes there are."""
        return int(self.labels.shape[1])

    def order(self, recipe: Recipe, rng: np.random.Generator) -> NDArray[np.int64]:
        """What an epoch goes through, shuffled."""
        if recipe.balanced:
            raise InvalidParameter("balanced classes need a label for each window")
        return rng.permutation(self.rows)

    def loss(self, net: _Layers, part: NDArray[np.int64], recipe: Recipe) -> Tensor:
        """The mean over some images of sum_k log(1 + exp(-y_k max over windows of f_k))."""
        spans = [np.arange(self.starts[image], self.starts[image + 1]) for image in part]
        counts = torch.tensor([len(span) for span in spans], device=recipe.device)
        scores = net(_rows(self.features, np.concatenate(spans), recipe))
        image = torch.repeat_interleave(torch.arange(len(part), device=recipe.device), counts)
        index = image[:, None].expand_as(scores)
        best = scores.new_full((len(part), self.outputs), -torch.inf)
        best = best.scatter_reduce(0, index, scores, "amax", include_self=False)
        sign = torch.from_numpy(self.labels[part]).to(best)
        losses = nn.functional.softplus(-sign * best) * sign.abs()
        return losses.sum() / len(part)


def train(
    data: Windows | Images,
    recipe: Recipe,
    state: State | None = None,
    after_epoch: Callable[[AdaptationLayers, State], None] = lambda *_: None,
    check: Callable[[], None] = lambda: None,
) -> AdaptationLayers:
    """The layers after the schedule's last epoch; `state` is what a training before had come to.

    `after_epoch` gets the layers as they are and the state, whose `losses` has the mean loss of
    each epoch. `check` is called before every batch and may raise to stop. Raises
    InvalidParameter without anything to train on, WorkerError when the loss is no number any more.
    """
    if not len(data.rows):
        raise InvalidParameter("nothing to train on: no window, or image, has a label")
    run = _Run(data, recipe)
    if state is not None:
        run.load(state)
    while (rate := recipe.schedule.rate(run.losses)) is not None:
        run.epoch(rate, check)
        after_epoch(run.layers(), run.state())
    return run.layers()


class _Layers(nn.Module):
    """FCa, ReLU, dropout, FCb. The masks of the dropout come from a generator of its own."""

    def __init__(self, dimensions: int, outputs: int, recipe: Recipe) -> None:
        super().__init__()
        self.fca = nn.Linear(dimensions, recipe.hidden)
        self.fcb = nn.Linear(recipe.hidden, outputs)
        self._dropout = recipe.dropout
        self.generator = torch.Generator(recipe.device).manual_seed(recipe.seed)

    def forward(self, features: Tensor) -> Tensor:
        hidden = torch.relu(self.fca(features))
        if self._dropout:
            drawn = torch.rand(hidden.shape, generator=self.generator, device=hidden.device)
            hidden = hidden * (drawn >= self._dropout) / (1 - self._dropout)
        scores: Tensor = self.fcb(hidden)
        return scores


class _Run:
    """One training: the network, its optimiser, and all that its next epoch depends on."""

    def __init__(self, data: Windows | Images, recipe: Recipe) -> None:
        self._data, self._recipe = data, recipe
        self.losses: list[float] = []
        self._rng = np.random.default_rng(recipe.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            net = _Layers(data.features.shape[1], data.outputs, recipe)
        self._net = net.to(recipe.device)
        self._optimiser = torch.optim.SGD(
            net.parameters(),
            lr=1.0,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
        )

    def epoch(self, rate: float, check: Callable[[], None]) -> None:
        """Go through the data once."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        total = 0.0
        order = self._data.order(self._recipe, self._rng)
        for part in _batches(order, self._recipe.batch):
            check()
            loss = self._data.loss(self._net, part, self._recipe)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            total += loss.item() * len(part)
        if not math.isfinite(total):
            raise WorkerError("the training diverged: its loss is no number; take a lower rate")
        self.losses.append(total / len(order))

    def layers(self) -> AdaptationLayers:
        """The layers as they are, copied."""
        values = {
            name: value.cpu().numpy().copy() for name, value in self._net.state_dict().items()
        }
        return AdaptationLayers(
            values["fca.weight"],
            values["fca.bias"],
            values["fcb.weight"],
            values["fcb.bias"],
            self._recipe.scale_of(self._data.features.shape[1]),
            self._data.output,
        )

    def state(self) -> State:
        """All that the next epoch depends on; `torch.save` writes it."""
        return {
            "losses": list(self.losses),
            "net": {name: value.clone() for name, value in self._net.state_dict().items()},
            "optimiser": self._optimiser.state_dict(),
            "order": self._rng.bit_generator.state,
            "dropout": self._net.generator.get_state(),
        }

    def load(self, state: State) -> None:
        """Be where another run was."""
        self.losses = list(state["losses"])
        self._net.load_state_dict(state["net"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rng.bit_generator.state = state["order"]
        self._net.generator.set_state(state["dropout"])


def _rows(features: NDArray[np.float32], part: NDArray[np.int64], recipe: Recipe) -> Tensor:
    """Some features, at the length that they are trained at."""
    picked = scaled(features[part], recipe.scale_of(features.shape[1]))
    return torch.from_numpy(picked).to(recipe.device)


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(order), size):
        yield order[first : first + size]
