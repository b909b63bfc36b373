"""What the columns of a CSV from anywhere are: seed, state, toggles, metrics, or no part of the analysis.

The user's word comes first, then what names (`csv_names`) and contents tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from harness.analysis.csv_names import (
    SEEDS,
    SETTING,
    SHARES,
    STATE_WORDS,
    Better,
    direction,
    is_about,
    no_toggle,
    plain_name,
    state_of_word,
    telling_word,
)
from harness.analysis.statistics import Floats
from harness.design.kinds import FULL, FULL_MINUS, ORIGIN
from harness.errors import DataError, nearest
from harness.metrics.definitions import METRICS, Metric, Role, base, find_metric
from harness.runs.record import LARGEST, State

ON = frozenset({"1", "1.0", "true", "t", "yes", "y", "on", "enabled"})
_OFF = frozenset({"0", "0.0", "false", "f", "no", "n", "off", "disabled"})
ON_OR_OFF = ON | _OFF
_CODED = frozenset({"-1", "1", "+1", "-1.0", "1.0", "+1.0"})
"""The two levels of a toggle, as books on the design of experiments write them."""
_MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "none", "null", "-", "–", "—"})
"""What stands where there is no number; `nan` is a number that is not finite."""
_NO_VALUE = _MISSING | {"nan"}
_LIKE_A_NUMBER = re.compile(r"[^\w.,]*[.,]?\d")
"""What a reader takes for a number, in whatever form: 81.2%, 1,234.5, 0,81, $ 5, 3 ± 1."""
_STATE = ("state", "status")
FEW_LEVELS = 8
"""Different values, each in several rows, up to which a column may well be a factor."""
_MOSTLY = 0.8
"""Share of 0 and 1 above which all else in a column is a slip."""
_NO_DIRECTION = "nothing says which way is better; see --lower and --higher"


@dataclass(frozen=True)
class CsvColumns:
    """What the user says of the columns; everything else follows from their names and contents."""

    seed: str = "seed"
    toggles: tuple[str, ...] = ()
    """Empty: every column of 0 and 1 that holds both."""
    lower: tuple[str, ...] = ()
    """Metrics where lower is better."""
    higher: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    """Columns of factors: `tau`, or `tau=0.5` with the reference level; by default that of the rows of the origin."""

    def better(self, name: str) -> Better | None:
        """Which way is better of the metric of that name, if it was said."""
        return "lower" if name in self.lower else "higher" if name in self.higher else None


class Sheet:
    """The columns of one CSV by what they are. Raises DataError where a column cannot be what it is said to be."""

    def __init__(self, path: Path, frame: pd.DataFrame, said: CsvColumns) -> None:
        self.path, self.frame, self.said = path, frame, said
        """[rows, columns] of stripped text; the index is the line of the file, its name the header's line, see
        `from_csv.read_frame`."""
        self.names = [str(name) for name in frame.columns]
        self.seed = self.like(said.seed)
        self.state = next((name for word in _STATE if (name := self.like(word)) in self.names), None)
        self.left_out: dict[str, str] = {}
        """Column -> why it takes no part, those that only tell about a run aside."""
        # Columns that are called like the seed or the state that is read, and say something else.
        seed, state = (self.seed, ("seed",), "runs are paired by"), (self.state, _STATE, "states of runs are read from")
        for chosen, words, why in (seed, state):
            for name in self.names if chosen in self.names else ():
                if name != chosen and name.lower() in words and (frame[name] != frame[chosen]).any():
                    self.left_out[name] = f"{why} {chosen}"
        self.levels = self._levels()
        """Column of a factor -> its reference level as the user said it; None where nothing was said."""
        self._check_said()
        self.toggles = self._toggles()
        self.metrics = self._metrics()

    def like(self, wanted: str) -> str:
        """The column of that name, or the only one in other letters, or with what a tracker puts before it.

        `wanted` if there is none.
        """
        if wanted in self.names:
            return wanted
        letters = [name for name in self.names if name.lower() == wanted.lower()]
        similar = letters or [name for name in self.names if plain_name(name) == wanted.lower()]
        return similar[0] if len(similar) == 1 else wanted

    def numbers(self, name: str) -> Floats:
        """[rows]; NaN where the file has none, infinite where a number is too large to be meant."""
        texts = self.frame[name]
        numbers = numeric(texts).to_numpy(np.float64)
        wrong = np.isnan(numbers) & ~texts.str.lower().isin(_NO_VALUE)
        allowed = "a number such as 1234.5, without per cent sign, unit or separator of thousands, or nothing"
        self.refuse(name, wrong, f"{allowed} where there is none")
        return np.where(np.abs(numbers) >= LARGEST, np.copysign(np.inf, numbers), numbers)

    def words(self, name: str) -> list[str]:
        """[rows]; empty where the file has nothing, however it says so, and in a column that is not there."""
        texts = self.frame.get(name, pd.Series("", self.frame.index))
        return texts.mask(texts.str.lower().isin(_NO_VALUE), "").tolist()

    def states(self) -> list[State | None]:
        """[rows]: as the column of states says; None where it says nothing."""
        if self.state is None:
            return [None] * len(self.frame)
        texts = self.frame[self.state]
        wrong = [text != "" and state_of_word(text) is None for text in texts]
        self.refuse(self.state, wrong, f"one of {', '.join(STATE_WORDS)}")
        return [state_of_word(text) for text in texts]

    def refuse(self, name: str, wrong: ArrayLike, allowed: str) -> None:
        """Raises DataError with the line and value of the first row that is wrong, if there is one."""
        for row in np.flatnonzero(wrong).tolist():
            raise DataError(f"{self.line(row)}: {name}: must be {allowed}, not {self.frame[name].iloc[row]!r}")

    def line(self, row: int) -> str:
        """Where a row stands in the file."""
        return f"{self.path}:{self.frame.index[row]}"

    @property
    def header(self) -> str:
        """Where the names of the columns stand."""
        line = self.frame.index.name
        return f"{self.path}:{line}" if line else str(self.path)

    def like_seeds(self) -> list[str]:
        """Columns that may hold the seeds by their names."""
        return [name for name in self.names if no_toggle(name) == SEEDS]

    def _check_said(self) -> None:
        """Refuse columns that are not there, and one that is said to be two things."""
        said = self.said
        options = {
            "--seed": [said.seed] if said.seed != "seed" else [],
            "--toggle": said.toggles,
            "--levels": [*self.levels],
            "--lower and --higher": (*said.lower, *said.higher),
        }
        for option, wanted in options.items():
            for name in (name for name in wanted if name not in self.names):
                near = f"{nearest(name, self.names) or ';'} the columns are {', '.join(self.names)}"
                raise DataError(f"{self.path}: {option}: no column {name!r}{near}")
        if both := sorted({*said.lower} & {*said.higher}):
            raise DataError(f"{self.path}: --lower and --higher both name {', '.join(both)}; keep one")
        parts: dict[str, set[str]] = {"the seed": {self.seed}, "the state": {self.state} if self.state else set()}
        parts |= {"a toggle": set(said.toggles), "a factor": set(self.levels), "a metric": {*said.lower, *said.higher}}
        for (one, names), (other, others) in combinations(parts.items(), 2):
            for name in sorted(names & others):
                raise DataError(f"{self.path}: the column {name!r} is said to be {one} and {other}; keep one")

    def _toggles(self) -> tuple[str, ...]:
        said = tuple(dict.fromkeys(self.said.toggles))
        chosen = said or tuple(name for name in self.names if name not in self.levels and self._is_toggle(name))
        if not chosen and not self.levels:
            fix = f"name them with --toggle, and write 0 or 1 in them; the columns are {', '.join(self.names)}"
            words = [name for name in self.names if self._has_few_words(name)]
            fix += f"; if {words[0]} tells what was trained, say --levels {words[0]}=REFERENCE" if words else ""
            raise DataError(f"{self.path}: no column holds 0 and 1 alone, so there is no toggle; {fix}")
        for name in chosen:
            if name in (ORIGIN, FULL) or name.startswith(FULL_MINUS) or set("+:") & set(name):
                why = f"a toggle may not be called {name!r}, as cells and interactions are named so"
                fix = "give the column another name, or name the toggles with --toggle"
                raise DataError(f"{self.header}: {why}; {fix}")
            allowed = "0 or 1 (false or true; if this is no toggle, name those that are with --toggle)"
            self.refuse(name, ~self.frame[name].str.lower().isin(ON_OR_OFF), allowed)
        return chosen

    def _levels(self) -> dict[str, str | None]:
        """`tau=0.5` as the column and its reference level, which is the text after the first equals sign."""
        levels: dict[str, str | None] = {}
        for said in self.said.levels:
            name, equals, reference = map(str.strip, said.partition("=") if said not in self.names else (said, "", ""))
            if name in levels:
                raise DataError(f"{self.path}: --levels {said}: {name!r} is named twice; keep one")
            levels[name] = reference if equals else None
        return levels

    def _is_toggle(self, name: str) -> bool:
        texts = self.frame[name].str.lower()
        values, plain = set(texts), plain_name(name)
        # A name such as kid_loss may be a toggle's too, if 0 and 1 is all that stands there.
        metric = plain in ("fid", "loss", *METRICS) or bool(find_metric(plain) and not values <= ON_OR_OFF)
        metric |= telling_word(plain) in SHARES
        if self.said.better(name) or name in (self.seed, self.state) or not (values & ON and values & _OFF):
            return False
        if values <= ON_OR_OFF and self._is_told_by_cells(name):
            return True
        if is_about(name) or no_toggle(name) or metric:
            return False
        # Where most of the column is 0 and 1 the rest must be a slip, which is refused with its line.
        return values <= ON_OR_OFF or bool(texts.isin(ON_OR_OFF).mean() >= _MOSTLY)

    def _is_told_by_cells(self, name: str) -> bool:
        """Whether the names of cells speak of it and all say what the column does: X, X+Y, full-minus-X.

        A study's toggle may be called as a metric is, or as what is no toggle: score, best. A name of the user's own
        says nothing.
        """
        known, cells, is_named = {*self.names, ORIGIN, FULL}, self.words(self.like("cell")), False
        for cell, is_on in zip(cells, self.frame[name].str.lower().isin(ON), strict=True):
            parts = cell.removeprefix(FULL_MINUS).split("+")
            is_named |= name in parts
            if known.issuperset(parts) and is_on != (cell == FULL or (name in parts) != cell.startswith(FULL_MINUS)):
                return False
        return is_named

    def _metrics(self) -> tuple[Metric, ...]:
        metrics = []
        for name in self.names:
            if name in (*self.toggles, *self.levels, self.seed, self.state):
                continue
            if metric := self._metric(name):
                metrics.append(metric)
            elif not is_about(name):
                self.left_out.setdefault(name, self._why_no_metric(name))
        if not metrics:
            unclear = [name for name, why in self.left_out.items() if why == _NO_DIRECTION]
            numeric = f"; the numeric columns are {', '.join(unclear)}" if unclear else ""
            fix = "say which with --lower NAME or --higher NAME"
            raise DataError(f"{self.path}: no column is known as a metric{numeric}; {fix}")
        if not any(metric.headline for metric in metrics):
            metrics = [replace(metric, role="headline") for metric in metrics]
        # As in a report, whose runs.csv has its columns by name: those that are known first, in their order.
        order = [*METRICS, ""]
        known = [base(plain_name(metric.name)) for metric in metrics]
        places = [order.index(name if name in METRICS else "") for name in known]
        return tuple(metric for _, metric in sorted(zip(places, metrics, strict=True), key=lambda each: each[0]))

    def _metric(self, name: str) -> Metric | None:
        said, plain, known, named = self.said.better(name), plain_name(name), None, None
        if not SETTING.match(name):  # such as the weight of a loss
            known = find_metric(name) or find_metric(name.lower())
            if known is None and (like := find_metric(plain) or find_metric(plain.removesuffix("_score"))):
                known = replace(like, title=f"{like.title} ({name})")
            if self._has_numbers(name) and (not is_about(name) or name.lower() == "error"):
                named = direction(plain)
        better = said or (known.better if known else named)
        if not better:
            return None
        role: Role = known.role if known else "further"
        metric = replace(
            known or Metric(name, better, "raw", name, "", role, ""),
            name=name,
            better=better,
            role="headline" if said and role == "further" else role,
        )
        numbers = self.numbers(name)
        if metric.unit == "points" and not (np.abs(numbers[np.isfinite(numbers)]) > 1).any():
            metric = replace(metric, unit="")  # a cosine, of which points are 100 times as many
        if metric.scale == "log":
            allowed = "above 0, as distances are compared by ratios (nothing for a failed run)"
            self.refuse(name, (numbers <= 0) & np.isfinite(numbers), allowed)
        return metric

    def _why_no_metric(self, name: str) -> str:
        why, texts = self._why_not(name), self.frame[name]
        few = 2 < texts.nunique() <= FEW_LEVELS and texts.value_counts().min() > 1 and not (texts == "").any()
        return f"{why}; if it is a factor, name it with --levels" if few else why

    def _why_not(self, name: str) -> str:
        texts = self.frame[name]
        if not self._has_numbers(name):
            return "it is empty" if texts.str.lower().isin(_MISSING).all() else "it holds words"
        if texts.nunique() == 1 and len(texts) > 1:
            return "it is the same in every row"
        if no_toggle(name) and set(texts.str.lower()) <= ON_OR_OFF:
            return f"it is called like {no_toggle(name)}; if it is a toggle, name all toggles with --toggle"
        if set(texts) <= _CODED:
            return "it holds -1 and 1; if it is a toggle, write 0 and 1"
        return "it is a setting" if SETTING.match(name) else _NO_DIRECTION

    def _has_few_words(self, name: str) -> bool:
        """Whether it may well tell cells apart, which have several runs each."""
        return name != self.state and not self._has_numbers(name) and 2 <= self.frame[name].nunique() <= FEW_LEVELS

    def _has_numbers(self, name: str) -> bool:
        """Whether a reader sees a number anywhere in the column, in whatever form."""
        texts = self.frame[name]
        return bool((numeric(texts).notna() | texts.str.match(_LIKE_A_NUMBER)).any())


def numeric(texts: pd.Series[str]) -> pd.Series[float]:
    """Numbers; NaN for every other text. The typographic minus is a minus.

    An apostrophe before a sign keeps a spreadsheet from taking the number for a formula, as reports of before wrote it.
    """
    plain = texts.str.replace("\N{MINUS SIGN}", "-").str.replace(r"^'(?=[+-])", "", regex=True)
    return pd.to_numeric(plain, errors="coerce")
