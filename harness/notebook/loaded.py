"""A study with what its run folders hold: tables, samples, and its answer where a notebook shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.study.schema import Study

if TYPE_CHECKING:
    import pandas as pd

    from harness.grid.outcome import Outcome
    from harness.notebook.samples import Samples


class LoadedStudy(Study):
    """A study from `load`, and what its runs hold by now; a notebook shows its answer and the effects.

    Each table is read anew from the run folders when it is asked for, so it is never older than the runs: keep what is
    used several times. Runs that are not finished are in the tables too, by their `state`. All of them raise
    HarnessError where data or weights that the study names are missing, as nothing tells its runs without them.
    """

    @property
    def runs(self) -> pd.DataFrame:
        """One row for each planned run, whatever became of it; the columns of runs.csv of its report. A cell that
        computes the very same as an earlier one has that one's runs, and no rows.

        `run` (id), `cell`, `seed`, 0 or 1 for each toggle, the level of each factor, `state` ("done", "running",
        "interrupted", "pending", "pruned", "diverged" or "failed"), `step`, `attempt`, `error`, which code and machine
        made it, then a column for each metric in the metric's own unit and one for each cost (`cost_seconds`,
        `cost_peak_memory_mb`, ...), NaN where the run has none. `harness.analyse` reads such a table, which carries in
        its `attrs` what the study asks for: baseline, margins, factors, looks, headline metrics. A merge loses these.
        """
        from harness.analysis.asked import carry
        from harness.notebook.tables import runs_table

        outcome = self._outcome()
        return carry(runs_table(outcome.records, self.toggle_names, self.factors), outcome.analysis, self.margins)

    @property
    def curves(self) -> pd.DataFrame:
        """One row for each number that a run has logged, with `run`, `cell`, `seed`, `step`, `kimg` and `time`.

        `kimg` is thousands of images seen, `time` Unix time in seconds; `name` is as in the run's metrics.jsonl, such
        as "metrics/fd_emoji" and "generator/itd_f", and `value` the number. Runs whose log is damaged are left out,
        with a warning that names them.
        """
        from harness.notebook.tables import curves_table

        return curves_table(self._outcome().records)

    @property
    def effects(self) -> pd.DataFrame:
        """What each idea does to each metric, with intervals and verdicts: see `effect_table`, which makes it."""
        from harness.notebook.tables import effect_table

        return effect_table(self._outcome().analysis)

    @property
    def looks(self) -> pd.DataFrame:
        """Where seeds are added until the results decide: `seeds`, `metric`, `toggle` and whether it was `decided`.

        One row for each look, headline metric and effect; no rows where the number of seeds is fixed.
        """
        from harness.notebook.tables import looks_table

        return looks_table(self._outcome().analysis)

    def samples(self, cell: str, seed: int, step: int | None = None) -> Samples:
        """The images that a run has drawn of the study's captions; the same captions and latents in all runs.

        Args:
            cell: Name of a cell, such as "origin" or "full".
            seed: One of its seeds.
            step: The training step; None: the last at which it has drawn any.

        Returns:
            The samples: `.images` of R x R pixels, `.captions`, `.real`, `.step`, all `.steps`; a notebook shows them.

        Raises:
            HarnessError: No such cell, seed or step, or nothing is drawn yet; the message names what there is.

        Example:
            study.samples("full", 0).images[0].save("first.png")
        """
        from harness.notebook.samples import read_samples
        from harness.study.plan import make_plan

        return read_samples(make_plan(self), cell, seed, step)

    def _outcome(self) -> Outcome:
        from harness.grid.outcome import gather
        from harness.study.plan import make_plan

        return gather(make_plan(self))

    def _repr_html_(self) -> str:
        from harness.notebook.summary import summary

        return summary(self)

    def __repr__(self) -> str:
        return f"<study {self.title}: {self.path}>"
