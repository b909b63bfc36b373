"""The trials of a search in Optuna's storage, which several processes may share."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

# At the top: the mirror's thread imports MLflow, which imports SQLAlchemy too. Two threads that enter such a package by
# different modules at once find it half made.
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from harness.databases import OF_DATABASES, absolute_address, explained, quiet_libraries, with_driver
from harness.errors import HarnessError
from harness.files import alone, write_text
from harness.masking import masked, remember
from harness.study import search_space
from harness.tuning.search import Search, Values

JOURNAL = "optuna.log"
STORAGE = "OPTUNA_STORAGE"
"""The variable with the address of the storage, where the study names none."""
OUTCOME, MEASURED = "outcome", "measured"
"""Attributes of a trial: done, pruned or diverged; and metric -> value."""
CONNECT_S = 20
"""Seconds until a database server that does not answer cannot be reached."""
_STARTUP = 10
"""Trials at random values, before a sampler's model of the objective is used."""


class Trials:
    """Draws trials and stores their outcomes. Raises HarnessError when the storage cannot be used."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.root = search.study.root
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.distributions: dict[str, BaseDistribution] = {
            each.name: FloatDistribution(each.low, each.high, log=True) for each in search.parameters
        }
        with storage_errors(search), self._alone():
            self.study = self._open()
            if not self.all():
                self.study.enqueue_trial(search.written)

    def all(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        return self.study.get_trials(deepcopy=False)

    def running(self) -> list[FrozenTrial]:
        """Trials that have no outcome yet, whoever has them."""
        return [trial for trial in self.all() if trial.state == TrialState.RUNNING]

    def is_over(self, number: int) -> bool:
        """Whether the trial has an outcome."""
        return self.all()[number].state.is_finished()

    def left(self) -> int:
        """How many trials may still begin."""
        begun = sum(trial.state != TrialState.WAITING for trial in self.all())
        return max(0, self.search.tune.trials - begun)

    def ask(self) -> Trial | None:
        """A new trial with its values; None when there are as many as there may be."""
        with self._alone():
            if not self.left():
                return None
            self.study.sampler = self._sampler(len(self.all()))
            return self.study.ask(self.distributions)

    def resume(self, trial: FrozenTrial) -> Trial:
        """A trial whose process is gone; the values that it had not drawn yet are drawn."""
        with self._alone():
            self.study.sampler = self._sampler(trial.number)
            resumed = Trial(self.study, trial._trial_id)
            for each in self.search.parameters:
                if each.name in trial.params and each.name not in resumed.relative_params:
                    # Drawn once more for the values after it, which would else be those of the numbers before.
                    self.study.sampler.sample_independent(self.study, trial, each.name, trial.distributions[each.name])
                resumed.suggest_float(each.name, each.low, each.high, log=True)
            return resumed

    def complete(self, trial: Trial, values: Values) -> None:
        """The trial measured these values. Those of the first trial are what constraints are measured against."""
        first = self.first()
        trial.set_user_attr(MEASURED, dict(values))
        trial.set_user_attr(OUTCOME, "done")
        if self.search.constraints:
            for name, excess in self.search.excess(values, first or values).items():
                trial.set_constraint(name, excess)
        with self._alone():
            self.study.tell(trial, [values[metric.name] for metric in self.search.objectives])

    def give_up(self, trial: Trial, outcome: str) -> None:
        """The trial was pruned or has diverged: it counts as a trial, and is never the best."""
        trial.set_user_attr(OUTCOME, outcome)
        several = len(self.search.objectives) > 1
        with self._alone():
            self.study.tell(trial, state=TrialState.FAIL if several else TrialState.PRUNED)

    def first(self) -> dict[str, float] | None:
        """What the trial with the weights as written has measured; None before it has."""
        values: dict[str, float] | None = self.all()[0].user_attrs.get(MEASURED)
        return values

    def _alone(self) -> Any:
        return alone(self.root, "trials")

    def _open(self) -> optuna.Study:
        lower, higher = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
        directions = [lower if metric.better == "lower" else higher for metric in self.search.objectives]
        study = optuna.create_study(
            storage=open_storage(self.search),
            study_name=self.search.name,
            directions=directions,
            sampler=self._sampler(0),
            pruner=_pruner(self.search),
            load_if_exists=True,
        )
        if storage_address(self.search):  # the folder's own journal is of this folder
            self._check_place(study)
        study.set_metric_names([metric.name for metric in self.search.objectives])
        study.set_user_attr("cell", self.search.cell.name)
        return study

    def _check_place(self, study: optuna.Study) -> None:
        """A search has one folder, where its claims and runs are; a storage may be seen from many."""
        path = self.root / "place"
        here = path.read_text(errors="replace").strip() if path.exists() else ""
        there = study.user_attrs.get("place")
        if there is None:
            if not here:
                write_text(path, here := uuid4().hex)
            study.set_user_attr("place", here)
        elif there != here:
            problem = f"the search {self.search.name} in its storage belongs to another folder of runs"
            fix = "work in that folder, or give the study another name or storage"
            lost = f"if this is that folder and its file `place` was lost, write {there} into {path}"
            raise HarnessError(f"{self.root}: {problem}; {fix}; {lost}")

    def _sampler(self, number: int) -> BaseSampler:
        """The sampler of one trial. Its seed follows from the number, so a stopped search continues in the same way."""
        text = f"{self.search.name} {number}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return _Exact(self.search, self._proposing(seed))

    def _proposing(self, seed: int) -> BaseSampler:
        match self.search.tune.sampler:
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP)
            case "nsga2":
                # Five generations, but none too small to select from, nor larger than Optuna's default.
                population = min(50, max(4, self.search.tune.trials // 5))
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
            case "tpe":
                return optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=_STARTUP, multivariate=True, constant_liar=True
                )


@contextmanager
def storage_errors(search: Search) -> Iterator[None]:
    """What the storage raises inside, such as when its server is gone, becomes a HarnessError that says what to do."""
    try:
        yield
    except (StorageInternalError, UpdateFinishedTrialError, SQLAlchemyError) as error:
        failed = f"the storage of the search failed ({explained(error, storage_address(search), OF_DATABASES)})"
        raise HarnessError(f"{search.study.root}: {failed}; nothing is lost, the same command goes on") from error


def storage_address(search: Search) -> str:
    """The study's `tune.storage`, else OPTUNA_STORAGE, else an empty text for a journal file."""
    return search.tune.storage or os.environ.get(STORAGE, "")


