"""`harness analyze`: what it finds in a CSV, and what it says of one that does not fit."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fuzz import examples
from harness.analysis.analyse import analyse
from harness.analysis.csv_columns import CsvColumns
from harness.analysis.export import as_json
from harness.analysis.from_csv import read_csv
from harness.cli.main import app
from harness.errors import DataError, HarnessError
from reported import REPORTS, SHIPPED

SIX = tuple("abcdef")
EFFECTS = dict(zip(SIX, (-12.0, 5.0, 0.0, 3.0, -2.0, 0.5), strict=True))


def quarter():
    """2^(6-2), e = abc and f = bcd."""
    for a, b, c, d in product((-1, 1), repeat=4):
        yield dict(zip(SIX, (a, b, c, d, a * b * c, b * c * d), strict=True))


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def planted(path: Path, spread: float = 0.0) -> Path:
    """FID by factors of 1 + effect %, and an interaction of a and c that aliases b and e's; a score without any."""
    rng, rows = np.random.default_rng(0), []
    for seed in (3, 11, 7):
        luck = rng.normal(0, 0.2)
        for signs in quarter():
            log = sum(np.log1p(EFFECTS[t] / 100) / 2 * x for t, x in signs.items()) + luck
            log += np.log1p(0.06) / 2 * signs["a"] * signs["c"] + spread * rng.normal()
            toggles = {t: int(x > 0) for t, x in signs.items()}
            rows.append({**toggles, "seed": seed, "fid": 30 * np.exp(log), "clip_score": 60 + luck + rng.normal()})
    return write(path, rows)


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def read(path, **said):
    return read_csv(path, CsvColumns(**said))


