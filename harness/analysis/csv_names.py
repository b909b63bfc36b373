"""What names of columns and words of states mean in a CSV from anywhere, trackers and schedulers among them."""

from __future__ import annotations

import re
from typing import Literal

from harness.runs.record import STATES, State

Better = Literal["lower", "higher"]

_ABOUT = """
    run run_id id name cell seed state status step epoch attempt error manifest toggles
    engine engine_training engine_measuring weights_sha256 device torch
"""
"""Columns that tell about a run and are neither toggles nor metrics; `error` may be a metric if it holds numbers."""
_LOWER = frozenset({"loss", "error", "lpips", "mse", "rmse", "mae", "nll", "perplexity", "fvd"})
_HIGHER = frozenset({"clip", "is", "accuracy", "acc", "psnr", "ssim", "score", "reward", "f1", "map", "auc", "auroc"})
_SCORES = _HIGHER | {"inception", "aesthetic", "precision", "recall", "similarity", "alignment", "preference"}
"""Words before `_score` where higher is better. The ending alone tells nothing: fid_score is a distance."""
SHARES = frozenset({"accuracy", "acc", "error", "score", "reward", "f1", "auc", "auroc"})
"""Words of metrics that may well be 0 or 1 in every run."""
_STATES: dict[State, str] = {
    "done": "finished complete completed succeeded success successful ok published",
    "failed": "fail crashed crash error errored died boot_fail node_fail out_of_memory oom deadline not_responding",
    "interrupted": "killed preempted preempting stopped stopping canceled cancelled cancel_requested aborted "
    "terminated timeout time_out revoked suspended paused inactive",
    "running": "active in_progress started starting completing finalizing restarting",
    "pending": "queued waiting scheduled created staged not_started requeued preparing provisioning submitted",
    "diverged": "nan",
}
STATE_WORDS: dict[str, State] = {
    **{state: state for state in STATES},
    **{word: state for state, words in _STATES.items() for word in words.split()},
}
"""What a column of states may say, here and in the exports of MLflow, Optuna, Weights & Biases, Ray, Slurm, ClearML,
Determined, Sacred, Kubernetes and the clouds' trainers."""
SETTING = re.compile(r"(?:params|hparams|hyperparameters|parameters|config)[._/:]", re.IGNORECASE)
_RESULT = re.compile(r"(?:user_attrs|values)_(?=\D)|(?:[\w.-]+/|[\w-]+\.)+(?=\w)", re.IGNORECASE)
"""What trackers put before the names of settings, which are no results however they are called, and of results:
params.aug, hparams/lr; metrics.fid, eval/fid."""
SEEDS = "a seed or a repeat"
_NO_TOGGLE = {
    SEEDS: "trial repeat replicate replication repetition rep fold",
    "the end of a run": "success succeeded converged diverged collapsed failed crashed finished completed complete "
    "done passed valid ok early_stopped stopped_early best is_best",
    "the place of a run": "gpu device cuda_device rank local_rank worker node host machine slot",
}
"""What a column of 0 and 1 is called like that is no toggle."""


def is_about(name: str) -> bool:
    return name.lower() in _ABOUT.split() or name.lower().startswith("cost_")


def plain_name(name: str) -> str:
    """A name in small letters without what a tracker puts before it."""
    return (SETTING if SETTING.match(name) else _RESULT).sub("", name, count=1).lower()


def no_toggle(name: str) -> str:
    """What a column is called like if not like a toggle, in words: trial, data_seed, fold_id, converged, gpu."""
    word = re.sub(r"[_\W]?(?:id|idx|no|nr|index|number|num)$|[\W_]*\d+$", "", plain_name(name))
    if {"seed", "seeds"} & set(re.findall("[a-z]+", word)):
        return SEEDS
    return next((what for what, names in _NO_TOGGLE.items() if {word, word.removesuffix("s")} & set(names.split())), "")


def direction(plain: str) -> Better | None:
    """Which way is better by the name."""
    word = telling_word(plain)
    if word in _LOWER:
        return "lower"
    return "higher" if word in (_SCORES if plain.endswith("_score") else _HIGHER) else None


def telling_word(plain: str) -> str:
    """The part of a metric's name that says what it is: accuracy of val_accuracy, lpips of val_lpips_score."""
    name = plain.removesuffix("_score")
    last = name.rpartition("_")[2]
    return last if name != plain or last in ("loss", "error", "accuracy") else name


def state_of_word(text: str) -> State | None:
    """The state that a word of a tracker or a scheduler stands for; None if it is not known."""
    word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)  # InProgress
    word = word.lower().rpartition(".")[2]  # TrialState.COMPLETE
    word = re.sub(r"( by \d+|\+)$", "", word)  # Slurm: CANCELLED by 1000, CANCELLED+
    return STATE_WORDS.get(re.sub(r"[\s-]+", "_", word))
