"""The section on how a search was made, and how to look into it. No torch here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.report import by_code, wording
from harness.report.beside import SEARCH, files
from harness.report.document.document import Code, CodeBlock, Details, Paragraph, Section, Text, bullets
from harness.report.search import answer
from harness.report.search.sections import Figures
from harness.runs.folders import other_runs
from harness.settings import as_tree
from harness.study import search_space
from harness.tuning.findings import Findings
from harness.tuning.placing import LINE, STEP, lines
from harness.tuning.trials import JOURNAL, name

_SAMPLERS = {
    "tpe": "TPE (multivariate Parzen estimators)",
    "gp": "GP (a Gaussian process)",
    "nsga2": "NSGA-II (a genetic algorithm)",
}
_PRUNERS = {
    "none": "none: every trial is trained to its end",
    "halving": "successive halving on what is measured on the way",
    "hyperband": "Hyperband on what is measured on the way",
    "wilcoxon": "Wilcoxon's signed-rank test over the seeds of a trial",
}


def method(found: Findings, _: Figures) -> Section:
    """Sampler, pruner, seeds, budget, the search's name in Optuna, and the weights found as text."""
    search, tune = found.search, found.search.tune
    hours = sum(row.seconds for row in found.trials) / 3600
    items: list[Text] = [
        f"cell: {search.cell.name}, with {wording.listed(search.cell.toggles) or 'no toggle'}",
        f"objective: {answer.aim(found)}",
        f"sampler: {_SAMPLERS[tune.sampler]}, each weight on a logarithmic scale, weights as written first",
        f"pruner: {_PRUNERS[search_space.pruner(search.cell.settings, tune)]}",
        f"budget: {tune.trials} trials of {wording.seeds(tune.seeds)}; {hours:.2f} hours of training so far",
        f"seeds of a trial: {_range(search.seeds)}",
        f"fresh seeds of the comparison: {_range(search.fresh_seeds) or 'none'}",
        ("search: ", Code(search.identity), ", in Optuna's storage ", Code(name(search))),
    ]
    items += _by_code(found)
    split = (
        "A trial is trained and measured on a split of its own: what the study holds out is left out of it, and other "
        "images and captions are held out in its place. So no trial has seen the images and captions that the study "
        "holds out."
    )
    look: Text = (
        "To look into the search: ",
        Code(f"optuna-dashboard {shlex.quote(f'runs/{search.study.label}/{JOURNAL}')}"),
        " beside the study file; or with the URL of tune.storage or OPTUNA_STORAGE, if one was set.",
    )
    blocks = (bullets(items), Paragraph(split, note=True), Paragraph(look), *files(search.study, SEARCH).blocks)
    return Section("How it was searched", (*blocks, *_written_back(found)), "method")


def _by_code(found: Findings) -> list[str]:
    """Trials of several codes answer no common question: where that is so, it is said."""
    root, told = found.search.study.root, "a search begins anew where its folder of runs is moved away"
    done = (run for run in other_runs(root, ()) if (root / run.id / "result.json").exists())
    return [f"code: {text}" for text in by_code.told(done, told)]


def _range(seeds: Sequence[int]) -> str:
    """`10000 to 10004` where they follow each other."""
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return wording.listed([str(seed) for seed in seeds])


def _written_back(found: Findings) -> tuple[Details, ...]:
    if found.best is None or found.best.number == 0:
        return ()
    return (Details("The weights found, as a study file has them", (CodeBlock(as_yaml(found), "yaml"),)),)


def as_yaml(found: Findings) -> str:
    """The best weights as settings of a study file, whose comment says where they come from."""
    assert found.best is not None
    head = f"# found by trial {found.best.number} of search {found.search.identity}"
    return "\n".join([head, *lines(as_tree(found.best.values), STEP, LINE)])