class TestWhatIsFound:
    def test_planted_effects_come_back_exactly_and_the_alias_is_named(self, tmp_path):
        done = CliRunner().invoke(app, ["analyze", str(planted(tmp_path / "r.csv")), "--json"])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)["metrics"]["fid"]
        assert {each["toggle"]: each["effect"] for each in found["effects"]} == pytest.approx(EFFECTS, abs=1e-9)
        groups = {tuple(each["aliases"]): each["effect"] for each in found["interactions"]}
        assert groups[("a:c", "b:e")] == pytest.approx(6.0)
        assert [value for aliases, value in groups.items() if aliases != ("a:c", "b:e")] == pytest.approx(
            [0] * 6, abs=1e-9
        )

    def test_with_noise_they_are_judged(self, tmp_path):
        done = CliRunner().invoke(app, ["analyze", str(planted(tmp_path / "r.csv", 0.01)), "--json"])
        found = json.loads(done.stdout)["metrics"]["fid"]
        verdicts = {each["toggle"]: each["verdict"] for each in found["effects"]}
        assert verdicts == {
            "a": "better",
            "b": "worse",
            "c": "inconclusive",
            "d": "worse",
            "e": "better",
            "f": "inconclusive",
        }
        for each in found["effects"]:
            assert each["ci"][0] < EFFECTS[each["toggle"]] < each["ci"][1]
            assert each["n"] == 3 and each["p_holm"] >= each["p"]
        cells = {each["cell"]: each for each in found["cells"]}
        assert cells["origin"]["verdict"] == "baseline" and cells["origin"]["states"] == {"done": 3}
        assert cells["full"]["n"] == 3

    def test_another_baseline_turns_the_differences_round(self, tmp_path):
        path = planted(tmp_path / "r.csv")
        table, _ = read(path)
        there = {c.cell: c for c in analyse(table, "origin").of("fid").cells}["full"].estimate.value
        back = {c.cell: c for c in analyse(table, "full").of("fid").cells}["origin"].estimate.value
        assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)

    def test_columns_are_told_apart_by_name_and_content(self, tmp_path):
        path = text(
            tmp_path / "r.csv",
            "run,cell,big idea,other,always,Seed,seed,attempt,fid,aesthetic_score,note,val_loss,weight\n"
            "x,base,0,no,1,0,0,0,20,1,good,0.5,3.2\nx,idea,1,no,1,0,0,1,18,2,good,0.4,3.1\nx,more,0,yes,1,0,0,1,18,2,,0.4,3\n",
        )
        table, unclear = read(path)
        assert table.toggles == ("big idea", "other")
        assert [cell.name for cell in table.cells] == ["base", "idea", "more"]
        assert [(c.metric.name, c.metric.better) for c in table.columns] == [
            ("fid", "lower"),
            ("aesthetic_score", "higher"),
            ("val_loss", "lower"),
        ]
        assert unclear == {
            "always": "it is the same in every row",
            "note": "it holds words",
            "weight": "nothing says which way is better; see --lower and --higher",
        }

    def test_the_user_has_the_last_word_on_columns(self, tmp_path):
        path = text(tmp_path / "r.csv", "a,b,s,weight,fid\n0,0,1,3,9\n1,1,1,4,8\n")
        table, _ = read(path, seed="s", toggles=("a",), lower=("weight",), higher=("b",))
        assert table.toggles == ("a",)
        assert {c.metric.name: c.metric.better for c in table.columns} == {
            "b": "higher",
            "weight": "lower",
            "fid": "lower",
        }

    def test_failures_and_divergences_stay(self, tmp_path):
        path = text(tmp_path / "r.csv", "a,seed,fid\n0,0,10\n0,1,11\n1,0,9\n1,1,nan\n1,2,\n0,2,inf\n")
        table, _ = read(path)
        assert table.counts == ({"done": 2, "diverged": 1}, {"done": 1, "diverged": 1, "failed": 1})
        assert analyse(table, "origin").of("fid").cells[1].estimate.verdict == "diverged"

    def test_states_may_be_said(self, tmp_path):
        path = text(tmp_path / "r.csv", "a,seed,state,fid\n0,0,FINISHED,10\n1,0,crashed,\n1,1,running,12\n")
        table, _ = read(path)
        assert table.states == ("done", "failed", "running")
        assert np.isnan(table.columns[0].values[2])

    def test_without_seeds_a_factorial_of_single_runs_is_read_by_lenth(self, tmp_path):
        rows = [{"a": a, "b": b, "c": c, "fid": 10 + a + 0.1 * b * c} for a, b, c in product((0, 1), repeat=3)]
        table, _ = read(write(tmp_path / "r.csv", rows))
        found = analyse(table, "origin").of("fid")
        assert found.lenth is not None
        assert {effect.estimate.verdict for effect in found.effects} == {"insufficient seeds"}

    @pytest.mark.parametrize("mark", [";", "\t"])
    def test_other_separators_are_seen(self, tmp_path, mark):
        table, _ = read(text(tmp_path / "r.csv", "a,seed,fid\n0,0,10\n1,0,9\n".replace(",", mark)))
        assert table.toggles == ("a",) and [column.metric.name for column in table.columns] == ["fid"]

    def test_what_runs_cost_is_no_metric_and_hides_no_twins(self, tmp_path):
        rows = "".join(f"{a},{s},{10 + s},{7 + a + s},{3 * a + s}\n" for s in (0, 1, 2) for a in (0, 1))
        table, unclear = read(text(tmp_path / "r.csv", "a,seed,fid,cost_s_per_kimg,seconds\n" + rows))
        assert [column.metric.name for column in table.columns] == ["fid"] and list(unclear) == ["seconds"]
        assert "origin and a have the same numbers" in analyse(table, "origin").notes[0]

    def test_a_column_of_words_with_a_metric_s_name_is_no_metric(self, tmp_path):
        table, _ = read(text(tmp_path / "r.csv", "a,seed,fid,map\n0,0,10,world\n1,0,9,world\n"))
        assert [column.metric.name for column in table.columns] == ["fid"]

    def test_blank_lines_and_a_byte_order_mark_do_no_harm(self, tmp_path):
        path = tmp_path / "r.csv"
        path.write_bytes(b"\xef\xbb\xbfa,seed,fid\r\n0,0,10\r\n\r\n1,0,9\r\n\r\n")
        table, _ = read(path)
        assert table.toggles == ("a",) and len(table.states) == 2


