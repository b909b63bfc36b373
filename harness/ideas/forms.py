"""What each kind of idea looks like: its mark's arguments, its parameters, and the types that a setting may have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge

from harness.ideas import IdeaKind
from harness.models.objective import Count, Fraction, NonNegative, Positive


class SettingType(NamedTuple):
    """A type that a setting of an idea may have."""

    type: Any
    """Of a dataclass's field."""
    words: str
    """What is allowed, to follow "must be"."""
    fits: Callable[[Any], bool]
    is_decimal: bool = False
    """Whether a whole number that is written is stored as 1.0."""

    def stored(self, literal: Any) -> Any:
        return float(literal) if self.is_decimal else literal


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _text(value: Any) -> bool:
    return type(value) is str and not any("\ud800" <= character <= "\udfff" for character in value)


NETWORK = Annotated[str, "the name of a frozen network"]
"""Of a dataclass's field."""


def one_of(values: tuple[Any, ...]) -> SettingType:
    """`Literal[values]`."""
    pairs = [(type(value), value) for value in values]
    return SettingType(Literal[values], " or ".join(map(repr, values)), lambda value: (type(value), value) in pairs)


TYPES: dict[str, SettingType] = {
    "int": SettingType(int, "a whole number", _whole),
    "float": SettingType(float, "a number", _number, True),
    "bool": SettingType(bool, "True or False", lambda value: type(value) is bool),
    "str": SettingType(str, "text", _text),
    "Positive": SettingType(Positive, "a number above 0", lambda value: _number(value) and value > 0, True),
    "NonNegative": SettingType(
        NonNegative, "a number of at least 0", lambda value: _number(value) and value >= 0, True
    ),
    "Count": SettingType(Count, "a whole number of at least 1", lambda value: _whole(value) and value >= 1),
    "Fraction": SettingType(Fraction, "a number from 0 to 1", lambda value: _number(value) and 0 <= value <= 1, True),
    "Network": SettingType(NETWORK, "the name of a network, such as 'timm:resnet50.a1_in1k'", _text),
}
"""Name in an annotation -> type; beside them `Literal[...]` is allowed."""
WIDTHS = {"h": "text_dim", "h_tokens": "text_dim", "w": "w_dim"}
"""What a layer may read -> the width of it, as the constructor is told it behind the channels."""
SIZES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Of the feature maps between which a layer may stand; those above `data.resolution` are not there."""


@dataclass(frozen=True)
class MarkSetting:
    """An argument of a mark that is a setting of the idea too."""

    type: SettingType
    default: Any = None
    """None: it must be written."""


@dataclass(frozen=True)
class Form:
    """Of one kind of idea."""

    calls: tuple[str, ...]
    """What a function gets, or a class of a kind that functions may have: the parameters before `*`."""
    first: Literal["player", "network", ""] = ""
    """The mark's argument that is given by position; empty: the mark has no arguments."""
    settings: Mapping[str, MarkSetting] = field(default_factory=dict)
    makes: tuple[str, ...] | None = None
    """What `__init__` of a class gets, where the kind needs a class; None: functions may have it too."""
    asks: tuple[str, ...] = ()
    """What `__init__` of a class gets where it names it, in a kind that functions may have."""
    reads: tuple[str, ...] = ()
    """What `reads` of its mark may name beside features of the study's own."""

    def made_with(self, reads: Sequence[str]) -> tuple[str, ...]:
        """What `__init__` of a class gets; a layer the widths of what it reads too, each once."""
        widths = dict.fromkeys(WIDTHS[each] for each in reads) if self.makes == ("channels",) else ()
        return (*(self.makes or ()), *widths)


_WEIGHT = MarkSetting(TYPES["NonNegative"], 1.0)
_OF_IMAGES = ("f_c", "f_res", "h_tokens")
FORMS: dict[IdeaKind, Form] = {
    "term": Form(("step",), "player", {"weight": _WEIGHT}, asks=("text_dim",), reads=_OF_IMAGES),
    "penalty": Form(
        calls=("step",),
        first="player",
        settings={"weight": _WEIGHT, "every": MarkSetting(TYPES["Count"], 1)},
        asks=("text_dim",),
        reads=_OF_IMAGES,
    ),
    "adversarial": Form(("player", "logits")),
    "augment": Form(("images", "rng")),
    "layer": Form(
        ("x",), "player", {"at": MarkSetting(one_of(SIZES))}, makes=("channels",), reads=("h", "w", "h_tokens")
    ),
    "discriminator": Form(("images",), makes=("resolution", "text_dim")),
    "feature": Form(
        (),
        "network",
        {
            "network": MarkSetting(TYPES["Network"]),
            "size": MarkSetting(
                SettingType(
                    Annotated[int, Ge(0)], "a whole number of at least 0", lambda value: _whole(value) and value >= 0
                ),
                0,
            ),
        },
    ),
}
