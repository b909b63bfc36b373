"""Tables as other tools write them: nothing is lost without a word, and no word is misread."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fuzz import examples
from harness.analysis.analyse import analyse
from harness.analysis.csv_columns import CsvColumns
from harness.analysis.from_csv import read_csv, with_margins
from harness.cli.main import app
from harness.errors import DataError, HarnessError

ROWS = [(0, 0, 0, 30.1), (1, 0, 0, 28.1), (0, 1, 0, 29.2), (0, 0, 1, 31.1), (1, 0, 1, 28.5), (0, 1, 1, 30.4)]


def table(tmp_path, content: str, **said):
    path = tmp_path / "r.csv"
    path.write_text(content, encoding="utf-8")
    return read_csv(path, CsvColumns(**said))


def with_column(name: str, values: list[str], mark: str = ",") -> str:
    head = mark.join(["a", "b", "seed", "fid", name])
    rows = [mark.join([*map(str, row), value]) for row, value in zip(ROWS, values, strict=True)]
    return "\n".join([head, *rows]) + "\n"


FORMS = {
    "per cent": ["81.2%", "83.1%", "81.0%", "81.9%", "83.3%", "81.1%"],
    "a space before the sign": ["81.2 %", "83.1 %", "81.0 %", "81.9 %", "83.3 %", "81.1 %"],
    "thousands": ['"1,234.5"', '"1,334.5"', '"1,134.5"', '"1,244.5"', '"1,294.5"', '"1,274.5"'],
    "apostrophes": ["1'234", "1'334", "1'134", "1'244", "1'294", "1'274"],
    "decimal comma": ['"0,81"', '"0,83"', '"0,82"', '"0,81"', '"0,83"', '"0,80"'],
    "mean and spread": ["0.81 ± 0.01", "0.83 ± 0.01", "0.82 ± 0.02", "0.81 ± 0.0", "0.83 ± 0.1", "0.8 ± 0.1"],
    "a unit": ["12 dB", "13 dB", "12 dB", "11 dB", "14 dB", "12 dB"],
    "one of six": ["81.2", "83.1", "81.0%", "81.9", "83.3", "81.1"],
    "a word among numbers": ["81.2", "83.1", "see log", "81.9", "83.3", "81.1"],
    "all marked": ["~81", "~83", "~81", "~82", "~83", "~81"],
}


@pytest.mark.parametrize("name", ["accuracy", "reward", "val_loss", "psnr", "clip_score", "fd_dinov2"])
@pytest.mark.parametrize("form", FORMS)
def test_a_known_metric_in_another_form_is_refused_with_its_line(tmp_path, name, form):
    values = FORMS[form]
    line = next(n for n, value in enumerate(values, 2) if not value.replace(".", "").isdigit())
    with pytest.raises(DataError, match=rf"r\.csv:{line}: {name}: must be a number such as 1234\.5"):
        table(tmp_path, with_column(name, values))


@pytest.mark.parametrize("nothing", ["", "-", "–", "—", "NA", "n/a", "#N/A", "<NA>", "None", "null"])
def test_what_stands_for_no_number_is_none(tmp_path, nothing):
    found, left_out = table(tmp_path, with_column("accuracy", ["81.2", "83.1", nothing, "81.9", "83.3", "81.1"]))
    assert [column.metric.name for column in found.columns] == ["fid", "accuracy"] and not left_out
    np.testing.assert_equal(found.columns[1].values, [81.2, 83.1, np.nan, 81.9, 83.3, 81.1])


def test_a_typographic_minus_is_a_minus(tmp_path):
    found, _ = table(tmp_path, with_column("reward", ["−1.5", "-2", "3", "4", "5", "6"]))
    assert found.columns[1].values.tolist()[:2] == [-1.5, -2]


def test_an_unknown_column_in_another_form_is_told(tmp_path):
    _, left_out = table(tmp_path, with_column("my_thing", FORMS["per cent"]))
    assert left_out == {"my_thing": "nothing says which way is better; see --lower and --higher"}
    with pytest.raises(DataError, match="my_thing: must be a number"):
        table(tmp_path, with_column("my_thing", FORMS["per cent"]), higher=("my_thing",))


def test_every_column_that_takes_no_part_is_told_with_its_reason(tmp_path):
    content = "a,b,seed,fid,host,lr,gpus,empty,cell\n"
    cells = ["x", "y", "z", "x", "y2", "z"]
    for row, cell in zip(ROWS, cells, strict=True):
        content += f"{','.join(map(str, row))},node-7,{0.1 * row[3]},8,,{cell}\n"
    path = tmp_path / "r.csv"
    path.write_text(content)
    _, left_out = read_csv(path, CsvColumns())
    assert left_out == {
        "host": "it holds words",
        "lr": "nothing says which way is better; see --lower and --higher",
        "gpus": "it is the same in every row",
        "empty": "it is empty",
        "cell": "it does not name each combination of the toggles by a name of its own",
    }
    done = CliRunner().invoke(app, ["analyze", str(path)])
    assert done.exit_code == 0 and "left out: host (it holds words)" in done.output


def test_a_column_error_is_a_message_or_a_metric(tmp_path):
    found, _ = table(tmp_path, with_column("error", ["0.1", "0.2", "0.1", "0.1", "0.3", "0.1"]))
    assert [column.metric.name for column in found.columns] == ["fid", "error"]
    found, left_out = table(tmp_path, with_column("error", ["", "out of memory", "", "", "", ""]))
    assert [column.metric.name for column in found.columns] == ["fid"] and not left_out


WITHOUT_A_NUMBER = "State,seed,aug,fid\nfinished,0,0,30.1\nfinished,0,1,28\nfinished,1,0,31\n{},1,1,{}\n"


@pytest.mark.parametrize(
    ("state", "value", "told"),
    [
        ("finished", "", "failed"),
        ("", "", "failed"),
        ("", "29", "done"),
        ("finished", "-", "failed"),
        ("finished", "nan", "diverged"),
        ("finished", "inf", "diverged"),
        ("finished", "-inf", "diverged"),
        ("crashed", "29", "failed"),
        ("running", "", "running"),
        ("", "NaN", "diverged"),
    ],
)
def test_no_number_is_a_failure_and_one_that_is_not_finite_a_divergence(tmp_path, state, value, told):
    found, _ = table(tmp_path, WITHOUT_A_NUMBER.format(state, value))
    assert found.states == ("done", "done", "done", told)


def test_nan_in_another_column_is_no_divergence(tmp_path):
    found, _ = table(tmp_path, with_column("note", ["", "", "nan", "", "", ""]).replace("29.2", ""))
    assert found.states[2] == "failed"


TRACKERS = {
    "Optuna": {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "pending"},
    "Optuna 2": {"TrialState.COMPLETE": "done", "TrialState.FAIL": "failed"},
    "MLflow": {
        "FINISHED": "done",
        "SCHEDULED": "pending",
        "FAILED": "failed",
        "KILLED": "interrupted",
        "RUNNING": "running",
    },
    "Weights & Biases": {
        "finished": "done",
        "crashed": "failed",
        "failed": "failed",
        "killed": "interrupted",
        "preempted": "interrupted",
        "preempting": "interrupted",
        "pending": "pending",
    },
    "Slurm": {
        "COMPLETED": "done",
        "TIMEOUT": "interrupted",
        "CANCELLED by 1000": "interrupted",
        "CANCELLED+": "interrupted",
        "OUT_OF_MEMORY": "failed",
        "NODE_FAIL": "failed",
        "PREEMPTED": "interrupted",
        "SUSPENDED": "interrupted",
    },
    "Ray": {"TERMINATED": "interrupted", "ERROR": "failed", "PAUSED": "interrupted"},
    "ClearML": {"in_progress": "running", "queued": "pending", "published": "done", "aborted": "interrupted"},
    "Kubernetes": {"Succeeded": "done"},
    "clouds": {
        "InProgress": "running",
        "Canceled": "interrupted",
        "NotStarted": "pending",
        "Not Responding": "failed",
    },
    "Sacred": {"DIED": "failed", "INTERRUPTED": "interrupted"},
}


@pytest.mark.parametrize(("word", "state"), [pair for words in TRACKERS.values() for pair in words.items()])
def test_trackers_words_are_read(tmp_path, word, state):
    content = f"a,seed,state,fid\n0,0,done,30\n1,0,done,28\n0,1,done,31\n1,1,{word},29\n"
    found, _ = table(tmp_path, content)
    assert found.states[3] == state


def test_names_are_stripped_and_their_letters_do_not_matter_for_seed_and_state(tmp_path):
    found, _ = table(tmp_path, "a, b , SEED,\tfid, State\n0, 0, 0, 30, ok\n1, 0, 0, 28, ok\n0, 1, 0, 29, failed\n")
    assert found.toggles == ("a", "b") and found.states == ("done", "done", "failed")
    assert [column.metric.name for column in found.columns] == ["fid"] and found.seed.tolist() == [0, 0, 0]
    with pytest.raises(DataError, match=r":1: several columns are called 'fid'"):
        table(tmp_path, "a,seed,fid, fid\n0,0,1,2\n1,0,1,2\n")
    with pytest.raises(DataError, match="--seed: no column 'sed'; did you mean 'seed'"):
        table(tmp_path, "a,seed,fid\n0,0,1\n1,0,1\n", seed="sed")


@pytest.mark.parametrize("name", ["origin", "full", "full-minus-b", "b+c", "b:c"])
def test_a_toggle_may_not_bear_the_name_of_a_cell(tmp_path, name):
    with pytest.raises(DataError, match=r"r\.csv:1: a toggle may not be called"):
        table(tmp_path, f"{name},b,seed,kid\n0,0,0,5\n0,1,0,7\n1,0,0,4\n")
    found, left_out = table(tmp_path, f"{name},b,seed,kid\n0,0,0,5\n0,1,0,7\n", toggles=("b",))
    assert found.toggles == ("b",) and name in left_out


@pytest.mark.parametrize("wrong", ["origin", "b", "full"])
def test_a_cell_may_not_bear_the_name_of_another(tmp_path, wrong):
    with pytest.raises(DataError, match=rf"r\.csv:3: cell: the name '{wrong}' stands for other toggles than a"):
        table(tmp_path, f"cell,a,b,seed,kid\nbase,0,0,0,5\n{wrong},1,0,0,4\nother,0,1,0,7\n")


def test_what_quotes_do_to_rows_is_told(tmp_path):
    lone = 'a\tseed\tfid\tnote\n0\t0\t30\tx\n1\t0\t28\t"hello\n0\t1\t31\tbye"\n1\t1\t29\ty\n'
    with pytest.raises(DataError, match=r"r\.csv:3: a quotation mark makes one row of the lines 3 to 4"):
        table(tmp_path, lone)
    with pytest.raises(DataError, match=r"r\.csv:3: cannot be read as CSV \(unexpected end of data\)"):
        table(tmp_path, 'a,seed,fid,note\n0,0,30,x\n1,0,28,"hello\n0,1,31,y\n')
    found, _ = table(tmp_path, 'a,note,seed,fid\n0,"two\nlines, one row",0,30\n1,"say ""so""",0,28\n')
    assert len(found.states) == 2
    with pytest.raises(DataError, match=r":4: seed: must be a whole number"):  # the line of the file, not of the row
        table(tmp_path, 'a,note,seed,fid\n0,"two\nlines",0,30\n1,x,zero,28\n')


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("1,0", "2 values, fewer than the header's 3 names"),
        ("1,0,28,1", "4 values, more than the header's 3 names"),
        ("1", "1 value, fewer than the header's 3 names"),
    ],
)
def test_a_row_of_another_width_is_refused(tmp_path, row, told):
    with pytest.raises(DataError, match=rf"r\.csv:3: {told}"):
        table(tmp_path, f"a,seed,fid\n0,0,30\n{row}\n0,1,31\n")