MISTAKES = {
    "a,seed,fid\n": "has no rows",
    "": "cannot be read as CSV",
    "seed,fid\n0,1\n": "no toggle; name them with --toggle",
    "variant,seed,fid\nbase,0,1\nattn,0,2\n": "; if variant tells what was trained, say --levels variant=REFERENCE",
    "a,seed,fid\n0,0,1\n1,0,x\n": r":3: fid: must be a number such as .* or nothing where there is none, not 'x'",
    "a,seed,fid\n0,0,1\n\n1,zero,2\n": r":4: seed: must be a whole number, not 'zero'",
    "a,seed,fid\n0,0,1\n1,0,2\n1,0,3\n": r":4: a under seed 0 stands in .*:3 already",
    "a,fid\n0,1\n1,2\n1,3\n": "no column 'seed'; name it with --seed",
    "a,seed,weight\n0,0,1\n1,0,2\n": "no column is known as a metric; the numeric columns are weight; say which",
    "a,seed,fid,state\n0,0,1,done\n1,0,2,splendid\n": ":3: state: must be one of done, .* not 'splendid'",
    "a,seed,fid\n0,0,1,5\n1,0,2,6\n": ":2: 4 values, more than the header's 3 names",
    "a,a,seed,fid\n0,0,0,1\n1,1,0,2\n": ":1: several columns are called 'a'",
    "\n ,\na,a,seed,fid\n0,0,0,1\n1,1,0,2\n": ":3: several columns are called 'a'",
    "\norigin,b,seed,fid\n0,0,0,5\n0,1,0,7\n1,0,0,4\n": ":2: a toggle may not be called 'origin'",
    "a,seed,fid\n0,0,1\n1,0,0\n": ":3: fid: must be above 0",
    "a,b,seed,fid\n0,0,0,1\n1,0,0,2\n0,1,0,2\n1,1,0,2\n0,0,1,2\n,1,1,2\n": ":7: a: must be 0 or 1",
    "a,b,seed,fid\n0,0,0,1\n1,0,0,2\n0,1,0,2\n1,1,0,2\n0,0,1,2\n2,1,1,2\n": ":7: a: must be 0 or 1",
}


