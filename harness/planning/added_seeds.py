"""How many seeds a grid would come to that adds them until every effect is decided.

Studies are drawn on the real design and judged by the real rule, both as arrays: a run is its cell's mean, plus what
all runs of its seed share, plus a residual of one spread, in the unit of the spread. No run is lost, and an
earlier look counts even where the estimate points the other way by now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.analysis.looks import Looks
from harness.analysis.sample import ALPHA
from harness.analysis.statistics import Floats
from harness.design.contrasts import Estimable
from harness.design.kinds import FIRST_LOOK, Subset
from harness.metrics.definitions import Metric, base
from harness.planning.measured import Pace, Spread, wall_time
from harness.rng import numpy_generator
from harness.runs.record import Run
from harness.study.plan import Plan

EFFECT = 2.0
"""In spreads: the size of a clear effect."""
STUDIES = 1000
_MOST_DRAWS = 4_000_000
"""Of very large designs fewer studies are drawn."""


@dataclass(frozen=True)
class Expected:
    """What seeds that are added come to on average, if all ideas are of one kind."""

    seeds: float
    undecided: float
    """Share of the studies in which something is undecided after the most seeds."""
    runs: float
    seconds: float | None
    """Until the last run ends, on all slots; None where nobody knows how long a run takes."""


@dataclass(frozen=True)
class AddedSeeds:
    """The least and the most that such a grid costs, and what is to be expected. All runs are counted as new."""

    first: int
    most: int
    runs: tuple[int, int]
    """With the first and with the most seeds."""
    seconds: tuple[float, float] | None
    """The same until the last run ends, on all slots, no run of a seed beginning before the one before is whole."""
    metrics: tuple[str, ...]
    """Headline metrics whose spread is known, by which the seeds that follow are expected."""
    without_margin: tuple[str, ...]
    """Those of them without a margin: on these nothing is ever called equivalent."""
    effects: Expected | None
    """If every idea changes each of these metrics by EFFECT spreads; None where no spread is known."""
    none: Expected | None
    """If no idea changes any."""

    def as_dict(self) -> dict[str, Any]:
        """JSON: the fields."""
        return asdict(self)


def decided_after(
    design: Estimable,
    cells: Sequence[Subset],
    twins: Mapping[Subset, Subset],
    bounds: Iterable[tuple[float, float] | None],
    most: int,
    effect: float,
) -> tuple[Floats, float]:
    """Seeds [studies] after which each study is decided, or the most; and the share that is undecided by then.

    `bounds`: of each metric the margin to both sides in spreads, None without one; `effect`: of every idea, in spreads.
    """
    trained = [cell for cell in cells if cell not in twins]
    place = {cell: trained.index(twins.get(cell, cell)) for cell in cells}
    weights = np.zeros((len(design.effects), len(trained)))
    for row, contrast in enumerate(design.effects):
        for cell, weight in contrast.weights.items():
            weights[row, place[cell]] += weight
    # A contrast of cells that are trained alike is known beforehand and not tested.
    weights = weights[np.abs(weights).max(axis=1) > 1e-9]
    if not len(weights):
        return np.array([float(FIRST_LOOK)]), 0.0  # nothing differs, which the first look says
    looks, count = Looks(FIRST_LOOK, most), max(50, min(STUDIES, _MOST_DRAWS // (most * len(trained))))
    rng = numpy_generator(0, "seeds that are added")
    ideas = ideas_that_count(cells, twins)
    means = effect * np.array([ideas[cell] for cell in trained], dtype=np.float64)
    decided = np.ones((count, most - FIRST_LOOK + 1), dtype=bool)
    for margins in bounds:
        values = means + rng.standard_normal((count, most, len(trained)))
        decided &= _decided(values, weights, margins, looks)
    seeds = np.where(decided.any(axis=1), FIRST_LOOK + decided.argmax(axis=1), most)
    return seeds.astype(np.float64), 1 - float(decided[:, -1].mean())


def ideas_that_count(cells: Sequence[Subset], twins: Mapping[Subset, Subset]) -> dict[Subset, int]:
    """By cell that is trained: how many of its ideas change it, as far as cells that train alike tell."""

    def without(cell: Subset, idea: str) -> Subset:
        return tuple(each for each in cell if each != idea)

    first = {cell: twins.get(cell, cell) for cell in cells}
    idle = set()
    for idea in {idea for cell in cells for idea in cell}:
        pairs = [(cell, without(cell, idea)) for cell in cells if idea in cell and without(cell, idea) in first]
        if pairs and all(first[one] == first[other] for one, other in pairs):
            idle.add(idea)
    counts: dict[Subset, int] = {}
    for cell in cells:
        # An idea that does nothing alone may do something with others: the least of those trained alike is right.
        counts[first[cell]] = min(counts.get(first[cell], len(cell)), len({*cell} - idle))
    return counts


def _decided(values: Floats, weights: Floats, margins: tuple[float, float] | None, looks: Looks) -> Floats:
    """[studies, looks]: whether every contrast is decided by then. `values` [studies, seeds, cells]."""
    from scipy.special import stdtr

    counts = np.arange(looks.first, looks.most + 1)
    within = values - values.mean(axis=2, keepdims=True)
    means = np.cumsum(within, axis=1) / np.arange(1, looks.most + 1)[:, None]
    squares = np.cumsum((within**2).sum(axis=2), axis=1) - np.arange(1, looks.most + 1) * (means**2).sum(axis=2)
    df = (counts - 1) * (values.shape[2] - 1)
    sd = np.sqrt(squares[:, looks.first - 1 :] / df)
    estimates = means[:, looks.first - 1 :] @ weights.T
    errors = sd[:, :, None] * np.sqrt((weights**2).sum(axis=1)) / np.sqrt(counts)[:, None]

    def two_sided(t: Floats) -> Floats:
        """[studies, looks, contrasts]: p of the rule by then."""
        nominal = np.minimum(2 * stdtr(df[:, None], -t), 1)
        by_look = [looks.p(n, nominal[:, at], values.shape[2] - 1) for at, n in enumerate(counts.tolist())]
        return np.minimum.accumulate(np.stack(by_look, axis=1), axis=1)

    p = _holm(two_sided(np.abs(estimates) / errors))
    if margins is not None:
        least, most = margins
        inside = np.minimum(estimates - least, most - estimates)
        p = np.minimum(p, _holm(two_sided(inside / errors) / 2))
    return np.asarray((p < ALPHA).all(axis=2))


def _holm(p: Floats) -> Floats:
    """Holm's correction over the last axis."""
    order = np.argsort(p, axis=-1)
    family = p.shape[-1]
    sorted_p = np.take_along_axis(p, order, axis=-1) * (family - np.arange(family))
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(np.maximum.accumulate(sorted_p, axis=-1), 1), axis=-1)
    return corrected