def test_other_encodings_are_named(tmp_path):
    path = tmp_path / "r.csv"
    for encoding in ("utf-16", "latin-1"):
        path.write_bytes("é,seed,fid\n0,0,30\n1,0,28\n".encode(encoding))
        with pytest.raises(DataError, match="is no UTF-8 text; save the file as UTF-8"):
            read_csv(path, CsvColumns())


def test_the_index_that_pandas_writes_is_told(tmp_path):
    found, left_out = table(tmp_path, ",a,seed,fid\n0,0,0,30\n1,1,0,28\n2,0,1,31\n3,1,1,29\n")
    assert found.toggles == ("a",) and list(left_out) == ["column 1"]
    found, left_out = table(tmp_path, "a,seed,fid,\n0,0,30,\n1,0,28,\n")
    assert found.toggles == ("a",) and not left_out


@given(st.permutations(range(12)), st.permutations(range(5)))
@pytest.mark.fuzz
@settings(max_examples=examples(60), deadline=None)
def test_the_order_of_rows_and_columns_does_not_matter(tmp_path_factory, rows, columns):
    numbers = np.random.default_rng(5).normal(10, 1, 12).tolist()
    head = ["a", "b", "seed", "fid", "kid"]
    runs = zip(product((0, 1), (0, 1), range(3)), numbers, strict=True)
    body = [[*cell, seed, fid, fid - 5] for (*cell, seed), fid in runs]
    path = tmp_path_factory.mktemp("order") / "r.csv"

    def estimates(order, names):
        lines = [",".join(head[n] for n in names), *(",".join(str(body[r][n]) for n in names) for r in order)]
        path.write_text("\n".join(lines) + "\n")
        found, _ = read_csv(path, CsvColumns())
        result = analyse(found, "origin")
        return {
            (metric.metric.name, frozenset([effect.toggle])): effect.estimate
            for metric in result.metrics
            for effect in metric.effects
        } | {(m.metric.name, frozenset(c.toggles)): c.estimate for m in result.metrics for c in m.cells if c.estimate}

    straight, turned = estimates(range(12), range(5)), estimates(rows, columns)
    assert straight.keys() == turned.keys()
    for key, one in straight.items():
        other = turned[key]
        assert (one.verdict, one.improved, one.seeds) == (other.verdict, other.improved, other.seeds)
        got, wanted = [(e.value, e.low, e.high, e.p, e.p_holm) for e in (other, one)]
        assert got == pytest.approx(wanted, rel=1e-8)