def storage_source(search: Search) -> str:
    """Where that address stands, for messages about it."""
    return search.study.placed("tune.storage") if search.tune.storage else STORAGE


def open_storage(search: Search) -> BaseStorage:
    """The storage at `storage_address`. Raises HarnessError.

    A relative SQLite file of the study is beside the study file, one of OPTUNA_STORAGE where the command is given.
    """
    written = search.tune.storage
    address = storage_address(search)
    if not address:
        search.study.root.mkdir(parents=True, exist_ok=True)
        return JournalStorage(_Journal(search.study.root))
    remember(address)
    source = storage_source(search)
    url = absolute_address(address, search.study.path.parent if written else Path.cwd(), source)
    quiet_libraries()
    allowed = "sqlite:///FILE.db, mysql://.., postgresql://.. or null for a journal file"
    if "://" not in url:
        meant = f"did you mean 'sqlite:///{masked(url)}'?"
        raise HarnessError(f"{source}: {masked(url)!r} is not the address of a database; {meant} allowed: {allowed}")
    try:
        return RDBStorage(with_driver(url), _engine_options(url))
    except Exception as error:  # a driver's own kinds of errors
        why = explained(error, url, OF_DATABASES)
        raise HarnessError(f"{source}: {masked(url)!r} cannot be opened ({why}); allowed: {allowed}") from error


def _engine_options(url: str) -> dict[str, Any]:
    """Of SQLAlchemy: a server may close a connection that waits for a long run, and a machine may not answer at all."""
    if url.startswith("sqlite"):
        return {}
    knows_timeout = re.match(r"(?:postgresql|mysql|mariadb)(?:\+(?:psycopg2?|pymysql|mysqldb))?:", url)
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_S} if knows_timeout else {}}


class _Exact(BaseSampler):
    """A sampler whose proposals are rounded before Optuna notes them, so that it learns from what is trained."""

    def __init__(self, search: Search, sampler: BaseSampler) -> None:
        self._search, self._sampler = search, sampler

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._search.exact(self._sampler.sample_relative(study, trial, search_space))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        value = self._sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._search.exact({param_name: value})[param_name]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


class _Journal(JournalFileBackend):
    """Optuna's journal file, of which half a line, left by a process that died or a full disk, is cut off before the
    next one is written: it would spoil that too.

    Its lock is one that ends with its process, as Optuna's own does not: others wait for that for half a minute.
    """

    def __init__(self, root: Path) -> None:
        self._path, self._alone = root / JOURNAL, alone(root, "journal")
        if self._path.is_file() and not self._path.stat().st_size and any(root.glob("*/run.json")):
            raise self._damaged("is empty, but its folder holds runs; put a whole copy back")
        super().__init__(str(self._path), self._alone)  # type: ignore[arg-type]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        following = log_number_from
        try:
            for log in super().read_logs(log_number_from):
                if not _is_log(log):
                    raise ValueError
                yield log
                following += 1
        except ValueError as error:
            lines = enumerate(self._path.read_bytes().splitlines(), 1)
            number = next((number for number, line in lines if _is_damaged(line)), 0)
            if not number:  # another process was cutting off half a line
                yield from self.read_logs(following)
                return
            fix = "delete it if it was added, put a whole copy back if it was overwritten"
            raise self._damaged(f"line {number} is not Optuna's; {fix}") from error

    def _damaged(self, problem: str) -> HarnessError:
        anew = "or move the file away: the search begins anew, and the same runs are not trained again"
        return HarnessError(f"{self._path}: {problem}, {anew}")

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with self._alone:
            if (size := self._path.stat().st_size) and _last_byte(self._path) != b"\n":
                os.truncate(self._path, self._path.read_bytes().rfind(b"\n", 0, size) + 1)
            super().append_logs(logs)


def _is_log(entry: Any) -> bool:
    return isinstance(entry, dict) and {"op_code", "worker_id"} <= entry.keys()


def _is_damaged(line: bytes) -> bool:
    try:
        return not _is_log(json.loads(line))
    except ValueError:
        return True


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read()


def _pruner(search: Search) -> BasePruner:
    snapshots = search.cell.settings.snapshots
    match search_space.pruner(search.cell.settings, search.tune):
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=snapshots, reduction_factor=2)
        case "wilcoxon":
            return optuna.pruners.WilcoxonPruner(p_threshold=0.1, n_startup_steps=search_space.SEEDS_TO_PRUNE - 1)
        case "none":
            return optuna.pruners.NopPruner()
