"""What an analysis finds, as data that can be written as JSON.

Numbers are in the unit that readers see: % change for a metric of scale log (a distance), else the metric's own unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.analysis.looks import Looks
from harness.design.contrasts import Estimable
from harness.design.factors import Factor, without_levels
from harness.errors import HarnessError
from harness.metrics.definitions import Metric
from harness.runs.record import State

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "insufficient seeds", "diverged", "diagnostic"]
"""diagnostic: training saw the network that measures, so the number takes no part in verdicts."""


@dataclass(frozen=True)
class Estimate:
    """A contrast of cells on one metric, estimated within seeds with the residual of all cells."""

    value: float | None
    low: float | None
    high: float | None
    """Ends of the 95 % interval; None where `reason` says why there is none."""
    p: float | None
    p_holm: float | None
    """After Holm's correction over its family: the effects, the cells or the interactions of a metric that are not of
    cells that trained alike.
    """
    p_equivalent: float | None
    """Of two one-sided tests against the study's margin, after Holm's correction; None without a margin."""
    seeds: tuple[int, ...]
    """Seeds in which every cell of the contrast is finished: the n."""
    by_seed: tuple[float, ...]
    """The contrast within each of these seeds."""
    improved: int
    """In how many of them it points to the better side."""
    own_low: float | None
    own_high: float | None
    """Ends of the Student-t interval of `by_seed` alone, df = n - 1: without the residual of the other cells."""
    sign_flip: float | None
    """Exact two-sided sign-flip p of `by_seed`; None below two or above twelve seeds."""
    sign_flip_least: float | None
    """The smallest that it could be with so many seeds."""
    d_z: float | None
    """Hedges-corrected standardised mean of `by_seed`."""
    verdict: Verdict
    alike: bool = False
    """Whether its cells trained alike, so that it is known, not tested, and in no family of Holm's."""
    uneven: bool = False
    """Whether it spreads over seeds so unlike the rest that interval and p are its own, df = n - 1."""
    paired: bool = True
    """Whether it is read within seeds; False: its cells share none, and their means are compared by Welch's t."""
    reason: str = ""
    """Why there is no value, interval or verdict, and what it had to do without; empty if nothing is lacking."""
    decided_after: int | None = None
    """Seeds at the look that gave the verdict; None where their number was fixed, or no test decided."""
    one_run: bool = False
    """Whether training on one side makes no use of the seed: it is one run, to which further seeds add nothing."""

    @property
    def n(self) -> int:
        return len(self.seeds)


def family_size(estimates: Iterable[Estimate | None]) -> int:
    """Over how many of them, all of one kind, Holm's correction is."""
    return sum(estimate is not None and not estimate.alike for estimate in estimates)


@dataclass(frozen=True)
class Effect:
    """What one idea does to one metric: a toggle that is turned on, a level in place of the reference."""

    toggle: str
    """The toggle, or the level such as `tau=0.1`."""
    estimate: Estimate
    pairs: int
    """Pairs of cells that differ in this toggle alone and are averaged; 0: by regression or orthogonality."""
    aliases: tuple[str, ...]
    """Interactions `a:b` that the design cannot tell from it."""
    diverged: tuple[int, int]
    """Diverged runs of the contrast's cells with the toggle on, and off."""


@dataclass(frozen=True)
class Trend:
    """The linear trend of one metric over the levels of a factor; no verdict, as its p is corrected for nothing."""

    factor: Factor
    estimate: Estimate
    """The rise from the lowest to the highest level of the least-squares line over their ranks."""


@dataclass(frozen=True)
class CellState:
    """A cell and every planned run of it by its state: none is left out."""

    cell: str
    toggles: tuple[str, ...]
    states: Mapping[State, int]


@dataclass(frozen=True)
class CellResult(CellState):
    """The runs of one cell on one metric, and its difference from the baseline."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    """By seed, finished runs only, in the metric's own unit."""
    mean: float | None
    sd: float | None
    """Sample standard deviation over seeds; None below two."""
    estimate: Estimate | None
    """Difference from the baseline; None for the baseline itself."""
    correlation: float | None
    """Of the cell's values with the baseline's, paired by seed; None below three pairs."""
    card: str = ""
    """Digest of how all of them were measured; empty if they were not measured alike, or nobody said how."""
    seen: bool = False
    """Whether training saw the network that measures, so that the values stand under another name."""


@dataclass(frozen=True)
class InteractionResult:
    """An interaction, or the sum of several that the design cannot tell apart."""

    aliases: tuple[str, ...]
    toggle: str
    """Set when all of this toggle's interactions are summed: (effect beside all others - effect alone) / 2."""
    estimate: Estimate
    simple: Mapping[str, tuple[Estimate, Estimate]] = field(default_factory=dict)
    """Simple effects, of one that is better or worse: idea -> its effect without the other side, and with it."""


@dataclass(frozen=True)
class Control:
    """The baseline against itself on other seeds (A/A): differences of this size appear without any idea. Welch's t."""

    seeds: tuple[int, ...]
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    first: int | None = None
    """Where seeds were added by looks: only so many of the baseline's are compared, those before the first look."""


@dataclass(frozen=True)
class Lenth:
    """Lenth's (1989) test of an unreplicated factorial: contrasts against their own pseudo standard error."""

    names: tuple[str, ...]
    """Toggle, or `a:b` with its aliases joined by ` or `."""
    values: tuple[float, ...]
    """On the scale of the analysis, so that they add: log for a metric of scale log."""
    pse: float
    margin: float
    """Margin of error at 95 %."""
    simultaneous: float
    """The same for all contrasts at once."""


