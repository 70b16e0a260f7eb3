"""Train embednet on Tiny-ImageNet with a SqueezeNet teacher; stop it at any time, run it again."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import augment
import cache
import numpy as np
import teach
import torch
from network import CLASSES, TrainingNet
from numpy import uint8
from pace import Pace
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Recipe:
    """Every choice that decides the outcome; stored in each checkpoint and checked on resuming."""

    seed: int = 1
    epochs: int = 40
    batch: int = 128
    peak_rate: float = 0.1
    warmup: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dropout: float = 0.1
    smoothing: float = 0.1
    smallest_crop: float = 0.3
    jitter: float = 0.4
    erased: float = 0.25
    mixed: float = 0.3
    label_share: float = 0.6
    mimic6: float = 2.0
    mimic7: float = 1.0
    ema: float = 0.998
    sides: tuple[tuple[float, int], ...] = ((0.0, 48), (0.25, 56), (0.5, 64))

    def side(self, progress: float) -> int:
        """The training size at a point of the schedule, 0..1."""
        return [side for start, side in self.sides if progress >= start][-1]

    def rate(self, progress: float) -> float:
        """Linear warm-up, then half a cosine to zero."""
        if progress < self.warmup:
            return self.peak_rate * (progress + 1e-4) / self.warmup
        rest = (progress - self.warmup) / (1 - self.warmup)
        return self.peak_rate * (1 + math.cos(math.pi * rest)) / 2


@dataclass(frozen=True)
class Data:
    """Memory-mapped pixels, labels and teacher maps."""

    pixels: NDArray[uint8]
    labels: Tensor
    maps: NDArray[uint8]
    val_pixels: Tensor
    val_labels: Tensor
    teacher: teach.Teacher
    teacher_top1: float


def load_data(data: Path, folder: Path, weights: Path, device: str) -> Data:
    """Decode and teach on first use, then map the results."""
    pixels, labels = cache.decode_split(data, "train", folder)
    val_pixels, val_labels = cache.decode_split(data, "val", folder)
    maps, scale = cache.teach_split(pixels, "train", folder, weights, device)
    val_maps, _ = cache.teach_split(val_pixels, "val", folder, weights, device)
    truth, val_truth = torch.from_numpy(labels), torch.from_numpy(val_labels)
    fitted, top1 = teach.fit(
        (maps, truth), (val_maps, val_truth), scale, folder / "teacher-head.safetensors"
    )
    val = torch.from_numpy(np.array(val_pixels))
    return Data(pixels, truth, maps, val, val_truth, teach.Teacher(scale, fitted, device), top1)


class Run:
    """The network, its moving average, the optimiser and the position, saved and loaded whole.

    All randomness of a step is drawn from (seed, step), so no generator's state needs saving.
    """

    def __init__(self, recipe: Recipe, data: Data, device: str) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.data, self.device = recipe, data, device
        self.net = self._network()
        self.average = self._network()
        self.average.load_state_dict(self.net.state_dict())
        self.average.eval()
        self.optimiser = self._optimiser()
        self.step = 0
        self.per_epoch = len(data.pixels) // recipe.batch

    def _network(self) -> TrainingNet:
        net = TrainingNet(cache.TEACHER_WIDTH, self.recipe.dropout).to(self.device)
        return net.to(memory_format=torch.channels_last)

    def _optimiser(self) -> torch.optim.SGD:
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        free = [p for p in self.net.parameters() if p.ndim == 1]
        groups = [
            {"params": decayed, "weight_decay": self.recipe.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        return torch.optim.SGD(
            groups, lr=self.recipe.peak_rate, momentum=self.recipe.momentum, nesterov=True
        )

    @property
    def progress(self) -> float:
        """How much of the schedule has been run, 0..1."""
        return self.step / (self.per_epoch * self.recipe.epochs)

    def rows(self) -> NDArray[np.int64]:
        """The images of the present step: a slice of this epoch's own permutation."""
        epoch, place = divmod(self.step, self.per_epoch)
        order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self.data.pixels))
        return order[place * self.recipe.batch : (place + 1) * self.recipe.batch]

    def advance(self) -> dict[str, float]:
        """One optimiser step; returns its losses."""
        seed = self.recipe.seed * 10_000_019 + self.step
        rng = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout draws from the global generator
        rate = self.recipe.rate(self.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        losses = self._losses(self.rows(), rng)
        total = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self._follow()
        self.step += 1
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _losses(self, rows: NDArray[np.int64], rng: torch.Generator) -> dict[str, Tensor]:
        recipe = self.recipe
        images, crops = self._view(rows, rng)
        maps = torch.from_numpy(self.data.maps[rows]).to(self.device)
        lesson = self.data.teacher.lesson(maps, crops)
        truth = functional.one_hot(self.data.labels[rows], CLASSES).float().to(self.device)
        odds = lesson.scores.softmax(1)
        targets = [truth, odds, lesson.quadrants, lesson.whole]
        if float(torch.rand((), generator=rng)) < recipe.mixed:
            share = 0.6 + 0.4 * float(torch.rand((), generator=rng))
            images, *targets = [torch.lerp(x.flip(0), x, share) for x in (images, *targets)]
        truth, odds, quadrants, whole = targets
        with torch.autocast(self.device, torch.bfloat16):
            scores, guess6, guess7 = self.net(images)
        logs = scores.float().log_softmax(1)
        smooth = truth * (1 - recipe.smoothing) + recipe.smoothing / CLASSES
        return {
            "label": -(smooth * logs).sum(1).mean() * recipe.label_share,
            "teacher": -(odds * logs).sum(1).mean() * (1 - recipe.label_share),
            "mimic6": functional.mse_loss(guess6.float(), quadrants) * recipe.mimic6,
            "mimic7": functional.mse_loss(guess7.float(), whole) * recipe.mimic7,
        }

    def _view(self, rows: NDArray[np.int64], rng: torch.Generator) -> tuple[Tensor, augment.Crops]:
        recipe = self.recipe
        pixels = torch.from_numpy(self.data.pixels[rows]).to(self.device).float()
        crops = augment.draw_crops(len(rows), recipe.smallest_crop, rng)
        images = augment.cut(pixels, crops, recipe.side(self.progress))
        images = augment.refocus(augment.recolour(images, recipe.jitter, rng), rng)
        images = augment.erase(cache.normalise(images), recipe.erased, rng)
        return images.contiguous(memory_format=torch.channels_last), crops

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(self.recipe.ema, (self.step + 1) / (self.step + 10))
        mine, theirs = self.average.state_dict(), self.net.state_dict()
        moving = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in moving], [theirs[n] for n in moving], 1 - keep)

    def state(self) -> dict[str, Tensor]:
        """Everything a later process needs, as named tensors."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, slot in self.optimiser.state_dict()["state"].items():
            if slot["momentum_buffer"] is not None:
                tensors[f"momentum.{index}"] = slot["momentum_buffer"]
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}

    def save(self, path: Path) -> None:
        """Write a checkpoint that is either whole or absent."""
        partial = path.with_suffix(".partial")
        facts = {"step": str(self.step), "recipe": json.dumps(asdict(self.recipe))}
        save_file(self.state(), partial, metadata=facts)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same recipe."""
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts["recipe"] != json.dumps(asdict(self.recipe)):
            raise SystemExit(f"{path} was made with another recipe: {facts['recipe']}")
        self.step = int(facts["step"])
        self.net.load_state_dict(_part(tensors, "net."))
        self.average.load_state_dict(_part(tensors, "average."))
        state = self.optimiser.state_dict()
        state["state"] = {
            int(index): {"momentum_buffer": _laid_out(value)}
            for index, value in _part(tensors, "momentum.").items()
        }
        self.optimiser.load_state_dict(state)

    @torch.inference_mode()
    def top1(self, side: int) -> float:
        """Validation accuracy of the moving average on whole images resized to `side`."""
        right = 0
        for start in range(0, len(self.data.val_labels), 250):
            pixels = self.data.val_pixels[start : start + 250].float()
            if side != cache.SIDE:
                pixels = functional.interpolate(
                    pixels, size=side, mode="bilinear", align_corners=False
                )
            images = cache.normalise(pixels).to(self.device, memory_format=torch.channels_last)
            with torch.autocast(self.device, torch.bfloat16):
                scores = self.average(images)[0]
            right += int(
                (scores.argmax(1).cpu() == self.data.val_labels[start : start + 250]).sum()
            )
        return right / len(self.data.val_labels)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _laid_out(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value


class Journal:
    """Epoch lines for the card, and step lines that show progress."""

    def __init__(self, out: Path) -> None:
        self._path = out / "log.jsonl"
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._began = time.monotonic()

    def add(self, losses: dict[str, float]) -> None:
        """Count one step's losses towards the epoch's means."""
        self._steps += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """The mean losses since the last epoch line (of this process)."""
        return {name: round(value / self._steps, 4) for name, value in self._sums.items()}

    def progress(self, run: Run) -> None:
        """Print where the run is and how fast it goes."""
        rate = self._steps * run.recipe.batch / (time.monotonic() - self._began)
        line = {"step": run.step, "progress": round(run.progress, 4), "images_per_s": round(rate)}
        print(json.dumps(line | self.means()), flush=True)

    def epoch(self, run: Run) -> None:
        """Validate and append the epoch's line."""
        seconds = time.monotonic() - self._began
        line: dict[str, Any] = {
            "epoch": run.step // run.per_epoch,
            "step": run.step,
            "side": run.recipe.side(run.progress),
            "rate": round(run.recipe.rate(run.progress), 6),
            "losses": self.means(),
            "val_top1": {str(side): run.top1(side) for side in (64, 72)},
            "seconds": round(seconds, 1),
            "threads": torch.get_num_threads(),
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        self._sums, self._steps, self._began = {}, 0, time.monotonic()


def train(run: Run, out: Path, stop_after: int, every: float) -> None:
    """Run to the end of the schedule, or of epoch `stop_after`, saving every `every` seconds."""
    path, journal, saved = out / "checkpoint.safetensors", Journal(out), time.monotonic()
    pace = Pace(torch.get_num_threads() if run.device == "cpu" else 1)
    if path.exists():
        run.load(path)
        print(json.dumps({"resumed_at_step": run.step}), flush=True)
    while run.step < run.per_epoch * min(stop_after, run.recipe.epochs):
        journal.add(run.advance())
        pace.step()
        whole = run.step % run.per_epoch == 0
        if run.step % 50 == 0:
            journal.progress(run)
        if whole:
            journal.epoch(run)
        if whole or time.monotonic() - saved > every:
            run.save(path)
            saved = time.monotonic()


def parse() -> argparse.Namespace:
    """The command line."""
    root = Path(os.environ.get("OFFSHELF_TEST_DATA", "../shared"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=root / "data")
    parser.add_argument("--teacher", type=Path, help="default: DATA/../weights/squeezenet1_0...")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints and logs")
    parser.add_argument("--cache", type=Path, help="decoded images, teacher maps (default: OUT)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--stop-after", type=int, default=10**6, help="end after this epoch")
    parser.add_argument("--save-every", type=float, default=150.0, help="seconds")
    return parser.parse_args()


def main() -> None:
    """Prepare the data, then train."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    weights = args.teacher or args.data.parent / "weights" / "squeezenet1_0.safetensors"
    data = load_data(args.data, args.cache or args.out, weights, args.device)
    recipe = Recipe(seed=args.seed, epochs=args.epochs)
    print(
        json.dumps({"recipe": asdict(recipe), "teacher_head_top1": data.teacher_top1}), flush=True
    )
    train(Run(recipe, data, args.device), args.out, args.stop_after, args.save_every)


if __name__ == "__main__":
    main()
