"""Columns of other tools' tables: which is a toggle, a seed, a metric, and what is no table at all."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.analysis.analyse import analyse
from harness.analysis.csv_columns import CsvColumns
from harness.analysis.from_csv import read_csv
from harness.cli.main import app
from harness.errors import DataError
from harness.report import wording
from test_csv_of_others import table, with_column


def test_names_of_trackers_mean_what_they_say_without_their_beginnings(tmp_path):
    """MLflow, Weights & Biases and Optuna put words before settings and results."""
    plain = ["seed,aug,ema,fid,accuracy,aux_weight\n"]
    plain += [f"{s},{a},{e},{30 + s - a},0.8{s}{a},{0.1 * a}\n" for s in (0, 1) for a, e in ((0, 0), (1, 0), (0, 1))]
    before = {"MLflow": ("params.", "metrics."), "W&B": ("config/", "eval/"), "Optuna": ("params_", "user_attrs_")}
    wanted, _ = table(tmp_path, "".join(plain))
    for setting, result in before.values():
        head = f"{setting}seed,{setting}aug,{setting}ema,{result}fid,{result}accuracy,{setting}aux_loss\n"
        found, left_out = table(tmp_path, "".join([head, *plain[1:]]))
        assert found.toggles == (f"{setting}aug", f"{setting}ema")
        assert [(c.metric.name, c.metric.scale, c.metric.better) for c in found.columns] == [
            (f"{result}fid", "log", "lower"),
            (f"{result}accuracy", "raw", "higher"),
        ]
        assert found.seed.tolist() == wanted.seed.tolist() and left_out == {f"{setting}aux_loss": "it is a setting"}
        np.testing.assert_equal([c.values for c in found.columns], [c.values for c in wanted.columns])


@pytest.mark.parametrize(
    ("name", "like"),
    [(name, "a seed or a repeat") for name in ("data_seed", "trial", "seed2", "Repeat", "fold_id", "params.rng_seed")]
    + [(name, "the end of a run") for name in ("diverged", "success", "is_best", "summary.converged")]
    + [(name, "the place of a run") for name in ("gpu", "gpu_id", "cuda_device")],
)
def test_a_column_of_0_and_1_that_is_called_like_no_idea_is_no_toggle_unless_named(tmp_path, name, like):
    content = with_column(name, ["0", "1", "0", "1", "1", "0"])
    found, left_out = table(tmp_path, content)
    assert found.toggles == ("a", "b") and f"called like {like}" in left_out[name] and "--toggle" in left_out[name]
    named, left_out = table(tmp_path, content, toggles=("a", "b", name))
    assert named.toggles == ("a", "b", name) and not left_out


@pytest.mark.parametrize("name", ["score", "accuracy", "loss", "best", "fold", "trial_2", "gpu", "epoch"])
def test_a_toggle_may_be_called_anything_where_the_cells_are_named_after_it(tmp_path, name):
    cells = ("origin,0,0", "full-minus-X,1,0", "X+a,1,1", "my_own,0,1")
    rows = (f"{cell},{seed},{30 + seed + place}" for seed in (0, 1) for place, cell in enumerate(cells))
    content = "\n".join(["cell,a,X,seed,kid", *rows]).replace("X", name)
    found, left_out = table(tmp_path, content)
    assert found.toggles == ("a", name) and not left_out
    assert [column.metric.name for column in found.columns] == ["kid"]
    # Under other names of cells it is what it is called like, which the refusal of rows that seem to be alike says.
    for other in ("second", "origin+a"):
        with pytest.raises(DataError, match=rf" already; .*; if {name} is a toggle, name all toggles with --toggle$"):
            table(tmp_path, content.replace(f"full-minus-{name}", other).replace(f"{name}+a", f"full-minus-{name}"))


@pytest.mark.parametrize(
    "name", ["trial_mix", "seeded", "manifold", "multi_gpu_norm", "one_run", "okay", "img_loss", "lpips"]
)
def test_a_toggle_may_be_called_nearly_so(tmp_path, name):
    assert table(tmp_path, with_column(name, ["0", "1", "0", "0", "1", "0"]))[0].toggles == ("a", "b", name)


@pytest.mark.parametrize(
    ("name", "better", "scale"),
    [(name, "lower", "log") for name in ("fid_score", "metrics.fid_score", "fd_score")]
    + [(name, "lower", "raw") for name in ("kid_score", "lpips_score", "fvd_score", "log_loss_score", "val_mse_score")]
    + [(name, "higher", "raw") for name in ("clip_score", "val_clip_score", "inception_score", "f1_score", "score")]
    + [(name, "", "") for name in ("energy_score", "brier_score", "anomaly_score", "my_score", "val_fid_score")],
)
def test_the_ending_score_says_nothing_of_the_direction(tmp_path, name, better, scale):
    found, left_out = table(tmp_path, with_column(name, ["0.3", "0.2", "0.31", "0.22", "0.35", "0.3"]))
    told = [(column.metric.better, column.metric.scale) for column in found.columns if column.metric.name == name]
    assert told == ([(better, scale)] if better else []) and (name in left_out) == (not better)


@pytest.mark.parametrize("name", ["accuracy", "reward", "auc", "f1", "f1_score", "val_accuracy", "val_error", "loss"])
def test_a_metric_of_0_and_1_is_no_toggle_unless_named(tmp_path, name):
    content = with_column(name, ["0", "1", "0", "1", "1", "0"])
    found, _ = table(tmp_path, content)
    assert found.toggles == ("a", "b") and [column.metric.name for column in found.columns] == ["fid", name]
    assert table(tmp_path, content, toggles=("a", "b", name))[0].toggles == ("a", "b", name)


def test_a_repeat_in_the_place_of_a_seed_is_named(tmp_path):
    content = with_column("x", [""] * 6).replace(",seed,", ",trial,")
    with pytest.raises(DataError, match="no column 'seed'; name it with --seed, such as trial;"):
        table(tmp_path, content)
    assert table(tmp_path, content, seed="trial")[0].seed.tolist() == [0, 0, 0, 1, 1, 1]


def test_second_columns_of_seeds_and_states_are_told_where_they_differ(tmp_path):
    content = "a,seed,Seed,state,status,fid\n0,0,5,ok,ok,30\n1,0,5,ok,failed,28\n"
    assert table(tmp_path, content)[1] == {
        "Seed": "runs are paired by seed",
        "status": "states of runs are read from state",
    }
    same = "a,seed,Seed,state,status,fid\n0,0,0,ok,ok,30\n1,0,0,failed,failed,28\n"
    assert not table(tmp_path, same)[1]


@pytest.mark.parametrize(
    "said",
    [
        {"toggles": ("a", "seed")},
        {"higher": ("seed",)},
        {"lower": ("state",)},
        {"toggles": ("a",), "lower": ("a",)},
        {"seed": "a", "toggles": ("a",)},
    ],
)
def test_a_column_is_one_thing(tmp_path, said):
    with pytest.raises(DataError, match=r"is said to be .* and .*; keep one"):
        table(tmp_path, "a,seed,state,fid\n0,0,ok,30\n1,0,ok,28\n", **said)


def test_a_toggle_named_twice_is_one(tmp_path):
    found, _ = table(tmp_path, with_column("x", [""] * 6), toggles=("a", "b", "a"))
    assert found.toggles == ("a", "b")


def test_the_levels_of_books_are_told(tmp_path):
    _, left_out = table(tmp_path, with_column("c", ["-1", "1", "-1", "+1", "1", "-1"]))
    assert left_out == {"c": "it holds -1 and 1; if it is a toggle, write 0 and 1"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04\x14\x00\xff\xfe", "workbooks"),
        (b"\x1f\x8b\x08\x00\xff", "gunzip"),
        (b"PAR1\x15\x00\xff", "Parquet"),
        (b"SQLite format 3\x00\x10", "SQLite"),
        (b"a|seed|fid\n0|0|3\n", r"r\.csv:1: the header is 'a\|seed\|fid', a single name"),
        (b"\n# mine\na,seed,fid\n0,0,3\n", r"r\.csv:2: the header is '# mine'"),
        (b"sep=,\na,seed,fid\n0,0,3\n", r"r\.csv:2: 3 values, more than the header's 2 names \(line 1\)"),
    ],
)
def test_what_is_no_csv_is_named(tmp_path, content, told):
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_csv(tmp_path / "r.csv", CsvColumns())


def test_a_clip_score_that_is_a_cosine_keeps_its_digits(tmp_path):
    """Points are 100 times as many, and are shown with fewer decimals."""
    for values, unit, told in (
        (["0.312", "0.318", "0.314", "0.310", "0.320", "nan"], "", "0.311 ± 0.001"),
        (["31.2", "31.8", "31.4", "31.4", "32.0", "inf"], "points", "31.3 ± 0.1"),
        (["8.21", "8.31", "8.2", "8.23", "8.3", ""], "points", "8.220 ± 0.014"),  # a spread is not rounded to none
    ):
        analysis = analyse(table(tmp_path, with_column("clip_score", values))[0], "origin")
        result = analysis.of("clip_score")
        assert result.metric.unit == unit and wording.mean_sd(result.metric, result.cell("origin")) == told


def test_metrics_that_the_terminal_does_not_show_are_told(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text(with_column("accuracy", ["0.8", "0.83", "0.81", "0.82", "0.84", "0.8"]))
    done = CliRunner().invoke(app, ["analyze", str(path)])
    assert "shown by --json only: accuracy;" in done.stderr and "accuracy" not in done.stdout
    for option in (["--margin", "accuracy=0.01"], ["--higher", "accuracy"]):
        done = CliRunner().invoke(app, ["analyze", str(path), *option])
        assert "--json only" not in done.stderr and "accuracy, higher is better" in done.stdout
