"""Results from elsewhere: a CSV with one row for each run to the table that is analysed.

It has toggle columns of 0 and 1, columns of levels, a seed column, metric columns. An empty metric is a failed run, a
value that is not finite a diverged one, unless a `state` column says otherwise.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd

from harness.analysis.csv_columns import FEW_LEVELS, ON, ON_OR_OFF, CsvColumns, Sheet
from harness.analysis.csv_factors import factors_of, levels_by_row
from harness.analysis.csv_names import is_about, plain_name
from harness.analysis.statistics import Floats
from harness.analysis.table import MEASURED_ALIKE, Column, Ints, RunTable
from harness.design.factors import Factor, levels_of, without_levels
from harness.design.kinds import ORIGIN, DesignCell, Subset, name_of, toggles_of
from harness.errors import DataError, HarnessError
from harness.metrics.definitions import METRICS, base
from harness.runs.record import State
from harness.text import quantity

_MARKS = ",;\t"
_NEEDED = "a header and one row for each run are needed"
_KINDS = {
    b"PK\x03\x04": "a zip archive, as workbooks are; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    b"\x1f\x8b": "compressed; unpack it first, with gunzip",
    b"BZh": "compressed; unpack it first, with bunzip2",
    b"\x28\xb5\x2f\xfd": "compressed; unpack it first, with unzstd",
    b"PAR1": "a Parquet file; write it as CSV",
    b"SQLite format 3": "an SQLite database; write the table of runs as CSV",
}
"""First bytes of what is given for a CSV -> what it is, and what to do."""
_IN_MEMORY = Path("the table")
"""Stands in messages for the path of a table that is no file."""
_WEIGHTS = "weights_sha256"
"""The column of a report that holds the digest of the weights that a run came to: equal ones trained alike."""


def read_csv(path: Path, columns: CsvColumns, baseline: str = ORIGIN) -> tuple[RunTable, Mapping[str, str]]:
    """The table of a CSV, and by name why other columns take no part in it, those that only tell about a run aside.

    `baseline` tells the reference levels where `columns` do not. Raises DataError.
    """
    return _table_of(Sheet(path, read_frame(path), columns), baseline)


def read_table(frame: pd.DataFrame, columns: CsvColumns, baseline: str) -> tuple[RunTable, Mapping[str, str]]:
    """As `read_csv`, of a table in memory; what is missing in it stands for an empty field. Raises DataError."""
    return _table_of(Sheet(_IN_MEMORY, _as_text(frame), columns), baseline)


def _table_of(sheet: Sheet, baseline: str) -> tuple[RunTable, Mapping[str, str]]:
    factors = factors_of(sheet, baseline)
    if twice := sorted({*sheet.toggles} & {*levels_of(factors)}):
        what = f"the toggle {twice[0]!r} is called like a level of --levels {twice[0].partition('=')[0]}"
        raise DataError(f"{sheet.header}: {what}; give the column another name")
    ideas = (*sheet.toggles, *levels_of(factors))
    subsets = _subsets(sheet, factors)
    numbers = np.array([sheet.numbers(metric.name) for metric in sheet.metrics])
    cells, states, seeds = _cells(sheet, subsets, factors), _states(sheet, numbers), _seeds(sheet, subsets)
    places = {cell.toggles: place for place, cell in enumerate(cells)}
    first: dict[tuple[Subset, int], int] = {}
    for row, (subset, seed) in enumerate(zip(subsets, seeds.tolist(), strict=True)):
        if (earlier := first.setdefault((subset, seed), row)) != row:
            name = cells[places[subset]].name
            raise DataError(
                f"{sheet.line(row)}: {name} under seed {seed} stands in {sheet.line(earlier)} already; "
                f"give every run of a cell a seed of its own; the toggles are {', '.join(sheet.toggles) or 'none'}"
                f"{'; the factors are ' * bool(factors)}{', '.join(sheet.levels)}"
                f"{_perhaps_ideas(sheet, earlier, row)}"
            )
    done, cards, seen = np.equal(states, "done"), ("stated by the file",) * len(cells), (False,) * len(cells)
    numbers = np.where(done, numbers, np.nan)
    table = RunTable(
        toggles=ideas,
        cells=cells,
        cell=np.array([places[subset] for subset in subsets], dtype=np.int64),
        seed=seeds,
        states=states,
        columns=tuple(
            Column(metric, values, cards, seen) for metric, values in zip(sheet.metrics, numbers, strict=True)
        ),
        trained=_trained(sheet, seeds, numbers),
        factors=factors,
    )
    return table, sheet.left_out


def _trained(sheet: Sheet, seeds: Ints, numbers: Floats) -> tuple[tuple[str, str], ...]:
    """By row: no id, and the digest of the weights that came out; nothing where the column cannot hold that.

    `numbers` [metrics, runs]. Equal weights measure alike, so a digest of runs of one seed that do not is another's,
    such as that of the first weights.
    """
    digests = sheet.words(_WEIGHTS)
    values = pd.DataFrame(np.where(np.array(digests) == "", np.nan, numbers).T)
    alike = values.groupby([seeds, digests])
    if ((alike.max() - alike.min()).max() > MEASURED_ALIKE * values.abs().max()).any():
        sheet.left_out[_WEIGHTS] = "runs of one seed have the same digest and other numbers, so it proves nothing"
        return ()
    return tuple(("", digest) for digest in digests)


def _subsets(sheet: Sheet, factors: Sequence[Factor]) -> list[Subset]:
    """By row: what is on."""
    on = [sheet.frame[name].str.lower().isin(ON).to_numpy() for name in sheet.toggles]
    for factor in factors:
        own = np.array(levels_by_row(sheet, factor.name))
        on += [own == level for level in factor.ideas]
    ideas = (*sheet.toggles, *levels_of(factors))
    return [tuple(compress(ideas, row)) for row in np.column_stack(on)]


def baseline_of(table: RunTable, name: str) -> str:
    """The cell of that name, or with the ideas that it names: `origin` is the cell with none, whatever the file calls
    it, and `a+b` the cell with these two. `name` itself if there is none.
    """
    cells = [cell.name for cell in table.cells if cell.name == name]
    wanted = toggles_of(name, without_levels(table.toggles, table.factors), {}, table.factors)
    cells += [cell.name for cell in table.cells if cell.toggles == wanted]
    return cells[0] if cells else name


def _perhaps_ideas(sheet: Sheet, one: int, other: int) -> str:
    """A column that is no idea, with a few values, which differ between two rows: how to say that it is one."""
    taken = (*sheet.toggles, *sheet.levels, sheet.seed, sheet.state)
    for name in (name for name in sheet.names if name not in taken):
        texts = sheet.frame[name].str.lower()
        if set(texts) <= ON_OR_OFF and (texts.iloc[one] in ON) != (texts.iloc[other] in ON):
            return f"; if {name} is a toggle, name all toggles with --toggle"
    names = []
    for name in sheet.left_out:
        texts = sheet.frame[name]
        few = 1 < texts.nunique() <= max(FEW_LEVELS, len(texts) // 4)
        if few and texts.iloc[one] != texts.iloc[other] and not is_about(plain_name(name)):
            names.append(name)
    return f"; if {names[0]} is a factor with levels, name it with --levels {names[0]}=REFERENCE" if names else ""


def _cells(sheet: Sheet, subsets: Sequence[Subset], factors: Sequence[Factor]) -> tuple[DesignCell, ...]:
    """In the order of the file; named by its column `cell` where that names them one to one."""
    column = sheet.like("cell")
    own = sheet.frame[column].tolist() if column in sheet.names else [""] * len(subsets)
    distinct, pairs = dict.fromkeys(subsets), dict.fromkeys(zip(subsets, own, strict=True))
    unnamed = tuple(DesignCell(name_of(subset, sheet.toggles, {}, factors), subset) for subset in distinct)
    if not any(own) or column in (*sheet.toggles, *sheet.levels, sheet.seed):
        return unnamed
    if not len(pairs) == len(distinct) == len({name for _, name in pairs}) or not all(name for _, name in pairs):
        sheet.left_out[column] = "it does not name each combination of the toggles by a name of its own"
        return unnamed
    for subset, name in pairs:
        if toggles_of(name, sheet.toggles, {}, factors) not in (None, subset):
            why = f"the name {name!r} stands for other toggles than {' and '.join(subset) or 'none'}"
            where = f"{sheet.line(own.index(name))}: {column}"
            raise DataError(f"{where}: {why}, which are on here; give the cell another name")
    return tuple(DesignCell(name, subset) for subset, name in pairs)


def _seeds(sheet: Sheet, subsets: Sequence[Subset]) -> Ints:
    if sheet.seed not in sheet.names:
        if len(set(subsets)) == len(subsets):
            return np.zeros(len(subsets), dtype=np.int64)
        like = sheet.like_seeds()
        fix = f"name it with --seed{f', such as {like[0]}' if like else ''}; runs are paired by it"
        raise DataError(f"{sheet.path}: no column {sheet.seed!r}; {fix}; columns: {', '.join(sheet.names)}")
    texts = sheet.frame[sheet.seed]
    sheet.refuse(sheet.seed, ~texts.str.fullmatch(r"[+-]?\d{1,18}(\.0)?"), "a whole number")
    return np.array(texts.str.removesuffix(".0"), dtype=np.int64)


def _states(sheet: Sheet, numbers: Floats) -> tuple[State, ...]:
    """As the column of states says; a run that is done, or of which it says nothing, as its numbers say.

    `numbers` [metrics, runs]. No number at all: failed. A number that is not finite, or the word `nan` in place of
    all: diverged.
    """
    missing, infinite = np.isnan(numbers).all(axis=0), np.isinf(numbers).any(axis=0)
    words = np.any([sheet.frame[metric.name].str.lower() == "nan" for metric in sheet.metrics], axis=0)
    by_numbers = np.select([infinite | (missing & words), missing], ["diverged", "failed"], "done").tolist()
    return tuple(own if said in (None, "done") else said for said, own in zip(sheet.states(), by_numbers, strict=True))


# The file, or table, as text.


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """As `read_frame`; the index has the labels of the rows."""
    if frame.columns.nlevels > 1:
        raise DataError(f"{_IN_MEMORY}: its columns have {frame.columns.nlevels} levels; give each one name, a text")
    names = [str(name).strip() for name in frame.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{_IN_MEMORY}: several columns are called {', '.join(map(repr, twice))}; rename all but one")
    if frame.empty:
        raise DataError(f"{_IN_MEMORY}: has no rows; {_NEEDED}")
    texts = {name: list(map(_text_of, frame.iloc[:, place].tolist())) for place, name in enumerate(names)}
    return pd.DataFrame(texts, index=[f" row {label}" for label in frame.index], dtype=str)


def _text_of(value: object) -> str:
    is_missing = value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))
    return "" if is_missing else str(value).strip()


def read_frame(path: Path) -> pd.DataFrame:
    """Every cell as stripped text; the index is the line of the file on which a row begins, its name the header's line.

    Names are stripped too; a column without a name is called `column N`, and left out if it is empty. Raises DataError
    for a row that has more or fewer values than the header has names, and for a stray quotation mark that joins rows.
    """
    lines = list(io.StringIO(_text(path), newline=""))  # with their ends, which may stand inside a value
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path}: cannot be read as CSV (it is empty); {_NEEDED}")
    if not any(mark in first for mark in _MARKS):
        header = f"the header is {first.strip()[:80]!r}, a single name"
        raise DataError(f"{path}:{lines.index(first) + 1}: {header}; part the columns by commas, semicolons or tabs")
    rows = dict(_rows(path, lines, max(_MARKS, key=first.count)))
    if not rows:
        raise DataError(f"{path}: cannot be read as CSV (its header has no name); {_NEEDED}")
    line = next(iter(rows))
    head = rows.pop(line)
    names = [name or f"column {place}" for place, name in enumerate(head, start=1)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}:{line}: several columns are called {', '.join(map(repr, twice))}; rename all but one")
    if not rows:
        raise DataError(f"{path}: has no rows; {_NEEDED}")
    frame = pd.DataFrame.from_dict(rows, "index", columns=names, dtype=str).rename_axis(line)
    empty = [name for name, given in zip(names, head, strict=True) if not given and (frame[name] == "").all()]
    return frame.drop(columns=empty)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; {_NEEDED}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read as CSV ({error.strerror}); {_NEEDED}") from error
    for mark, kind in _KINDS.items():
        if content.startswith(mark):
            raise DataError(f"{path}: cannot be read as CSV: it is {kind}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is no UTF-8 text; save the file as UTF-8"
        raise DataError(f"{path}: cannot be read as CSV: {problem}") from error


def _rows(path: Path, lines: Sequence[str], mark: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row begins, and its stripped values; the first is the header. Blank rows are left out."""
    reader = csv.reader(lines, delimiter=mark, strict=True)
    begins, head, width = 1, 1, 0
    quote = "write a quotation mark inside a value twice, and quote the value"
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if not width and any(values):
                width, head = len(values), begins
            joined = lines[begins - 1 : reader.line_num]
            if len(joined) > 1 and width > 1 and all(line.count(mark) == width - 1 for line in joined):
                which = f"of the lines {begins} to {reader.line_num}, each of them a whole row"
                raise DataError(f"{path}:{begins}: a quotation mark makes one row {which}; {quote}")
            if any(values):
                if len(values) != width:
                    more = "more" if len(values) > width else "fewer"
                    count = f"{quantity(len(values), 'value')}, {more} than the header's {quantity(width, 'name')}"
                    fix = "quote a value that holds the separator, and leave empty what is missing"
                    where = f"{path}:{begins}: {count} (line {head})"
                    raise DataError(f"{where}; {fix}; nothing may stand before the header")
                yield begins, values
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{begins}: cannot be read as CSV ({error}); {quote}") from error


def with_margins(table: RunTable, margins: Mapping[str, float]) -> RunTable:
    """The table, in which a metric that is given a margin is one of the headlines. Raises HarnessError."""
    metrics = [column.metric for column in table.columns]
    for name, margin in margins.items():
        metric = next((metric for metric in metrics if name in (metric.name, base(metric.name))), None)
        if metric is None:
            kinds = [kind for metric in metrics if (kind := base(metric.name)) in METRICS]
            allowed = ", ".join(dict.fromkeys([*(metric.name for metric in metrics), *kinds]))
            raise HarnessError(f"--margin {name}={margin:g}: no metric {name!r}; allowed: {allowed}")
        if not 0 < margin < (100 if metric.scale == "log" else math.inf):
            below = " and below 100, as it is in %" if metric.scale == "log" else ""
            raise HarnessError(f"--margin {name}={margin:g}: must be a finite number above 0{below}")
    columns = []
    for column in table.columns:
        metric = column.metric
        if metric.role == "further" and margins.keys() & {metric.name, base(metric.name)}:
            column = replace(column, metric=replace(metric, role="headline"))
        columns.append(column)
    return replace(table, columns=tuple(columns))
