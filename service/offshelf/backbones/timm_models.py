"""Cards for timm's models, made when asked for: `timm:resnet50.a1_in1k`; needs the extra `timm`.

What a card says is timm's own `pretrained_cfg` (Wightman, "PyTorch Image Models") and the graph of
the model. The weights are the publisher's safetensors on the Hugging Face hub.
"""

from __future__ import annotations

import difflib
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from offshelf.backbones.interface import Card, PublishedWeights, Tap
from offshelf.backbones.tracing import Shapes
from offshelf.core.spec import Interpolation, Preprocessing
from offshelf.errors import InvalidParameter, UnknownName

if TYPE_CHECKING:
    import torch

PREFIX: Final = "timm:"
_HUB: Final = "https://huggingface.co"
_CARDS_KEPT: Final = 64
_TAGS_NAMED: Final = 8


@dataclass(frozen=True, slots=True)
class TimmBuild:
    """Builds a model of timm by its name there."""

    model: str

    def __call__(self, classes: int | None = None) -> torch.nn.Module:
        """The network, untrained, at the input size of its weights."""
        import timm

        asked = {} if classes is None else {"num_classes": classes}
        network: torch.nn.Module = timm.create_model(self.model, pretrained=False, **asked)
        return network


@functools.lru_cache(_CARDS_KEPT)
def timm_card(name: str) -> Card:
    """The card of `timm:<model>`, with the tag of its weights, or without for no weights.

    Raises UnknownName, with close matches or where timm is not installed, and InvalidParameter
    for a model that torch.fx cannot trace or whose pictures are made in a way that
    `Preprocessing` cannot say.
    """
    model = name.removeprefix(PREFIX)
    cfg = _pretrained_cfg(name, model)
    pre = _preprocessing(name, cfg)
    try:
        taps = _taps(model, cfg, pre.crop)
    except ValueError as error:
        raise InvalidParameter(f"{name} cannot be cut into taps: {error}") from error
    return Card(
        name=name,
        build=TimmBuild(model),
        taps=taps,
        preprocessing=pre,
        weights=_weights(model, cfg),
        classes=cfg.num_classes,
        paper=cfg.paper_ids if isinstance(cfg.paper_ids, str) else ", ".join(cfg.paper_ids or ()),
    )


def _pretrained_cfg(name: str, model: str) -> Any:
    """What timm knows of a model's weights; of those that it is made for, where none are named."""
    try:
        from timm.models import get_pretrained_cfg, is_model, list_models
    except ImportError as error:
        raise UnknownName(
            f"no backbone named {name!r}: timm is not installed; pip install 'offshelf[timm]'"
        ) from error
    architecture, _, tag = model.partition(".")
    known = list_models(pretrained=True) if tag else list_models()
    if not is_model(architecture) or model not in known:
        raise UnknownName(_unknown(model, known))
    return get_pretrained_cfg(model)


def _unknown(model: str, known: list[str]) -> str:
    """As `registry.unknown` says it, but for a thousand names, which nobody wants to read."""
    close = difflib.get_close_matches(model, known, n=3, cutoff=0.6)
    names = " or ".join(f"{PREFIX}{name}" for name in close)
    hint = f"did you mean {names}?" if close else f"of its {len(known)} names none is like it"
    return f"timm has no model named {model!r}; {hint}"


def _preprocessing(name: str, cfg: Any) -> Preprocessing:
    """As `timm.data.create_transform` does it: the short side to floor(size / crop_pct)."""
    from timm.data import resolve_data_config

    data = resolve_data_config(pretrained_cfg=cfg.to_dict())
    channels, height, width = data["input_size"]
    wrong = (
        (channels != 3 or height != width, f"input of {channels} x {height} x {width}"),
        (data["crop_mode"] != "center", f"crop mode {data['crop_mode']!r}"),
        (data["interpolation"] not in get_args(Interpolation), f"{data['interpolation']} resizing"),
    )
    for is_wrong, what in wrong:
        if is_wrong:
            raise InvalidParameter(
                f"{name} wants {what}; offshelf has the centre crop of 3 x N x N, bilinear or "
                "bicubic"
            )
    return Preprocessing(
        resize=math.floor(height / data["crop_pct"]),
        crop=height,
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )


def _taps(model: str, cfg: Any, side: int) -> tuple[Tap, ...]:
    """`penultimate`, which the classifier reads, and `logits`.

    Without a classifier there is only the former, with two that are averaged only the latter.
    """
    shapes = Shapes(TimmBuild(model), side)
    end = shapes.output()
    if not cfg.num_classes:
        return (Tap("penultimate", end, shapes.shape(end)),)
    logits = Tap("logits", end, shapes.shape(end))
    if not isinstance(cfg.classifier, str):
        return (logits,)
    before = shapes.before(cfg.classifier)
    return Tap("penultimate", before, shapes.shape(before)), logits


def _weights(model: str, cfg: Any) -> PublishedWeights:
    """The hub's safetensors; nothing to download where no weights are named or others are needed.

    Weights that timm itself converts when it loads them would not fit as they are.
    """
    licence = f"{cfg.license}, as timm states it" if cfg.license else "timm states none"
    architecture, _, tag = model.partition(".")
    url = absence = ""
    if not tag:
        absence = _name_one(architecture)
    elif not cfg.hf_hub_id or cfg.custom_load == "hf" or cfg.hf_hub_filename:
        absence = "they are not on the Hugging Face hub in a form that fits as it is"
    else:
        url = f"{_HUB}/{cfg.hf_hub_id}/resolve/main/model.safetensors"
    return PublishedWeights(
        name=tag or model,
        url=url,
        sha256_prefix="",
        licence=licence,
        file=f"timm-{model}.safetensors",
        absence=absence,
    )


def _name_one(architecture: str) -> str:
    """Which weights there are: none of them is taken by default."""
    from timm.models import list_pretrained

    names = [f"{PREFIX}{name}" for name in list_pretrained(f"{architecture}.*")]
    if not names:
        return "timm publishes none"
    more = f" and {len(names) - _TAGS_NAMED} more" if len(names) > _TAGS_NAMED else ""
    return f"its name leaves open which; there are {', '.join(names[:_TAGS_NAMED])}{more}"
