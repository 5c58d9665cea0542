"""Which hyps of Ultralytics evolve, from where to where, and with which values they begin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tmuxevolve.config import Interval, Session
from tmuxevolve.errors import UsageError
from tmuxevolve.study.mutation import Bounds
from tmuxevolve.trainers import hyps

if TYPE_CHECKING:
    from tmuxevolve.trainers.ultralytics_command import UltralyticsCommand

SPACE: Mapping[str, Bounds] = MappingProxyType(
    {
        "lr0": Bounds(1, 1e-5, 0.01),
        "lrf": Bounds(1, 0.01, 1.0),
        "momentum": Bounds(0.3, 0.7, 0.98),
        "weight_decay": Bounds(1, 0.0, 0.001),
        "warmup_epochs": Bounds(1, 0.0, 5.0),
        "warmup_momentum": Bounds(1, 0.0, 0.95),
        "box": Bounds(1, 1.0, 20.0),
        "cls": Bounds(1, 0.1, 4.0),
        "cls_pw": Bounds(1, 0.0, 1.0),
        "dfl": Bounds(1, 0.4, 12.0),
        "hsv_h": Bounds(1, 0.0, 0.1),
        "hsv_s": Bounds(1, 0.0, 0.9),
        "hsv_v": Bounds(1, 0.0, 0.9),
        "degrees": Bounds(1, 0.0, 45.0),
        "translate": Bounds(1, 0.0, 0.9),
        "scale": Bounds(1, 0.0, 0.95),
        "shear": Bounds(1, 0.0, 10.0),
        "perspective": Bounds(1, 0.0, 0.001),
        "flipud": Bounds(1, 0.0, 1.0),
        "fliplr": Bounds(1, 0.0, 1.0),
        "bgr": Bounds(1, 0.0, 1.0),
        "mosaic": Bounds(1, 0.0, 1.0),
        "mixup": Bounds(1, 0.0, 1.0),
        "cutmix": Bounds(1, 0.0, 1.0),
        "copy_paste": Bounds(1, 0.0, 1.0),
        "close_mosaic": Bounds(1, 0.0, 10.0, digits=0),
    }
)
"""Gain and limits of each hyp, from Ultralytics 8.4.190's engine/tuner.py (a gain is 1 there when
it is not given)."""

DEFAULTS: Mapping[str, float] = MappingProxyType(
    {
        "lr0": 0.01,
        "lrf": 0.01,
        "momentum": 0.937,
        "weight_decay": 0.0005,
        "warmup_epochs": 3.0,
        "warmup_momentum": 0.8,
        "box": 7.5,
        "cls": 0.5,
        "dfl": 1.5,
        "hsv_h": 0.015,
        "hsv_s": 0.7,
        "hsv_v": 0.4,
        "degrees": 0.0,
        "translate": 0.1,
        "scale": 0.5,
        "shear": 0.0,
        "perspective": 0.0,
        "flipud": 0.0,
        "fliplr": 0.5,
        "mosaic": 1.0,
        "mixup": 0.0,
        "copy_paste": 0.0,
    }
)
"""What Ultralytics begins with, from its cfg/default.yaml, the same in 8.0.239, 8.1.47, 8.2.103,
8.3.0, 8.3.253, 8.4.0 and 8.4.190."""

# Younger than some of these versions, which refuse to start on a hyp that they do not know: they
# take part when the user names them. Values from 8.4.190's default.yaml.
_YOUNGER = {"cls_pw": 0.0, "bgr": 0.0, "cutmix": 0.0, "close_mosaic": 10.0}
# Whole numbers there, of what can be told to evolve: refused when they have a decimal point.
_WHOLE = {"close_mosaic", "nbs", "mask_ratio", "batch", "imgsz", "epochs"}
_BEGINNING = "it has no value to begin with: give it one in the command, or in evolve.hyp"
_UNTUNED = "it is not tuned: leave it to the command, or give it min and max in evolve.space"
# What optimizer=auto, the default, replaces (engine/trainer.py, build_optimizer).
_CHOSEN_BY_AUTO = ("lr0", "momentum")


def base(session: Session, command: UltralyticsCommand) -> dict[str, float]:
    """Return the hyps to begin with: evolve.hyp before the command before its cfg= file.

    Raises UsageError for a value that is no number, and for a hyp without bounds.
    """
    bounded = {n for n, given in session.evolve.space.items() if isinstance(given, Interval)}
    known = SPACE.keys() | bounded
    values: dict[str, float | None] = {**DEFAULTS}
    values |= {name: value for name, value in _YOUNGER.items() if name in bounded}
    values |= _from_cfg(command, known)
    values |= {name: _written(command, name) for name in command.values if name in known}
    values |= _from_session(session, known)
    for name in sorted(bounded - values.keys()):
        where = f"{session.source}: sessions.{session.name}.evolve.space.{name}"
        raise UsageError(f"{where}: {_unknown(name) or _BEGINNING}")
    ordered = sorted(values, key=[*SPACE, *sorted(known - SPACE.keys())].index)
    return {name: value for name in ordered if (value := values[name]) is not None}


def space(base: Mapping[str, float], command: UltralyticsCommand) -> dict[str, Bounds]:
    """Return how far these hyps may go: as in the tuner, or as far as where they begin.

    Those that the optimizer chooses by itself stay as they are.
    """
    still = _CHOSEN_BY_AUTO if command.optimizer == "auto" else ()
    return {
        name: _reaching(SPACE[name], value)
        for name, value in base.items()
        if name in SPACE and name not in still
    }


def notes(command: UltralyticsCommand) -> tuple[str, ...]:
    """Return what to tell the user about the hyps."""
    if command.optimizer != "auto":
        return ()
    return (
        "optimizer=auto chooses lr0 and momentum by itself, so they do not evolve:"
        " name one (optimizer=AdamW) and they do",
    )


def words(hyp: Mapping[str, float]) -> tuple[str, ...]:
    """Return hyps as Ultralytics reads them from a command line, without losing a digit."""
    return tuple(
        f"{name}={round(value) if name in _WHOLE else value!r}" for name, value in hyp.items()
    )


def _reaching(bounds: Bounds, value: float) -> Bounds:
    lower, upper = min(bounds.lower, value), max(bounds.upper, value)
    return Bounds(bounds.gain, lower, upper, bounds.digits)


def _written(command: UltralyticsCommand, name: str) -> float | None:
    """Return a hyp of the command; None for a pair, such as scale=(0.5,1.5), which stays there."""
    text = command.values[name]
    if text.startswith(("(", "[")):
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise command.conflict(f"{name}={text}: expected a number, such as {name}=0.01")
    return value


def _from_cfg(command: UltralyticsCommand, known: set[str]) -> dict[str, float | None]:
    """Return the hyps in the command's cfg= file, which holds settings of all kinds."""
    path = command.cfg_file()
    if path is None:
        return {}
    document = hyps.mapping(path)
    return {
        name: None if isinstance(value, list) else hyps.number(document, name, value)
        for name, value in document.data.items()
        if name in known
    }


def _from_session(session: Session, known: set[str]) -> dict[str, float]:
    """Return the hyps of evolve.hyp, a mapping or a file."""
    given = hyps.given(session)
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise hyps.refused(session, "hyp", f"{unknown}: {_unknown(unknown) or _UNTUNED}")
    return given


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, SPACE, 1, 0.6)
    return f"there is no such hyp; did you mean {near[0]!r}?" if near else ""