def test_a_digest_of_runs_that_measure_unlike_proves_nothing(tmp_path):
    """Such as that of the first weights, which all cells of a seed share."""
    found, left_out = table(tmp_path, with_column("weights_sha256", ["x", "x", "x", "y", "y", "y"]))
    assert found.twins == (0, 1, 2) and "proves nothing" in left_out["weights_sha256"]
    assert analyse(found, "origin").of("fid").effects[0].estimate.value == pytest.approx(-7.5, abs=0.1)
    alike = "a,seed,fid,weights_sha256\n0,0,30,x\n1,0,30.003,x\n0,1,31,y\n1,1,31,y\n"  # twice, on two machines
    found, left_out = table(tmp_path, alike)
    assert found.twins == (0, 0) and not left_out


def test_the_order_in_which_seeds_are_looked_at_is_told(tmp_path):
    path, seeds = tmp_path / "r.csv", (42, 7, 5, 41, 1)
    path.write_text("a,seed,fid\n" + "".join(f"{a},{s},{30 + s / 9 - a}\n" for s in seeds for a in (0, 1)))
    said = " ".join(CliRunner().invoke(app, ["analyze", str(path), "--looks", "3..8"]).stderr.split())
    assert "looks: after seeds 1, 5 and 7, then after each of 41 and 42, in the order of their numbers" in said
    assert "looks:" not in CliRunner().invoke(app, ["analyze", str(path), "--looks", "5..8"]).stderr


