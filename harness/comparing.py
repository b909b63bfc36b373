"""Comparing what is there, as functions: runs of a study or of anything else, and two sets of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import given
from harness.errors import HarnessError

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.csv_columns import CsvColumns
    from harness.analysis.looks import Looks
    from harness.analysis.results import Analysis
    from harness.analysis.table import RunTable
    from harness.metrics.evaluate import Evaluation, Networks
    from harness.metrics.in_memory import Images
    from harness.study.schema import Study

AnyPath = str | PathLike[str]


def analyse(
    source: Study | AnyPath | pd.DataFrame,
    baseline: str | None = None,
    margins: Mapping[str, float] | None = None,
    columns: CsvColumns | None = None,
    looks: Looks | None = None,
) -> Analysis:
    """Compare runs with a baseline: effects of toggles, intervals, verdicts, interactions.

    Args:
        source: A study, whose run folders are read; or the path of a CSV file, or a table of pandas, with one row per
            run: a column of 0 and 1 for each toggle, one of values for each factor that `columns` names, one of seeds,
            one for each metric. Where a table has no number (None, NaN) the run has failed, where it has an infinite
            one the run has diverged, unless a column `state` says otherwise.
        baseline: The cell that all others are compared with; None: the study's, else `origin`. Of rows also the
            toggles that are on, joined by "+".
        margins: Metric -> the difference that does not matter (in % for distances); None: the study's, else none.
            A table from `study.runs` brings its study's baseline, margins, factors and looks along.
        columns: What the columns mean where their names do not tell: `harness.CsvColumns`.
        looks: Of rows whose seeds were added, in the order of their numbers, until the results decided: the rule,
            `harness.Looks(first=3, most=8)`.

    Returns:
        The analysis; `analysis.of("fid")` is one metric, `harness.effect_table(analysis)` a table of the effects, and
        `analysis.left_out` says which columns took no part. `harness.analysis.export.as_json` makes it JSON.

    Raises:
        HarnessError: The file or table cannot be read, or the baseline has no run.

    Example:
        analysis = harness.analyse("results.csv", margins={"fid": 5})
        print([(effect.toggle, effect.estimate.verdict) for effect in analysis.of("fid").effects])
    """
    from harness.study.schema import Study

    given.check("margins", margins, Mapping | None, "a mapping of metric to number, or None")
    for metric, margin in (margins or {}).items():
        given.check("margins", metric, str, "a mapping of metric to number, and each metric a text")
        given.check(f"margins: {metric}", margin, Real, "a number")
    given.check("baseline", baseline, str | None, "the name of a cell or None")
    if not isinstance(source, Study):
        return _analyse_rows(source, baseline, margins, columns, looks)
    from harness.grid.outcome import gather
    from harness.study.checks import margin_problems
    from harness.study.plan import make_plan

    for (*_, name), text in margin_problems(margins or {}):
        raise HarnessError(f"margins: {name}: {text}")
    for name, value in (("columns", columns), ("looks", looks)):
        if value is not None:
            raise HarnessError(f"analyse: {name} is for a CSV or a table; a study says it itself: leave it out")
    made = make_plan(source)
    changed = replace(
        source,
        baseline=source.baseline if baseline is None else made.cell(baseline).name,
        margins=source.margins if margins is None else margins,
    )
    return gather(replace(made, study=changed)).analysis


def _analyse_rows(
    source: AnyPath | pd.DataFrame,
    baseline: str | None,
    margins: Mapping[str, float] | None,
    columns: CsvColumns | None,
    looks: Looks | None,
) -> Analysis:
    import pandas as pd

    from harness.analysis.analyse import analyse as compare
    from harness.analysis.asked import Asked, asked_of
    from harness.analysis.csv_columns import CsvColumns
    from harness.analysis.from_csv import baseline_of, read_csv, read_table, with_margins
    from harness.analysis.looks import Looks
    from harness.terminal.console import note

    given.check("looks", looks, Looks | None, "harness.Looks, such as harness.Looks(first=3, most=8), or None")
    columns = CsvColumns() if columns is None else columns
    _check_columns(columns)
    asked = asked_of(source) if isinstance(source, pd.DataFrame) else Asked()
    baseline = asked.baseline if baseline is None else baseline
    if isinstance(source, pd.DataFrame):
        table, left_out = read_table(source, asked.columns(columns, source), baseline)
    elif isinstance(source, str | PathLike):
        table, left_out = read_csv(Path(source), columns, baseline)
    else:
        raise HarnessError(f"analyse: takes a study, the path of a CSV or a DataFrame of pandas, not {type(source)}")
    table = asked.measured(with_margins(table, margins or {}), columns)
    _say_what_was_read(table, left_out)
    if asked != Asked():
        note(f"as the study of the table has it, where nothing else is given: {asked}")
    looks = looks or (Looks(*asked.looks) if asked.looks else None)
    analysis = compare(table, baseline_of(table, baseline), asked.margins if margins is None else margins, looks)
    _say_when_was_looked(analysis)
    return replace(analysis, left_out=left_out)


def _say_what_was_read(table: RunTable, left_out: Mapping[str, str]) -> None:
    from harness.design.factors import without_levels
    from harness.terminal.console import note

    names = [column.metric.name for column in table.columns]
    factors = [f"; levels: {', '.join(it.levels)}, of which {it.reference} is the reference" for it in table.factors]
    toggles = ", ".join(without_levels(table.toggles, table.factors)) or "none"
    note(f"toggles: {toggles}{''.join(factors)}; metrics: {', '.join(names)}")
    for reason in dict.fromkeys(left_out.values()):
        note(f"left out: {', '.join(name for name, why in left_out.items() if why == reason)} ({reason})")


def _say_when_was_looked(analysis: Analysis) -> None:
    from harness.terminal.console import note
    from harness.text import listed

    seeds = [str(seed) for seed in analysis.seeds]
    if (looks := analysis.rule) and len(seeds) > looks.first:
        first, later = listed(seeds[: looks.first]), listed(seeds[looks.first :])
        note(f"looks: after seeds {first}, then after each of {later}, in the order of their numbers")


def _check_columns(columns: object) -> None:
    from harness.analysis.csv_columns import CsvColumns

    given.check("columns", columns, CsvColumns, "harness.CsvColumns or None")
    assert isinstance(columns, CsvColumns)
    given.check("columns.seed", columns.seed, str, "the name of a column")
    for name in ("toggles", "lower", "higher", "levels"):
        given.check_texts(f"columns.{name}", getattr(columns, name))


def evaluate(
    real: AnyPath | Images,
    fake: AnyPath | Images,
    captions: AnyPath | Sequence[str] | None = None,
    networks: Networks | None = None,
) -> Evaluation:
    """Measure generated images against real ones, as `harness evaluate` does. Loads torch.

    Images in memory give the numbers that a folder of the same pixels in the same order gives; one of Pillow is read as
    its file is: turned, on white and in sRGB, as far as the image says so.

    Args:
        real: The folder of real images; folders in it are read too. Or images in memory: an array or tensor [N,H,W,3]
            or [N,3,H,W] of uint8 from 0 to 255, or a list of such images or of Pillow's in RGB, of any sizes.
        fake: The generated images, in the same forms.
        captions: Of generated images in a folder: a file or folder, see docs/measuring.md. Of those in memory: a list
            with one text for each. None: metrics of captions are left out.
        networks: What measures, `harness.Networks`; None: its defaults, whose weights are fetched on first use.

    Returns:
        The evaluation: `.metrics` by name, `.cards` how each was measured. `.as_dict()` is JSON.

    Raises:
        HarnessError: Fewer than two images, images of another kind, or weights that are missing.

    Example:
        print(harness.evaluate("photos", "samples", networks=harness.Networks(device="cuda")).metrics["fid"])
        print(harness.evaluate(real, generated, captions=["a dog", ...]).metrics)  # arrays of uint8
    """
    from harness.metrics.evaluate import Networks
    from harness.metrics.evaluate import evaluate as measure

    one, other = (Path(each) if isinstance(each, str | PathLike) else each for each in (real, fake))
    texts = Path(captions) if isinstance(captions, str | PathLike) else captions
    return measure(one, other, texts, networks or Networks(), _watched)


def _watched(images: Iterable[Any], count: int, what: str) -> Iterator[Any]:
    """The images, with their progress on standard error."""
    from harness.terminal.progress import counted

    with counted(f"{what} images", count) as advance:
        for image in images:
            yield image
            advance(1)
