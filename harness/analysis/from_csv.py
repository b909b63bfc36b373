"""Results from elsewhere: a CSV of runs to the table that is analysed. No torch here.

A row a run: toggle columns of 0 and 1, a seed column, metric columns. An empty metric is a failed run, a value that is
not finite a diverged one, unless a `state` column says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import csv_words
from harness.analysis.csv_frame import read_frame
from harness.analysis.csv_words import Better
from harness.analysis.statistics import Floats
from harness.analysis.table import Column, Ints, RunTable
from harness.design.kinds import FULL, FULL_MINUS, ORIGIN, DesignCell, Subset, name_of, toggles_of
from harness.errors import DataError
from harness.metrics.definitions import METRICS, Metric, Role, find
from harness.runs.record import LARGEST, State
from harness.study.overlay import nearest

_TRUTH = (*csv_words.ON, *csv_words.OFF)
_MOSTLY = 0.8
"""Share of 0 and 1 above which all else in a column is a slip."""
_NO_DIRECTION = "nothing says which way is better; see --lower and --higher"
LeftOut = Mapping[str, str]
"""Column -> why it takes no part."""


@dataclass(frozen=True)
class Reading:
    """What the user says of the columns; everything else is told by their names and contents."""

    seed: str = "seed"
    toggles: tuple[str, ...] = ()
    """Empty: every column of 0 and 1 that holds both."""
    lower: tuple[str, ...] = ()
    """Metrics where lower is better."""
    higher: tuple[str, ...] = ()

    def better(self, name: str) -> Better | None:
        return "lower" if name in self.lower else "higher" if name in self.higher else None


def read_csv(path: Path, reading: Reading) -> tuple[RunTable, LeftOut]:
    """The table of a CSV, and the columns that take no part in it, those that only tell about a run aside.

    Raises DataError.
    """
    return _Sheet(path, read_frame(path), reading).table()


class _Sheet:
    """One CSV while it is read."""

    def __init__(self, path: Path, frame: pd.DataFrame, reading: Reading) -> None:
        self.path, self.frame, self.reading = path, frame, reading
        self.names = [str(name) for name in frame.columns]
        self.seed = self._like(reading.seed)
        self.state = next((name for word in ("state", "status") if (name := self._like(word)) in self.names), None)
        self.left_out = self._second_ones()
        self._known([reading.seed] if reading.seed != "seed" else [], "--seed")
        self._known(reading.toggles, "--toggle")
        self._known((*reading.lower, *reading.higher), "--lower and --higher")
        self._one_part_each()

    def table(self) -> tuple[RunTable, LeftOut]:
        toggles = self._toggles()
        metrics = self._metrics(toggles)
        numbers = np.column_stack([self._numbers(metric.name) for metric in metrics])
        subsets = self._subsets(toggles)
        cells = self._cells(subsets, toggles)
        states = self._states([metric.name for metric in metrics], numbers)
        places = {cell.toggles: place for place, cell in enumerate(cells)}
        done = np.array([[state == "done"] for state in states])
        values = np.where(done, numbers, np.nan).T
        table = RunTable(
            toggles=toggles,
            cells=cells,
            cell=np.array([places[subset] for subset in subsets], dtype=np.int64),
            seed=self._seeds(subsets),
            states=states,
            columns=tuple(_column(*pair, len(cells)) for pair in zip(metrics, values, strict=True)),
            trained=tuple(("", digest) for digest in self.frame.get(csv_words.WEIGHTS, ())),
        )
        self._once(table)
        return table, self.left_out

    def _like(self, wanted: str) -> str:
        """The column of that name, or the only one in other letters, or with what a tracker puts before it.

        `wanted` if there is none.
        """
        if wanted in self.names:
            return wanted
        letters = [name for name in self.names if name.lower() == wanted.lower()]
        found = letters or [name for name in self.names if csv_words.plain(name) == wanted.lower()]
        return found[0] if len(found) == 1 else wanted

    def _second_ones(self) -> dict[str, str]:
        """Columns that are called like the one that is read, and say something else."""
        read = (("seed", self.seed, "runs are paired by"), ("state", self.state, "states of runs are read from"))
        words = {"seed": ("seed",), "state": ("state", "status")}
        return {
            name: f"{told} {chosen}"
            for part, chosen, told in read
            for name in self.names
            if chosen in self.names and name != chosen and name.lower() in words[part]
            if (self.frame[name] != self.frame[chosen]).any()
        }

    def _one_part_each(self) -> None:
        """Refuse a column that is said to be two things."""
        said = self.reading
        parts: dict[str, set[str]] = {"the seed": {self.seed}, "the state": {self.state} if self.state else set()}
        parts |= {"a toggle": set(said.toggles), "a metric": {*said.lower, *said.higher}}
        for (one, names), (other, others) in combinations(parts.items(), 2):
            for name in sorted(names & others):
                raise DataError(f"{self.path}: the column {name!r} is said to be {one} and {other}; keep one")

    def _known(self, wanted: Iterable[str], said: str) -> None:
        for name in wanted:
            if name not in self.names:
                near = nearest(name, self.names) or ";"
                raise DataError(f"{self.path}: {said}: no column {name!r}{near} the columns are {self._all_names()}")

    def _all_names(self) -> str:
        return ", ".join(self.names)

    def _toggles(self) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(self.reading.toggles)) or tuple(
            name for name in self.names if self._is_toggle(name)
        )
        if not chosen:
            fix = f"name them with --toggle, and write 0 or 1 in them; the columns are {self._all_names()}"
            raise DataError(f"{self.path}: no column holds 0 and 1 alone, so there is no toggle; {fix}")
        for name in chosen:
            if name in (ORIGIN, FULL) or name.startswith(FULL_MINUS) or set("+:") & set(name):
                told = f"a toggle may not be called {name!r}, as cells and interactions are named so"
                fix = "give the column another name, or name the toggles with --toggle"
                raise DataError(f"{self.path}:1: {told}; {fix}")
            allowed = "0 or 1 (false or true; if this is no toggle, name those that are with --toggle)"
            self._refuse(name, ~self.frame[name].str.lower().isin(_TRUTH), allowed)
        return chosen

    def _is_toggle(self, name: str) -> bool:
        values = {value.lower() for value in self.frame[name].unique()}
        said = self.reading.better(name) or name in (self.seed, self.state)
        if csv_words.about(name) or said or csv_words.no_idea(name) or self._is_metric(name, values):
            return False
        both = bool(values & csv_words.ON) and bool(values & csv_words.OFF)
        return both and (values <= set(_TRUTH) or self._mistyped(name))

    def _is_binary(self, name: str) -> bool:
        return set(self.frame[name].str.lower()) <= set(_TRUTH)

    def _is_metric(self, name: str, values: set[str]) -> bool:
        """A name such as kid_loss may be a toggle's too, if 0 and 1 is all that stands there."""
        plain = csv_words.plain(name)
        return plain in ("fid", *METRICS) or bool(find(plain) and not values <= set(_TRUTH))

    def _mistyped(self, name: str) -> bool:
        """Whether so much of the column is 0 and 1 that the rest must be a slip, which is refused with its line."""
        return bool(self.frame[name].str.lower().isin(_TRUTH).mean() >= _MOSTLY)

    def _metrics(self, toggles: Sequence[str]) -> tuple[Metric, ...]:
        found = []
        for name in self.names:
            if name in (*toggles, self.seed, self.state):
                continue
            metric = self._metric(name)
            if metric:
                found.append(metric)
            elif not csv_words.about(name):
                self.left_out.setdefault(name, self._why_no_metric(name))
        if not found:
            unclear = [name for name, why in self.left_out.items() if why == _NO_DIRECTION]
            told = f"; the numeric columns are {', '.join(unclear)}" if unclear else ""
            fix = "say which with --lower NAME or --higher NAME"
            raise DataError(f"{self.path}: no column is known as a metric{told}; {fix}")
        if not any(metric.headline for metric in found):
            found = [replace(metric, role="headline") for metric in found]
        return tuple(found)

    def _why_no_metric(self, name: str) -> str:
        texts = self.frame[name]
        if not self._has_numbers(name):
            return "it is empty" if texts.str.lower().isin(csv_words.MISSING).all() else "it holds words"
        if texts.nunique() == 1 and len(texts) > 1:
            return "it is the same in every row"
        if csv_words.no_idea(name) and self._is_binary(name):
            return f"it is called like {csv_words.no_idea(name)}; if it is a toggle, name all toggles with --toggle"
        if set(texts) <= csv_words.CODED:
            return "it holds -1 and 1; if it is a toggle, write 0 and 1"
        return "it is a setting" if csv_words.is_setting(name) else _NO_DIRECTION

    def _has_numbers(self, name: str) -> bool:
        """Whether a reader sees a number anywhere in the column, in whatever form."""
        texts = self.frame[name]
        return bool((csv_words.numeric(texts).notna() | texts.map(csv_words.like_a_number)).any())

    def _metric(self, name: str) -> Metric | None:
        said, known = self.reading.better(name), self._known_metric(name)
        named = csv_words.direction(name) if self._has_numbers(name) else None
        better = said or (None if csv_words.about(name) and name.lower() != "error" else named)
        if known:
            role: Role = "headline" if said and known.role == "further" else known.role
            metric = replace(known, name=name, better=said or known.better, role=role)
        elif better:
            metric = Metric(name, better, "raw", name, "", "headline" if said else "further", "")
        else:
            return None
        if metric.scale == "log":
            numbers = self._numbers(name)
            wrong = pd.Series((numbers <= 0) & np.isfinite(numbers), self.frame.index)
            self._refuse(name, wrong, "above 0, as distances are compared by ratios (nothing for a failed run)")
        return metric

    @staticmethod
    def _known_metric(name: str) -> Metric | None:
        if csv_words.is_setting(name):
            return None
        known = find(name) or find(name.lower())
        if known is None and (known := find(csv_words.plain(name))):
            known = replace(known, title=f"{known.title} ({name})")
        return known

    def _numbers(self, name: str) -> Floats:
        texts = self.frame[name]
        numbers = csv_words.numeric(texts).to_numpy(dtype=np.float64, copy=True)
        wrong = np.isnan(numbers) & ~texts.str.lower().isin({*csv_words.MISSING, "nan"}).to_numpy()
        allowed = "a number such as 1234.5, without per cent sign, unit or separator of thousands, or nothing"
        self._refuse(name, pd.Series(wrong, self.frame.index), f"{allowed} where there is none")
        return np.where(np.abs(numbers) >= LARGEST, np.copysign(np.inf, numbers), numbers)

    def _refuse(self, name: str, wrong: pd.Series[bool], allowed: str) -> None:
        rows = np.flatnonzero(wrong.to_numpy())
        if len(rows):
            value = self.frame[name].iloc[rows[0]]
            raise DataError(f"{self._line(int(rows[0]))}: {name}: must be {allowed}, not {value!r}")

    def _line(self, row: int) -> str:
        """Where a row stands in the file."""
        return f"{self.path}:{self.frame.index[row]}"

    def _subsets(self, toggles: tuple[str, ...]) -> list[Subset]:
        on = np.column_stack([self.frame[name].str.lower().isin(csv_words.ON) for name in toggles])
        return [tuple(name for name, there in zip(toggles, row, strict=True) if there) for row in on.tolist()]

    def _cells(self, subsets: Sequence[Subset], toggles: tuple[str, ...]) -> tuple[DesignCell, ...]:
        """In the order of the file; named by its column `cell` where that names them one to one."""
        column = self._like("cell")
        own = self.frame[column].tolist() if column in self.names else [""] * len(subsets)
        pairs = dict.fromkeys(zip(subsets, own, strict=True))
        distinct = dict.fromkeys(subsets)
        if not any(own) or column in (*toggles, self.seed):
            return tuple(DesignCell(name_of(subset, toggles, {}), subset) for subset in distinct)
        if not len(pairs) == len(distinct) == len({name for _, name in pairs}) or not all(n for _, n in pairs):
            self.left_out[column] = "it does not name each combination of the toggles by a name of its own"
            return tuple(DesignCell(name_of(subset, toggles, {}), subset) for subset in distinct)
        for subset, name in pairs:
            if toggles_of(name, toggles, {}) not in (None, subset):
                row = own.index(name)
                told = f"the name {name!r} stands for other toggles than {' and '.join(subset) or 'none'}"
                raise DataError(f"{self._line(row)}: {column}: {told}, which are on here; give the cell another name")
        return tuple(DesignCell(name, subset) for subset, name in pairs)

    def _seeds(self, subsets: Sequence[Subset]) -> Ints:
        if self.seed not in self.names:
            if len(set(subsets)) == len(subsets):
                return np.zeros(len(subsets), dtype=np.int64)
            like = [name for name in self.names if csv_words.no_idea(name) == csv_words.SEEDS]
            fix = f"name it with --seed{f', such as {like[0]}' if like else ''}; runs are paired by it"
            raise DataError(f"{self.path}: no column {self.seed!r}; {fix}; columns: {self._all_names()}")
        texts = self.frame[self.seed]
        self._refuse(self.seed, ~texts.str.fullmatch(r"[+-]?\d{1,18}(\.0)?"), "a whole number")
        return np.array(texts.str.removesuffix(".0"), dtype=np.int64)

    def _states(self, metrics: Sequence[str], numbers: Floats) -> tuple[State, ...]:
        """As the column of states says; a run that is done, or of which it says nothing, as its numbers say.

        No number at all: failed. A number that is not finite: diverged.
        """
        missing, infinite = np.isnan(numbers).all(axis=1), np.isinf(numbers).any(axis=1)
        broken = np.logical_or(infinite, missing & self._nan_said(metrics))
        judged: list[State] = np.where(broken, "diverged", np.where(missing, "failed", "done")).tolist()
        if self.state is None:
            return tuple(judged)
        texts = self.frame[self.state]
        told: list[State | None] = [csv_words.state(text) for text in texts]
        wrong = pd.Series([state is None and text != "" for state, text in zip(told, texts, strict=True)], texts.index)
        self._refuse(self.state, wrong, f"one of {', '.join(csv_words.WORDS)}")
        return tuple(own if said in (None, "done") else said for said, own in zip(told, judged, strict=True))

    def _nan_said(self, metrics: Sequence[str]) -> NDArray[np.bool_]:
        """Whether a row says `nan` for any metric."""
        said = np.column_stack([self.frame[name].str.lower() == "nan" for name in metrics])
        return np.asarray(said.any(axis=1))

    def _once(self, table: RunTable) -> None:
        pairs = pd.Series(list(zip(table.cell.tolist(), table.seed.tolist(), strict=True)))
        twice = pairs.duplicated()
        if twice.any():
            row = int(np.flatnonzero(twice)[0])
            cell, seed = pairs[row]
            first = int(np.flatnonzero(pairs == pairs[row])[0])
            raise DataError(
                f"{self._line(row)}: {table.cells[cell].name} under seed {seed} stands in {self._line(first)} already; "
                f"give every run of a cell a seed of its own; the toggles are {', '.join(table.toggles)}"
            )


def _column(metric: Metric, values: Floats, cells: int) -> Column:
    return Column(metric, values, ("stated by the file",) * cells, (False,) * cells)
