"""What names and words of a table from elsewhere mean. No torch here."""

from __future__ import annotations

import re
from typing import Literal

import pandas as pd

from harness.runs.record import STATES, State

Better = Literal["lower", "higher"]

ON = frozenset({"1", "1.0", "true", "t", "yes", "y", "on", "enabled"})
OFF = frozenset({"0", "0.0", "false", "f", "no", "n", "off", "disabled"})
CODED = frozenset({"-1", "1", "+1", "-1.0", "1.0", "+1.0"})
"""The two levels of a toggle, as books on the design of experiments write them."""
MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "none", "null", "-", "–", "—"})
"""What stands where there is no number; `nan` is a number that is not finite."""

_ABOUT = "run run_id id name cell seed state status step epoch attempt error manifest toggles engine "
_ABOUT += "engine_training engine_measuring weights_sha256"
ABOUT = frozenset(_ABOUT.split())
"""Columns that tell about a run and are neither toggles nor metrics; `error` may be a metric if it holds numbers."""
WEIGHTS = "weights_sha256"
"""The column of a report that holds the digest of the weights that a run came to: equal ones trained alike."""
_LOWER = frozenset({"loss", "error", "lpips", "mse", "rmse", "mae", "nll", "perplexity", "fvd"})
_HIGHER = frozenset(
    {"clip", "is", "inception_score", "accuracy", "acc", "psnr", "ssim", "score", "reward", "f1", "map", "auc", "auroc"}
)
_STATES: dict[State, str] = {
    "done": "finished complete completed succeeded success successful ok published",
    "failed": "fail crashed crash error errored died boot_fail node_fail out_of_memory oom deadline not_responding",
    "interrupted": "killed preempted preempting stopped stopping canceled cancelled cancel_requested aborted "
    "terminated timeout time_out revoked suspended paused inactive",
    "running": "active in_progress started starting completing finalizing restarting",
    "pending": "queued waiting scheduled created staged not_started requeued preparing provisioning submitted",
    "diverged": "nan",
}
WORDS: dict[str, State] = {
    **{state: state for state in STATES},
    **{word: state for state, words in _STATES.items() for word in words.split()},
}
"""What a column of states may say, here and in the exports of MLflow, Optuna, Weights & Biases, Ray, Slurm, ClearML,
Determined, Sacred, Kubernetes and the clouds' trainers."""
_LIKE_A_NUMBER = re.compile(r"[^\w.,]*[.,]?\d")
_SETTING = re.compile(r"(?:params|hparams|hyperparameters|parameters|config)[._/:]", re.IGNORECASE)
_RESULT = re.compile(r"(?:user_attrs|values)_(?=\D)|(?:[\w.-]+/|[\w-]+\.)+(?=\w)", re.IGNORECASE)
"""What trackers put before the names of settings and of results: params.aug, params_aug; metrics.fid, eval/fid."""
SEEDS = "a seed or a repeat"
_NO_IDEA = {
    SEEDS: "trial repeat replicate replication repetition rep fold",
    "the end of a run": "success succeeded converged diverged collapsed failed crashed finished completed complete "
    "done passed valid ok early_stopped stopped_early best is_best",
    "the place of a run": "gpu device cuda_device rank local_rank worker node host machine slot",
}
"""What a column of 0 and 1 is called like that holds no toggle."""


def about(name: str) -> bool:
    return name.lower() in ABOUT or name.lower().startswith("cost_")


def is_setting(name: str) -> bool:
    """Whether a tracker says that it was given to the run: no result, however it is called."""
    return bool(_SETTING.match(name))


def plain(name: str) -> str:
    """A name in small letters without what a tracker puts before it."""
    return (_SETTING if is_setting(name) else _RESULT).sub("", name, count=1).lower()


def no_idea(name: str) -> str:
    """What a column is called like if not like a toggle, in words: trial, data_seed, fold_id, converged, gpu."""
    told = re.sub(r"[_\W]?(?:id|idx|no|nr|index|number|num)$|[\W_]*\d+$", "", plain(name))
    if {"seed", "seeds"} & set(re.findall("[a-z]+", told)):
        return SEEDS
    return next((what for what, names in _NO_IDEA.items() if {told, told.removesuffix("s")} & set(names.split())), "")


def direction(name: str) -> Better | None:
    """Which way is better, told by the name; nothing of a setting, such as the weight of a loss."""
    if is_setting(name):
        return None
    return _direction(plain(name))


def _direction(plain: str) -> Better | None:
    if plain in _LOWER or plain.endswith(("_loss", "_error")):
        return "lower"
    return "higher" if plain in _HIGHER or plain.endswith(("_score", "_accuracy")) else None


def state(text: str) -> State | None:
    """The state that a word of a tracker or a scheduler stands for; None if it is not known."""
    word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)  # InProgress
    word = word.lower().rpartition(".")[2]  # TrialState.COMPLETE
    word = re.sub(r"( by \d+|\+)$", "", word)  # Slurm: CANCELLED by 1000, CANCELLED+
    return WORDS.get(re.sub(r"[\s-]+", "_", word))


def like_a_number(text: str) -> bool:
    """Whether a reader sees a number, in whatever form: 81.2%, 1,234.5, 0,81, $ 5, 3 ± 1."""
    return bool(_LIKE_A_NUMBER.match(text))


def numeric(texts: pd.Series[str]) -> pd.Series[float]:
    """Numbers; not a number for every other text. The typographic minus is a minus."""
    return pd.to_numeric(texts.str.replace("\N{MINUS SIGN}", "-"), errors="coerce")
