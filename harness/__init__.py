"""Ablations of text-to-image GANs: a study file in, trained and compared runs out.

    import harness

    study = harness.load("ablations.yaml", overrides=["train.kimg=2"])
    print(len(harness.plan(study).plan.runs), "runs")
    harness.run_grid(study)
    print(study.effects[["metric", "toggle", "effect", "low", "high", "verdict"]])

The functions are documented in `harness.api`, `harness.comparing` and `harness.sharing`, and docs/python.md shows them
at work; the command line calls the same ones. Importing this package loads nothing else of it: each name is loaded when
it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.csv_columns import CsvColumns
    from harness.analysis.looks import Looks
    from harness.analysis.results import Analysis
    from harness.api import (
        compare_designs,
        first_weights,
        import_weights,
        load,
        plan,
        run_grid,
        tune,
        write_report,
    )
    from harness.comparing import analyse, evaluate
    from harness.errors import HarnessError
    from harness.grid.run import GridResult
    from harness.grid.tune import TuneResult
    from harness.metrics.evaluate import Evaluation, Networks
    from harness.notebook.loaded import LoadedStudy
    from harness.notebook.samples import Samples
    from harness.notebook.tables import effect_table
    from harness.planning.budget import Comparison
    from harness.planning.forecast import Forecast
    from harness.sharing import pack, unpack
    from harness.storage.pack import Packed
    from harness.storage.unpack import Unpacked
    from harness.study.plan import Plan
    from harness.study.schema import Study
    from harness.training.import_weights import Imported

__version__ = "0.1.0"
__all__ = [
    "Analysis", "Comparison", "CsvColumns", "Evaluation", "Forecast", "GridResult", "HarnessError", "Imported",
    "LoadedStudy", "Looks", "Networks", "Packed", "Plan", "Samples", "Study", "TuneResult", "Unpacked", "__version__",
    "analyse", "compare_designs", "effect_table", "evaluate", "first_weights", "import_weights", "load", "pack", "plan",
    "run_grid", "tune", "unpack", "write_report",
]  # fmt: skip

_HOME = {
    "Analysis": "harness.analysis.results",
    "Comparison": "harness.planning.budget",
    "CsvColumns": "harness.analysis.csv_columns",
    "Evaluation": "harness.metrics.evaluate",
    "Forecast": "harness.planning.forecast",
    "GridResult": "harness.grid.run",
    "HarnessError": "harness.errors",
    "Imported": "harness.training.import_weights",
    "LoadedStudy": "harness.notebook.loaded",
    "Looks": "harness.analysis.looks",
    "Networks": "harness.metrics.evaluate",
    "Packed": "harness.storage.pack",
    "Plan": "harness.study.plan",
    "Samples": "harness.notebook.samples",
    "Study": "harness.study.schema",
    "TuneResult": "harness.grid.tune",
    "Unpacked": "harness.storage.unpack",
    "analyse": "harness.comparing",
    "effect_table": "harness.notebook.tables",
    "evaluate": "harness.comparing",
    "pack": "harness.sharing",
    "unpack": "harness.sharing",
}
"""Name -> where it is defined, of those that are not in `harness.api`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME.get(name, "harness.api")), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