@pytest.mark.parametrize("content", MISTAKES)
def test_what_does_not_fit_is_said_with_its_place(tmp_path, content):
    with pytest.raises(DataError, match=MISTAKES[content]) as raised:
        read(text(tmp_path / "r.csv", content))
    assert str(tmp_path / "r.csv") in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--baseline", "nobody"], "no run belongs to the baseline 'nobody': the cells are origin, a"),
        (["--toggle", "z"], "--toggle: no column 'z'; the columns are a, seed, fid"),
        (["--lower", "fid", "--higher", "fid"], "--lower and --higher both name fid"),
        (["--margin", "fid=5", "--margin", "fid=10"], "--margin fid=10: 'fid' has the margin 5 already; keep one"),
        (["--margin", "fid=x"], "--margin fid=x: must be METRIC=X"),
        (["--margin", "kid=1"], "--margin kid=1: no metric 'kid'; allowed: fid, fd"),
        (["--margin", "f=1"], "no metric 'f'; allowed: fid, fd"),
        (["--baseline", "b+a"], "name one of them as the baseline"),
        (["--margin", "fid=500"], "--margin fid=500: must be a finite number above 0 and below 100"),
    ],
)
def test_wrong_arguments_are_the_users_to_mend(tmp_path, monkeypatch, capsys, arguments, said):
    from harness.cli import main

    path = text(tmp_path / "r.csv", "a,seed,fid\n0,0,1\n1,0,2\n")
    monkeypatch.setattr("sys.argv", ["harness", "analyze", str(path), *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_folder_or_a_missing_file_is_named(tmp_path):
    for path, what in ((tmp_path, "cannot be read as CSV"), (tmp_path / "none.csv", r"none\.csv: no such file")):
        with pytest.raises(DataError, match=what):
            read(path)
    binary = tmp_path / "b.csv"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(DataError):
        read(binary)


PLAIN = ["", "0", "1", "-1", "1e308", "-inf", "nan", "0.5", "true"]
WORDS = st.sampled_from([*PLAIN, *PLAIN, "=cmd()", '"', "é", "x,y", "seed", "9" * 30, "\n"])
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # a failing table is small enough as it is
KNOWN = ["seed", "fid", "kid", "state", "cell", "a", "b"]
NAMES = st.sampled_from([*KNOWN, "", "a:b", "clip_score", "fd_", "_seen", "=1"])
TOGGLE, SEED = st.sampled_from(["0", "1"]), st.sampled_from(["0", "1", "2", "-3"])
NUMBER = st.one_of(WORDS, st.floats(allow_nan=True).map(repr), st.floats(1, 9).map(repr))
SOUND = st.tuples(TOGGLE, TOGGLE, SEED, NUMBER, NUMBER).map(list)


def lines(strategy, count):
    return st.lists(strategy, max_size=count, unique_by=lambda row: tuple(row[:3]))


TABLES = st.one_of(
    st.tuples(st.just(["a", "b", "seed", "fid", "kid"]), lines(SOUND, 12)),
    st.tuples(st.lists(NAMES, max_size=6), lines(st.lists(WORDS, max_size=7), 8)),
)


@given(TABLES, st.booleans())
@pytest.mark.fuzz
@settings(
    max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=QUICK
)
def test_any_table_is_analysed_or_refused(tmp_path, written, quoted):
    path, (head, rows) = tmp_path / "r.csv", written
    with path.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows([head, *rows])
    try:
        table, _ = read(path)
        json.dumps(as_json(analyse(table, table.cells[0].name)), allow_nan=False)
    except HarnessError as error:
        assert str(error).startswith(str(path))


@given(st.binary(max_size=200))
@pytest.mark.fuzz
@settings(
    max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=QUICK
)
def test_any_bytes_are_read_or_refused(tmp_path, content):
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        read(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_runs_of_a_report_are_read_back_to_its_numbers(name):
    told = json.loads((REPORTS / name / "analysis.json").read_text())["metrics"]
    table, _ = read(REPORTS / name / "runs.csv")
    margins = {name: found["margin"] for name, found in told.items() if found["margin"]}
    again = as_json(analyse(table, "origin", margins))["metrics"]
    for name, found in told.items():
        for kind in ("effects", "cells", "interactions"):
            for old, new in zip(found[kind], again[name][kind], strict=True):
                known = "difference" if kind == "cells" else "effect"
                assert new[known] == (None if old[known] is None else pytest.approx(old[known], abs=1e-9))
                assert new["verdict"] == old["verdict"] and new["ci"] == (
                    pytest.approx(old["ci"]) if old["ci"] else None
                )


def test_the_command_of_the_docs_computes_a_shipped_comparison_again(monkeypatch):
    monkeypatch.chdir(REPORTS.parent)
    (words,) = re.findall(r"^    harness (analyze reports/.+)$", Path("docs/reading.md").read_text(), re.MULTILINE)
    done = CliRunner().invoke(app, [*words.split(), "--json"])
    told = json.loads((Path(words.split()[1]).parent / "analysis.json").read_text())

    def verdicts(document):
        return {
            name: (found["role"], found["margin"], [each["verdict"] for each in found["effects"]])
            for name, found in document["metrics"].items()
        }

    assert verdicts(json.loads(done.stdout)) == verdicts(told)
