"""Levels in `harness analyze`: columns, references, messages, and a study's own results read back."""

from __future__ import annotations

import csv
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.analysis.csv_columns import CsvColumns
from harness.analysis.from_csv import read_csv
from harness.cli.main import app
from harness.errors import DataError
from harness.report.data_files import csv_text

EFFECTS = {"a": 3.0, "b": -2.0, "tau=0.1": 1.25, "tau=1": -4.0}
LEVELS = {"0.1": 1.25, "0.5": 0.0, "1.0": -4.0}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows(**more: Any) -> list[dict[str, Any]]:
    luck = np.random.default_rng(0).normal(0, 2, 3)
    return [
        {"a": a, "b": b, "tau": tau, "seed": seed, "clip_score": 60 + 3 * a - 2 * b + LEVELS[tau] + luck[seed], **more}
        for seed in range(3)
        for a, b, tau in product((0, 1), (0, 1), LEVELS)
    ]


def analyzed(path: Path, *words: str) -> Any:
    done = CliRunner().invoke(app, ["analyze", str(path), "--json", *words])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def effects(found: Any, metric: str = "clip_score") -> dict[str, float]:
    return {each["toggle"]: each["effect"] for each in found["metrics"][metric]["effects"]}


def refusal(path: Path, *levels: str, **said: Any) -> str:
    with pytest.raises(DataError) as refused:
        read_csv(path, CsvColumns(levels=levels, **said))
    return str(refused.value).replace(str(path), "r.csv")


def test_planted_effects_come_back_exactly(tmp_path: Path) -> None:
    found = analyzed(write(tmp_path / "r.csv", rows()), "--levels", "tau=0.50")
    assert effects(found) == pytest.approx(EFFECTS, abs=1e-9)
    assert found["toggles"] == ["a", "b", "tau=0.1", "tau=1"]
    assert found["levels"][0]["reference"] == "tau=0.5" and found["levels"][0]["setting"] is None
    (trend,) = found["metrics"]["clip_score"]["trends"]
    assert (trend["factor"], trend["effect"]) == ("tau", pytest.approx(-5.25))
    names = {cell["cell"] for cell in found["metrics"]["clip_score"]["cells"]}
    assert {"origin", "tau=0.1", "full+tau=1", "a+tau=0.1"} <= names


def test_with_lost_runs_too(tmp_path: Path) -> None:
    made = rows()
    for place in (1, 7, 20):
        made[place]["clip_score"] = ""
    assert effects(analyzed(write(tmp_path / "r.csv", made), "--levels", "tau=0.5")) == pytest.approx(EFFECTS, abs=1e-9)


