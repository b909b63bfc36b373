"""Results from elsewhere: a CSV of runs to the table that is analysed. No torch here.

A row a run: toggle columns of 0 and 1, a seed column, metric columns. An empty metric is a failed run, a value that is
not finite a diverged one, unless a `state` column says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.csv_frame import read_frame
from harness.analysis.statistics import Floats
from harness.analysis.table import Cell, Column, Ints, Table
from harness.design.kinds import Subset, name_of
from harness.errors import DataError
from harness.metrics.definitions import METRICS, Metric, find
from harness.records import LARGEST, STATES, State

Better = Literal["lower", "higher"]

_ON = {"1": True, "1.0": True, "true": True, "yes": True, "on": True}
_OFF = {"0": False, "0.0": False, "false": False, "no": False, "off": False}
_TRUTH = {**_ON, **_OFF}
_ABOUT: set[str] = {
    "run",
    "run_id",
    "id",
    "name",
    "cell",
    "seed",
    "state",
    "status",
    "step",
    "epoch",
    "attempt",
    "error",
}
_ABOUT |= {"manifest", "toggles"}
"""Columns that tell about a run and are neither toggles nor metrics, whatever stands in them."""
_WORDS: dict[str, State] = {state: state for state in STATES}
_WORDS |= {"finished": "done", "completed": "done", "success": "done", "crashed": "failed", "killed": "interrupted"}
_WORDS |= {"nan": "diverged", "queued": "pending"}
"""What the column `state` may say, here and in the exports of trackers."""
_LOWER = ("loss", "error", "lpips", "mse", "mae", "fvd")
_HIGHER = ("clip", "is", "inception_score", "accuracy", "acc", "psnr", "ssim", "score", "reward", "f1", "map")
_MOSTLY = 0.8
_MISSING = {"", "na", "n/a", "none", "null"}


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


def read_csv(path: Path, reading: Reading) -> tuple[Table, tuple[str, ...]]:
    """The table of a CSV, and the numeric columns that were left out because nobody says which way is better.

    Raises DataError.
    """
    return _Sheet(path, read_frame(path), reading).table()


class _Sheet:
    """One CSV while it is read."""

    def __init__(self, path: Path, frame: pd.DataFrame, reading: Reading) -> None:
        self.path, self.frame, self.reading = path, frame, reading
        self.names = [str(name) for name in frame.columns]
        self._known([reading.seed] if reading.seed != "seed" else [], "--seed")
        self._known(reading.toggles, "--toggle")
        self._known((*reading.lower, *reading.higher), "--lower and --higher")

    def table(self) -> tuple[Table, tuple[str, ...]]:
        toggles = self._toggles()
        metrics, unclear = self._metrics(toggles)
        numbers = np.column_stack([self._numbers(metric.name) for metric in metrics])
        subsets = self._subsets(toggles)
        cells = self._cells(subsets, toggles)
        states = self._states(numbers)
        places = {cell.toggles: place for place, cell in enumerate(cells)}
        done = np.array([[state == "done"] for state in states])
        values = np.where(done, numbers, np.nan).T
        table = Table(
            toggles=toggles,
            cells=cells,
            cell=np.array([places[subset] for subset in subsets], dtype=np.int64),
            seed=self._seeds(subsets),
            states=states,
            columns=tuple(_column(*pair, len(cells)) for pair in zip(metrics, values, strict=True)),
        )
        self._once(table)
        return table, unclear

    def _known(self, wanted: Iterable[str], said: str) -> None:
        for name in wanted:
            if name not in self.names:
                raise DataError(f"{self.path}: {said}: no column {name!r}; the columns are {', '.join(self.names)}")

    def _toggles(self) -> tuple[str, ...]:
        chosen = self.reading.toggles or tuple(name for name in self.names if self._is_toggle(name))
        if not chosen:
            fix = "name them with --toggle, and write 0 or 1 in them"
            raise DataError(f"{self.path}: no column holds 0 and 1 alone, so there is no toggle; {fix}")
        for name in chosen:
            allowed = "0 or 1 (false or true; if this is no toggle, name those that are with --toggle)"
            self._refuse(name, ~self.frame[name].str.lower().isin(list(_TRUTH)), allowed)
        return chosen

    def _is_toggle(self, name: str) -> bool:
        values = {value.lower() for value in self.frame[name].unique()}
        if _is_about(name) or name == self.reading.seed or self.reading.better(name) or self._is_metric(name, values):
            return False
        levels = {_TRUTH[value] for value in values if value in _TRUTH}
        return len(levels) == 2 and (values <= set(_TRUTH) or self._mistyped(name))

    def _is_metric(self, name: str, values: set[str]) -> bool:
        """A name such as kid_loss may be a toggle's too, if 0 and 1 is all that stands there."""
        plain = name.lower()
        return plain in ("fid", *METRICS) or bool(find(plain) and not values <= set(_TRUTH))

    def _mistyped(self, name: str) -> bool:
        """Whether so much of the column is 0 and 1 that the rest must be a slip, which is refused with its line."""
        return bool(self.frame[name].str.lower().isin(list(_TRUTH)).mean() >= _MOSTLY)

    def _metrics(self, toggles: Sequence[str]) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
        found, unclear = [], []
        for name in self.names:
            if name in toggles or name == self.reading.seed or (_is_about(name) and not self._told(name)):
                continue
            metric = self._metric(name)
            if metric:
                found.append(metric)
            elif pd.to_numeric(self.frame[name], errors="coerce").notna().any():
                unclear.append(name)
        if not found:
            told = f"; the numeric columns are {', '.join(unclear)}" if unclear else ""
            fix = "say which with --lower NAME or --higher NAME"
            raise DataError(f"{self.path}: no column is known as a metric{told}; {fix}")
        if not any(metric.headline for metric in found):
            found = [replace(metric, role="headline") for metric in found]
        return tuple(found), tuple(unclear)

    def _told(self, name: str) -> bool:
        return self.reading.better(name) is not None

    def _metric(self, name: str) -> Metric | None:
        known = find(name) or find(name.lower())
        better = self.reading.better(name) or (_direction(name) if self._is_numeric(name) else None)
        if known:
            metric = replace(known, name=name, better=better if self._told(name) and better else known.better)
        elif better:
            metric = Metric(name, better, "raw", name, "", "headline" if self._told(name) else "further", "")
        else:
            return None
        if metric.scale == "log":
            wrong = pd.Series(self._numbers(name) <= 0, self.frame.index)
            self._refuse(name, wrong, "above 0, as distances are compared by ratios (nothing for a failed run)")
        return metric

    def _is_numeric(self, name: str) -> bool:
        texts = self.frame[name]
        return bool((pd.to_numeric(texts, errors="coerce").notna() | texts.str.lower().isin([*_MISSING, "nan"])).all())

    def _numbers(self, name: str) -> Floats:
        texts = self.frame[name]
        numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, copy=True)
        wrong = np.isnan(numbers) & ~texts.str.lower().isin([*_MISSING, "nan"]).to_numpy()
        self._refuse(name, pd.Series(wrong, self.frame.index), "a number, or nothing where there is none")
        return np.where(np.abs(numbers) >= LARGEST, np.copysign(np.inf, numbers), numbers)

    def _refuse(self, name: str, wrong: pd.Series[bool], allowed: str) -> None:
        rows = np.flatnonzero(wrong.to_numpy())
        if len(rows):
            value = self.frame[name].iloc[rows[0]]
            raise DataError(f"{self._line(int(rows[0]))}: {name}: must be {allowed}, not {value!r}")

    def _line(self, row: int) -> str:
        """Where a row stands in the file; line 1 is the header."""
        return f"{self.path}:{self.frame.index[row] + 2}"

    def _subsets(self, toggles: tuple[str, ...]) -> list[Subset]:
        on = np.column_stack([self.frame[name].str.lower().isin(list(_ON)) for name in toggles])
        return [tuple(name for name, there in zip(toggles, row, strict=True) if there) for row in on.tolist()]

    def _cells(self, subsets: Sequence[Subset], toggles: tuple[str, ...]) -> tuple[Cell, ...]:
        """In the order of the file; named by its column `cell` where that names them one to one."""
        own = self.frame["cell"].tolist() if "cell" in self.names else [""] * len(subsets)
        pairs = dict.fromkeys(zip(subsets, own, strict=True))
        distinct = dict.fromkeys(subsets)
        one_to_one = len(pairs) == len(distinct) == len({name for _, name in pairs}) and all(n for _, n in pairs)
        if one_to_one:
            return tuple(Cell(name, subset) for subset, name in pairs)
        return tuple(Cell(name_of(subset, toggles, {}), subset) for subset in distinct)

    def _seeds(self, subsets: Sequence[Subset]) -> Ints:
        if self.reading.seed not in self.names:
            if len(set(subsets)) == len(subsets):
                return np.zeros(len(subsets), dtype=np.int64)
            fix = "name it with --seed; runs are paired by it"
            raise DataError(f"{self.path}: no column {self.reading.seed!r}; {fix}; columns: {', '.join(self.names)}")
        texts = self.frame[self.reading.seed]
        self._refuse(self.reading.seed, ~texts.str.fullmatch(r"[+-]?\d{1,18}(\.0)?"), "a whole number")
        return np.array(texts.str.removesuffix(".0"), dtype=np.int64)

    def _states(self, numbers: Floats) -> tuple[State, ...]:
        missing, infinite = np.isnan(numbers).all(axis=1), np.isinf(numbers).any(axis=1)
        column = next((name for name in self.names if name.lower() in ("state", "status")), None)
        if column is None:
            said = self._nan_said()
            broken = np.logical_or(infinite, missing & said)
            return tuple(np.where(broken, "diverged", np.where(missing, "failed", "done")).tolist())
        texts = self.frame[column].str.lower()
        self._refuse(column, ~texts.isin(list(_WORDS)), f"one of {', '.join(_WORDS)}")
        told = [_WORDS[text] for text in texts]
        bad: list[bool] = np.logical_or(missing, infinite).tolist()
        return tuple(
            "diverged" if state == "done" and broken else state for state, broken in zip(told, bad, strict=True)
        )

    def _nan_said(self) -> NDArray[np.bool_]:
        """Whether a row says `nan` anywhere."""
        said = np.column_stack([self.frame[name].str.lower() == "nan" for name in self.names])
        return np.asarray(said.any(axis=1))

    def _once(self, table: Table) -> None:
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


def _is_about(name: str) -> bool:
    return name.lower() in _ABOUT or name.lower().startswith("cost_")


def _direction(name: str) -> Better | None:
    plain = name.lower()
    if plain in _LOWER or plain.endswith(("_loss", "_error")):
        return "lower"
    return "higher" if plain in _HIGHER or plain.endswith(("_score", "_accuracy")) else None


def _column(metric: Metric, values: Floats, cells: int) -> Column:
    return Column(metric, values, ("stated by the file",) * cells, (False,) * cells)