def test_a_margin_is_of_the_named_metric_or_kind_alone(tmp_path):
    rows = ["0,0,3,.3,30,28", "1,0,2.4,.24,29,27", "0,1,3.1,.31,31,29", "1,1,2.5,.25,30,28.2"]
    found, _ = table(tmp_path, "\n".join(["a,seed,loss,g_loss,fid,fd_dinov2", *rows]))
    margins = {"loss": 0.5, "fd": 5.0}
    assert {it.metric.name: it.margin for it in analyse(with_margins(found, margins), "origin", margins).metrics} == {
        "loss": 0.5,
        "g_loss": None,
        "fid": 5.0,
        "fd_dinov2": 5.0,
    }
    with pytest.raises(HarnessError, match="no metric 'g'; allowed: fid, fd_dinov2, loss, g_loss, f"):
        with_margins(found, {"g": 1.0})


@pytest.mark.parametrize(
    ("margin", "fits"), [("mse=1e-9", True), ("mse=2e12", True), ("mse=0", False), ("fid=120", False)]
)
def test_a_margin_is_in_the_unit_of_its_metric(tmp_path, margin, fits):
    path = tmp_path / "r.csv"
    path.write_text("a,seed,fid,mse\n0,0,30,5e-9\n1,0,28,4e-9\n0,1,31,5e-9\n1,1,29,3e-9\n")
    done = CliRunner().invoke(app, ["analyze", str(path), "--margin", margin, "--json"])
    assert (done.exit_code == 0) == fits
    if fits:
        assert json.loads(done.stdout)["metrics"]["mse"]["margin"] == float(margin.partition("=")[2])
