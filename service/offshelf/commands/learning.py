"""The options that say how a head is trained, the same for every command that trains one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Final, get_type_hints

import typer

PRESETS: Final = ("kornblith", "vissl", "clip")


class Kind(StrEnum):
    """Kinds of heads."""

    SVM = "svm"
    SVM_HINGE = "svm-hinge"
    SVM_DROPOUT = "svm-dropout"
    LOGREG = "logreg"
    LOGREG_OVR = "logreg-ovr"
    LOGREG_DROPOUT = "logreg-dropout"
    RIDGE = "ridge"
    NEAREST_MEAN = "nearest-mean"


class Metric(StrEnum):
    """What held-out images are scored by."""

    ACCURACY = "accuracy"
    MEAN_CLASS_ACCURACY = "mean_class_accuracy"
    MAP_11PT = "map_11pt"
    MAP_ALL_POINT = "map_all_point"


class Intercept(StrEnum):
    """What an intercept is."""

    FREE = "free"
    REGULARISED = "regularised"
    NONE = "none"


class Calibrate(StrEnum):
    """How scores become probabilities."""

    NONE = "none"
    TEMPERATURE = "temperature"
    PLATT = "platt"


def _options(
    c: Annotated[
        str,
        typer.Option(
            "--C",
            "-C",
            help="Inverse strength of the regularisation: a number; or what to choose it from on "
            "held-out training images: 0.1,1,10, or kornblith, vissl, clip.",
            metavar="C|LIST",
        ),
    ],
    folds: Annotated[
        str | None,
        typer.Option(
            help="With a choice of C: so many folds (5), or val: the split's validation images.",
            metavar="N|val",
        ),
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="With a choice of C: one for each class.")
    ] = False,
    metric: Annotated[
        Metric | None,
        typer.Option(help="With a choice of C: its figure; the protocol's own, else accuracy."),
    ] = None,
    class_weight: Annotated[
        list[str] | None,
        typer.Option(help="balanced, or CLASS=FACTOR, once a class.", metavar="balanced|CLASS=W"),
    ] = None,
    positive_weight: Annotated[
        float | None, typer.Option(help="Of the positives of each one-vs-rest problem.")
    ] = None,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="Scale features to mean 0 and deviation 1.")
    ] = False,
    intercept: Annotated[Intercept | None, typer.Option(help="The kind's own if not.")] = None,
    intercept_scale: Annotated[
        float | None, typer.Option(help="Of a regularised intercept (LIBLINEAR's -B).")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Part of the features dropped in training.")
    ] = None,
    learning_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of folds and dropout.")
    ] = None,
    calibrate: Annotated[
        Calibrate | None,
        typer.Option(help="Probabilities by held-out scores: temperature or platt."),
    ] = None,
) -> dict[str, Any]:
    """These options as `client.heads.train` has them; those left out are not there."""
    choice = _given(folds=_folds(folds), per_class=per_class or None, metric=metric)
    return _given(
        C=c_of(c, choice),
        class_weight=_class_weight(class_weight),
        positive_weight=positive_weight,
        standardise=standardise or None,
        intercept=intercept,
        intercept_scale=intercept_scale,
        dropout=dropout,
        seed=learning_seed,
        calibrate=calibrate,
    )


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def with_learning(C: str = "1") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options, as its argument `learning`; `C` is the default of one.

    Typer reads the signature that the command shows.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own, more = (inspect.signature(each).parameters for each in (command, _options))

        @functools.wraps(command)
        def run(**given: Any) -> None:
            learning = _options(**{name: given.pop(name) for name in more})
            command(**given, learning=learning)

        hints = {
            name: hint
            for each in (_options, command)
            for name, hint in get_type_hints(each, include_extras=True).items()
        }
        shown = [
            parameter.replace(
                kind=parameter.KEYWORD_ONLY,
                annotation=hints[name],
                default=C if name == "c" else parameter.default,
            )
            for name, parameter in {**own, **more}.items()
            if name != "learning"
        ]
        run.__annotations__ = {p.name: p.annotation for p in shown} | {"return": None}
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        return run

    return decorate


def c_of(text: str, choice: dict[str, Any]) -> Any:
    """C as the SDK takes it; BadParameter for what is none."""
    from offshelf_client import ChooseC

    listed: Any = text if text in PRESETS else [_number(part) for part in text.split(",")]
    if text not in PRESETS and len(listed) == 1:
        if choice:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in choice)
            raise typer.BadParameter(
                f"{names} is of a choice: give several, 0.1,1,10, or one of {', '.join(PRESETS)}",
                param_hint="-C",
            )
        return listed[0]
    return ChooseC(listed, **choice)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no number, and none of {', '.join(PRESETS)}", param_hint="-C"
        ) from None


def _folds(text: str | None) -> Any:
    if text in (None, "val"):
        return text
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a number nor val", param_hint="--folds")
    return int(text)


def _class_weight(given: list[str] | None) -> Any:
    """`balanced`, or factors by class."""
    if not given or given == ["balanced"]:
        return "balanced" if given else None
    factors = {}
    for text in given:
        name, _, factor = text.rpartition("=")
        try:
            factors[name] = float(factor)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(
                f"{text!r}: balanced alone, or CLASS=FACTOR, once a class",
                param_hint="--class-weight",
            )
    return factors