def margins_in_spreads(metric: Metric, margin: float | None, sd: float) -> tuple[float, float] | None:
    """The margin, in % or the metric's unit, to both sides in spreads."""
    if margin is None:
        return None
    least, most = (metric.difference([-margin, margin]) / sd).tolist()
    return least, most


def added_seeds(
    plan: Plan, twins: Mapping[Subset, Subset], spreads: Sequence[Spread], pace: Pace | None, slots: int
) -> AddedSeeds:
    """Of a study whose seeds are added. `twins`: cells -> the cell whose runs are theirs."""
    can, most, given = plan.design.estimable, plan.study.design.max_seeds or FIRST_LOOK, plan.study.margins
    runs, walls = _until_looks(plan, most, pace, slots)
    margins = {each.metric: given.get(each.metric.name, given.get(base(each.metric.name))) for each in spreads}
    bounds = [margins_in_spreads(each.metric, margins[each.metric], each.sd) for each in spreads]

    def expected(effect: float) -> Expected | None:
        if not bounds or not can.effects:
            return None
        seeds, undecided = decided_after(can, plan.design.cells, twins, bounds, most, effect)
        looks = seeds.astype(int) - FIRST_LOOK
        time = float(walls[looks].mean()) if pace else None
        return Expected(float(seeds.mean()), undecided, float(runs[looks].mean()), time)

    return AddedSeeds(
        first=FIRST_LOOK,
        most=most,
        runs=(int(runs[0]), int(runs[-1])),
        seconds=(float(walls[0]), float(walls[-1])) if pace else None,
        metrics=tuple(metric.name for metric in margins),
        without_margin=tuple(metric.name for metric, margin in margins.items() if margin is None),
        effects=expected(EFFECT),
        none=expected(0.0),
    )


def _until_looks(plan: Plan, most: int, pace: Pace | None, slots: int) -> tuple[Floats, Floats]:
    """[looks]: the runs, and the seconds on all slots, until each of them: the first seeds and the control, then a seed
    at a time.
    """
    stages: list[list[Run]] = [[] for _ in range(FIRST_LOOK, most + 1)]
    for run in (*plan.runs, *plan.later):
        stages[max(0, run.seed + 1 - FIRST_LOOK) if run.seed < most else 0].append(run)
    seconds = [
        wall_time((pace.seconds(run.cell, run.settings.length) for run in stage), slots) if pace else 0.0
        for stage in stages
    ]
    seconds[0] += pace.once if pace else 0.0
    return np.cumsum([float(len(stage)) for stage in stages]), np.cumsum(seconds)