@dataclass(frozen=True)
class MetricResult:
    """One metric: every cell, every effect, every interaction."""

    metric: Metric
    cells: tuple[CellResult, ...]
    effects: tuple[Effect, ...]
    interactions: tuple[InteractionResult, ...]
    attribution: Mapping[str, Estimate]
    """Toggle -> Shapley value of its part in full - origin; empty unless the design is a full factorial."""
    residual_sd: float | None
    """Standard deviation of a run about its seed and cell, on the scale of the analysis (log: about a share)."""
    df: int
    """Residual degrees of freedom, of all intervals but `own_*`."""
    seed_correlation: float | None
    """Intraclass correlation of runs of one seed over cells: what pairing by seed gains from."""
    margin: float | None
    """Differences within it are equivalent; % or the metric's unit."""
    control: Control | None
    lenth: Lenth | None
    card: Mapping[str, Any] = field(default_factory=dict)
    """How it was measured in all cells; empty if unlike or unknown."""
    notes: tuple[str, ...] = ()
    """What a reader must know of all its comparisons: cells without a result, runs left out."""
    trends: tuple[Trend, ...] = ()
    """Of factors of three numbers or more."""
    rule: Looks | None = None
    """By which seeds were added; None: their number was fixed."""

    @property
    def uneven(self) -> tuple[str, ...]:
        """Cells whose differences spread so unlike the rest that the shared residual does not fit them."""
        return tuple(cell.cell for cell in self.cells if cell.estimate and cell.estimate.uneven)

    @property
    def compared(self) -> tuple[tuple[str, Estimate], ...]:
        """What the answer is about: the effects by name, or the cells where the design has no effects."""
        effects = tuple((effect.toggle, effect.estimate) for effect in self.effects)
        return effects or tuple((cell.cell, cell.estimate) for cell in self.cells if cell.estimate)

    def undecided(self, seeds: int | None = None) -> tuple[str, ...]:
        """The effects without a verdict; with `seeds` those that had not the one they have after so many."""
        return tuple(
            name
            for name, each in self.compared
            if each.verdict in ("inconclusive", "insufficient seeds")
            or (seeds is not None and each.decided_after is not None and each.decided_after > seeds)
        )

    @property
    def no_seed_decides(self) -> tuple[str, ...]:
        """Those of the effects without a verdict to which further seeds add nothing."""
        open_ = self.undecided()
        return tuple(name for name, each in self.compared if each.one_run and name in open_)

    def cell(self, name: str) -> CellResult:
        return next(cell for cell in self.cells if cell.cell == name)


@dataclass(frozen=True)
class LookResult:
    """What had a verdict at a look."""

    seeds: int
    undecided: Mapping[str, tuple[str, ...]]
    """Headline metric -> its effects (cells, in a design without effects) that had no verdict yet."""


@dataclass(frozen=True)
class Analysis:
    """All metrics of a study, compared with one baseline cell."""

    baseline: str
    toggles: tuple[str, ...]
    """All ideas: toggles, then levels other than the reference."""
    seeds: tuple[int, ...]
    """The blocks: seeds under which more than the baseline was run."""
    cells: tuple[CellState, ...]
    design: Estimable
    """What the planned cells can say."""
    metrics: tuple[MetricResult, ...]
    """In the order in which they are to be read, headlines first."""
    notes: tuple[str, ...] = ()
    """Runs that looks leave out; runs of a cell that are one, or may be; cells that have the same numbers in every
    metric, although nothing says that they were trained alike."""
    rule: Looks | None = None
    """By which seeds were added; None: their number was fixed."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Column -> why it takes no part, of runs in a CSV or a table."""

    @property
    def suspicions(self) -> tuple[str, ...]:
        """Cells that the guide's CLIP score calls better in every seed, and the measuring network's in none."""
        by_cell = {result.metric.name: {cell.cell: cell.estimate for cell in result.cells} for result in self.metrics}
        measured, guided = by_cell.get("clip_score", {}), by_cell.get("clip_score_seen", {})
        return tuple(
            cell
            for cell, guide in guided.items()
            if guide and guide.n and guide.improved == guide.n
            if (other := measured.get(cell)) and not other.improved
        )

    @property
    def looks(self) -> tuple[LookResult, ...] | None:
        """The looks so far, by the rule; None without one."""
        if self.rule is None:
            return None
        return tuple(
            LookResult(
                seeds=seeds,
                undecided={result.metric.name: result.undecided(seeds) for result in self.headlines},
            )
            for seeds in range(self.rule.first, len(self.seeds) + 1)
        )

    @property
    def undecided(self) -> tuple[tuple[str, str], ...]:
        """(headline metric, effect) without a verdict; cells in place of effects where the design has none."""
        return tuple((result.metric.name, name) for result in self.headlines for name in result.undecided())

    @property
    def no_seed_decides(self) -> tuple[tuple[str, str], ...]:
        """Those of `undecided` to which further seeds add nothing, as all cells on one side make no use of the seed."""
        return tuple((result.metric.name, name) for result in self.headlines for name in result.no_seed_decides)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Settings with levels that the runs differ in."""
        return self.design.factors

    @property
    def full(self) -> tuple[str, ...]:
        """The ideas of the cell `full`: all toggles, every factor at its reference."""
        return without_levels(self.toggles, self.factors)

    @property
    def headlines(self) -> tuple[MetricResult, ...]:
        """The metrics that the answer is given in."""
        return tuple(result for result in self.metrics if result.metric.headline)

    def of(self, metric: str) -> MetricResult:
        """The results of one metric. Raises HarnessError for one that the runs did not measure."""
        measured = {result.metric.name: result for result in self.metrics}
        if metric not in measured:
            raise HarnessError(f"{metric}: not measured by these runs; measured are {', '.join(measured)}")
        return measured[metric]