def test_another_reference_and_baseline(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", rows())
    found = analyzed(path, "--levels", "tau=0.1", "--baseline", "a+tau=1.0")
    assert found["baseline"] == "a+tau=1"
    assert effects(found) == pytest.approx({"a": 3, "b": -2, "tau=0.5": -1.25, "tau=1": -5.25}, abs=1e-9)


def test_the_rows_of_the_origin_tell_the_reference(tmp_path: Path) -> None:
    made = rows()
    for row in made:
        on = [name for name in "ab" if row[name]]
        row["cell"] = "+".join([*on, *([f"t{row['tau']}"] if row["tau"] != "0.5" else [])]) or "origin"
    path = write(tmp_path / "r.csv", made)
    assert effects(analyzed(path, "--levels", "tau")) == pytest.approx(EFFECTS, abs=1e-9)
    for row in made:
        row["cell"] = row["cell"].replace("origin", "plain")
    found = analyzed(write(path, made), "--levels", "tau", "--baseline", "plain")
    assert found["levels"][0]["reference"] == "tau=0.5" and found["baseline"] == "plain"


def test_words_are_levels_in_the_order_of_the_file_and_have_no_trend(tmp_path: Path) -> None:
    made = rows()
    for row in made:
        row["tau"] = {"0.1": "warm air", "0.5": "cold", "1.0": "hot"}[row["tau"]]
    found = analyzed(write(tmp_path / "r.csv", made), "--levels", "tau=cold")
    assert effects(found) == pytest.approx({"a": 3, "b": -2, "tau=warm-air": 1.25, "tau=hot": -4}, abs=1e-9)
    assert found["metrics"]["clip_score"]["trends"] == []


@pytest.mark.parametrize("minus", ["-", "\N{MINUS SIGN}"])
def test_numbers_are_levels_however_they_are_written(tmp_path: Path, minus: str) -> None:
    """With either minus sign, more digits than needed, and words beside them."""
    spelt = {"0.1": [f"{minus}1.0", f"{minus}1", f"{minus}1e0"], "0.5": ["0.50", "5e-1", "0.5"], "1.0": ["auto"] * 3}
    made = [{**row, "tau": spelt[row["tau"]][row["seed"]]} for row in rows()]
    found = analyzed(write(tmp_path / "r.csv", made), "--levels", "tau=0.500")
    assert effects(found) == pytest.approx({"a": 3, "b": -2, "tau=-1": 1.25, "tau=auto": -4}, abs=1e-9)


def test_a_level_is_named_as_the_file_has_it(tmp_path: Path) -> None:
    made = [{**row, "w": {"0.1": "c:d", "0.5": "5%", "1.0": "x y"}[row["tau"]]} for row in rows()]
    made = [{name: value for name, value in row.items() if name != "tau"} for row in made]
    found = analyzed(write(tmp_path / "r.csv", made), "--levels", "w = 5%")
    assert effects(found) == pytest.approx({"a": 3, "b": -2, "w=c-d": 1.25, "w=x-y": -4}, abs=1e-9)


def test_levels_alone_need_no_toggle(tmp_path: Path) -> None:
    made = [{k: v for k, v in row.items() if k not in "ab"} for row in rows() if not row["a"] and not row["b"]]
    found = analyzed(write(tmp_path / "r.csv", made), "--levels", "tau=0.5")
    assert effects(found) == pytest.approx({"tau=0.1": 1.25, "tau=1": -4}, abs=1e-9)


class TestMessages:
    def test_no_reference(self, tmp_path: Path) -> None:
        assert refusal(write(tmp_path / "r.csv", rows()), "tau") == (
            "r.csv: --levels tau: nothing says which of its levels the others are compared with (0.1, 0.5, 1); "
            "name it, such as --levels tau=0.1"
        )

    def test_a_factor_that_nobody_named(self, tmp_path: Path) -> None:
        assert refusal(write(tmp_path / "r.csv", rows())).endswith(
            "the toggles are a, b; if tau is a factor with levels, name it with --levels tau=REFERENCE"
        )

    @pytest.mark.parametrize("name", ["cell", "Cell", "config/cell", "label"])
    def test_a_factor_of_two_levels_is_told_and_no_name_of_cells(self, tmp_path: Path, name: str) -> None:
        made = [{name: f"m{row['a']}-{row['tau']}", **row} for row in rows() if row["tau"] != "1.0" and not row["b"]]
        path = write(tmp_path / "r.csv", [{key: row[key] for key in row if key != "b"} for row in made])
        if name != "label":
            assert refusal(path).endswith("; if tau is a factor with levels, name it with --levels tau=REFERENCE")
            why = f"{name!r} names the cells, which the toggles and other factors make up"
            for more in ((), ("tau=0.5",)):
                told = refusal(path, f"{name}=m0-0.5", *more)
                assert told == f"r.csv: --levels {name}: {why}; name the columns in which the cells differ"
        assert list(effects(analyzed(path, "--levels", "tau=0.5"))) == ["a", "tau=0.1"]
        alone = write(tmp_path / "r.csv", [{key: row[key] for key in (name, "seed", "clip_score")} for row in made])
        assert len(effects(analyzed(alone, "--levels", f"{name}=m0-0.5"))) == 3

    def test_a_column_that_may_be_a_factor(self, tmp_path: Path) -> None:
        """Where every row has a seed of its own, nothing else tells that cells are mixed."""
        made = [{**row, "seed": place} for place, row in enumerate(rows())]
        _, left_out = read_csv(write(tmp_path / "r.csv", made), CsvColumns())
        said = "nothing says which way is better; see --lower and --higher; if it is a factor, name it with --levels"
        assert left_out == {"tau": said}

    def test_an_unknown_level_and_column(self, tmp_path: Path) -> None:
        path = write(tmp_path / "r.csv", rows())
        assert refusal(path, "tau=2") == "r.csv: --levels tau=2: no such level; the levels are 0.1, 0.5, 1"
        words = write(tmp_path / "r.csv", [{**row, "on": str(row["a"] > 0).lower()} for row in rows()])
        said = "no such level; did you mean 'false'? the levels are false, true"
        assert refusal(words, "tau=0.5", "on=False") == f"r.csv: --levels on=False: {said}"
        assert refusal(path, "tua=2").startswith("r.csv: --levels: no column 'tua'; did you mean 'tau'?")

    def test_one_value_and_too_many(self, tmp_path: Path) -> None:
        one = write(tmp_path / "r.csv", rows(lr=1))
        assert refusal(one, "lr=1") == "r.csv: --levels lr: the column has 1 value; a factor has 2 to 64 levels"
        many = [{**row, "lr": place / 7} for place, row in enumerate(rows() * 2)]
        found = refusal(write(tmp_path / "r.csv", many), "lr=0")
        assert found == "r.csv: --levels lr: the column has 72 values; a factor has 2 to 64 levels"

    def test_an_empty_place(self, tmp_path: Path) -> None:
        made = rows()
        made[3]["tau"] = ""
        found = refusal(write(tmp_path / "r.csv", made), "tau=0.5")
        assert found == "r.csv:5: tau: must be a level in every row, as --levels names it a factor, not ''"

    def test_a_factor_that_is_named_twice(self, tmp_path: Path) -> None:
        found = refusal(write(tmp_path / "r.csv", rows()), "tau=0.5", "tau=1")
        assert found == "r.csv: --levels tau=1: 'tau' is named twice; keep one"

    def test_a_comma_in_a_number(self, tmp_path: Path) -> None:
        made = [{**row, "tau": row["tau"].replace(".", ",")} for row in rows()]
        found = refusal(write(tmp_path / "r.csv", made), "tau=0,5")
        assert found == (
            "r.csv:2: tau: must be a word, or a number with a point, such as 0.5, as --levels names it a factor, "
            "not '0,1'"
        )

    def test_rows_of_one_cell_say_what_tells_cells_apart(self, tmp_path: Path) -> None:
        found = refusal(write(tmp_path / "r.csv", rows() * 2), "tau=0.5")
        assert found.endswith("the toggles are a, b; the factors are tau")

    def test_two_things_at_once(self, tmp_path: Path) -> None:
        path = write(tmp_path / "r.csv", rows())
        found = refusal(path, "a=0", toggles=("a",))
        assert found == "r.csv: the column 'a' is said to be a toggle and a factor; keep one"

    def test_names_that_cells_need(self, tmp_path: Path) -> None:
        made = [{**row, "x:y": row["tau"]} for row in rows()]
        assert "a factor may not be called 'x:y'" in refusal(write(tmp_path / "r.csv", made), "x:y=0.5")

    def test_two_values_of_one_name(self, tmp_path: Path) -> None:
        made = [{**row, "w": {"0.1": "a b", "0.5": "a+b", "1.0": "c"}[row["tau"]]} for row in rows()]
        found = refusal(write(tmp_path / "r.csv", made), "w=c")
        assert found == "r.csv: --levels w: two values would both be called 'w=a-b'; rename one"

    def test_a_toggle_called_like_a_level(self, tmp_path: Path) -> None:
        made = [{**row, "tau=1": row["a"]} for row in rows()]
        found = refusal(write(tmp_path / "r.csv", made), "tau=0.5")
        assert (
            found == "r.csv:1: the toggle 'tau=1' is called like a level of --levels tau; give the column another name"
        )


@pytest.mark.parametrize("mark", ["", "'"])
def test_levels_below_0_that_a_report_writes_are_numbers_with_a_trend(tmp_path: Path, mark: str) -> None:
    """Also as reports of before wrote them, with a mark."""
    made = [{**row, "tau": {"0.1": "-20", "0.5": "0", "1.0": "-1e-05"}[row["tau"]]} for row in rows()]
    text = csv_text([*made[0]], [[*row.values()] for row in made])
    assert "'" not in text and csv_text(["x"], [["-20+1"], ["-2e"]]) == "x\n'-20+1\n'-2e\n"
    (tmp_path / "r.csv").write_text(text.replace("-20", f"{mark}-20").replace("-1e", f"{mark}-1e"))
    found = analyzed(tmp_path / "r.csv", "--levels", "tau=0")
    assert effects(found) == pytest.approx({"a": 3, "b": -2, "tau=-20": 1.25, "tau=-1e-05": -4}, abs=1e-9)
    [trend] = found["metrics"]["clip_score"]["trends"]
    assert trend["levels"] == ["tau=-20", "tau=-1e-05", "tau=0"]


def test_a_zero_with_a_sign_is_the_same_level(tmp_path: Path) -> None:
    """As rounding writes it."""
    as_zero = {"0.1": "0.0", "0.5": "0.5", "1.0": "1.0"}
    plain = [{**row, "tau": as_zero[row["tau"]]} for row in rows()]
    signed = [{**row, "tau": "-0.0" if row["tau"] == "0.0" and row["seed"] == 1 else row["tau"]} for row in plain]
    one, other = (
        analyzed(write(tmp_path / f"{name}.csv", made), "--levels", "tau=0.5")
        for name, made in (("plain", plain), ("signed", signed))
    )
    assert effects(one) == effects(other) and "tau=0" in effects(one)
