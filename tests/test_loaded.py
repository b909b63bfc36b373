"""`harness.load(...)`: runs, curves, effects, looks and samples of a study, finished, half way and hostile."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import adding
import harness
from harness.analysis.export import as_json
from harness.cli.main import app
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Result, Run
from harness.study.plan import make_plan
from synthetic import CARD

HOSTILE = "<img src=x onerror=alert(1)>"
STUDY = """
study: tiny
toggles: [mix_logits, transform_w, slow: {train.lr: 0.001}]
design: {kind: both, seeds: 3, control: 2}
margins: {fd: 5}
"""
STEPS = (0, 10, 20)


def distance_of(run: Run) -> float:
    """Of which transform_w takes a third, and no two runs have the same."""
    noise = np.random.default_rng([run.seed, *map(ord, run.cell)]).normal()
    return math.exp(3 + 0.1 * run.seed - 0.4 * ("transform_w" in run.toggles) + 0.02 * noise)


def finish(root: Path, run: Run, state: str = "done") -> None:
    """A run folder as training leaves it, with curves and samples of four captions."""
    folder = RunFolder(root / run.id)
    folder.create(run)
    distance = distance_of(run)
    metrics = {"fd_emoji": distance, "clip_score": 50 - distance}
    for step in STEPS:
        folder.append(Point(step, step / 100, 1.0 + step, {"loss/generator": 0.5, "metrics/fd_emoji": distance}))
    samples = folder.path / "samples"
    samples.mkdir()
    for name, shade in (("real", 9), *((f"{step:09d}", step + run.seed) for step in STEPS)):
        sheet = Image.new("RGB", (32, 8), (shade, 0, 0))
        sheet.putpixel((8, 0), (255, 255, 255))  # the first pixel of the second image
        sheet.save(samples / f"{name}.png")
    captions = [HOSTILE, "a dog", None, "a cat"]
    (samples / "captions.json").write_text(json.dumps([{"caption": text, "image_id": 1} for text in captions]))
    if state == "done":
        cards = {"fd_emoji": {**CARD, "role": "headline"}, "clip_score": {**CARD, "role": "headline"}}
        folder.finish(Result(metrics, cards, {"seconds": 60.0}))
    folder.update(state=state, step=20, total_steps=20, attempt=1, error="" if state == "done" else "no memory left")


def loaded(folder: Path, text: str = STUDY) -> harness.LoadedStudy:
    (folder / "tiny.yaml").write_text(text)
    return harness.load("tiny.yaml")


@pytest.fixture
def study(without_content: Path) -> harness.LoadedStudy:
    """All runs are done, but for one that failed and one that is still to come."""
    study = loaded(without_content)
    *runs, failed, _ = make_plan(study).runs
    for run in runs:
        finish(study.root, run)
    finish(study.root, failed, "failed")
    return study


def by_json(effects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {each["toggle"]: each for each in effects}


def as_in_json(row: Any) -> dict[str, Any]:
    """A row of `effects` in the words of the JSON."""

    def number(name: str) -> float | None:
        return None if pd.isna(row[name]) else row[name]

    def pair(low: str, high: str) -> list[float] | None:
        return None if pd.isna(row[low]) else [row[low], row[high]]

    names = ("effect", "p", "p_holm", "p_equivalent", "d_z")
    flips = {"p": number("sign_flip"), "least": number("sign_flip_least")}
    found = {name: row[name] for name in ("toggle", "verdict", "n", "improved", "uneven", "paired", "reason", "pairs")}
    found |= {name: number(name) for name in names}
    found |= {"ci": pair("low", "high"), "own_ci": pair("own_low", "own_high"), "aliases": list(row["aliases"])}
    found |= {"by_seed": {str(seed): value for seed, value in row["by_seed"].items()}}
    found |= {"sign_flip": None if flips["p"] is None else flips}
    found |= {"diverged": {"on": row["diverged_on"], "off": row["diverged_off"]}}
    return found if pd.isna(row["decided_after"]) else found | {"decided_after": row["decided_after"]}


def analysed(csv: Path, *words: str) -> dict[str, Any]:
    """What `harness analyze --json` says of the runs in a CSV."""
    done = CliRunner().invoke(app, ["analyze", str(csv), *words, "--json"])
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_effects_are_those_of_the_command_analyze(study: harness.LoadedStudy, tmp_path: Path) -> None:
    study.runs.to_csv(tmp_path / "runs.csv", index=False)
    document = analysed(tmp_path / "runs.csv", "--margin", "fd=5")
    effects = study.effects
    assert {"better", "inconclusive"} <= {*effects.verdict}
    for metric in ("fd_emoji", "clip_score"):
        rows = [as_in_json(row) for _, row in effects[effects.metric == metric].iterrows()]
        assert json.loads(json.dumps(rows)) == document["metrics"][metric]["effects"]
    (unit,) = {*effects[effects.metric == "fd_emoji"].unit}
    assert unit == document["metrics"]["fd_emoji"]["unit"] == "%"
    assert effects.equals(harness.effect_table(harness.analyse(study)))


def test_runs_have_every_run_whatever_became_of_it(study: harness.LoadedStudy) -> None:
    runs, plan = study.runs, harness.plan(study).plan
    assert [*runs.run] == [run.id for run in plan.runs]
    assert runs.state.value_counts().to_dict() == {"done": len(runs) - 2, "failed": 1, "pending": 1}
    (failed,) = runs[runs.state == "failed"].to_dict("records")
    assert failed["error"] == "no memory left" and math.isnan(failed["fd_emoji"])
    origin = runs[(runs.cell == "origin") & (runs.seed == 1)].iloc[0]
    assert (origin.mix_logits, origin.transform_w, origin.step, origin.cost_seconds) == (0, 0, 20, 60.0)
    (run,) = [run for run in plan.runs if run.id == origin.run]
    assert origin.fd_emoji == distance_of(run)
    with_control = {*runs[runs.cell == "origin"].seed}
    assert len(with_control) == 5 and {*runs[runs.cell == "full"].seed} < with_control


def test_curves_have_a_row_for_each_number(study: harness.LoadedStudy, caplog: pytest.LogCaptureFixture) -> None:
    runs = study.runs
    damaged = runs[runs.cell == "full"].run.iloc[0]
    log = study.root / damaged / "metrics.jsonl"
    log.write_text("[]\n" + log.read_text())
    curves = study.curves
    assert [*curves] == ["run", "cell", "seed", "step", "kimg", "time", "name", "value"]
    begun = runs[runs.state != "pending"]
    assert len(curves) == (len(begun) - 1) * len(STEPS) * 2 and damaged not in {*curves.run}
    one = curves[(curves.cell == "transform_w") & (curves.seed == 2) & (curves.name == "metrics/fd_emoji")]
    assert [*one.step] == [*STEPS] and [*one.kimg] == [0.0, 0.1, 0.2] and one.value.nunique() == 1
    assert "left out of the curves: full seed 0" in caplog.text and "line 1" in caplog.text


def test_samples_are_images_with_their_captions(study: harness.LoadedStudy) -> None:
    drawn = study.samples("transform_w", 2)
    assert (drawn.step, drawn.steps, len(drawn.images)) == (20, STEPS, 4)
    assert drawn.captions == (HOSTILE, "a dog", "no caption", "a cat")
    assert {image.size for image in (*drawn.images, *drawn.real)} == {(8, 8)}
    assert [image.getpixel((0, 0)) for image in drawn.images[:2]] == [(22, 0, 0), (255, 255, 255)]
    assert drawn.real[0].getpixel((0, 0)) == (9, 0, 0)
    assert study.samples("transform_w", 2, step=10).images[0].getpixel((0, 0)) == (12, 0, 0)
    page = drawn._repr_html_()
    assert HOSTILE not in page and "&lt;img src=x" in page and page.count("data:image/png;base64,") == 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("transfrm_w", 0), "no cell 'transfrm_w' in the plan; did you mean 'transform_w'"),
        (("origin", 7), "origin: no seed 7; its seeds are 0, 1, 2"),
        (("origin", 0, 11), "origin seed 0: no samples at step 11; they were drawn at 0, 10, 20"),
        (("full-minus-slow", 2), "full-minus-slow seed 2 is pending: it has not begun; train it with harness run-grid"),
    ],
)
def test_samples_that_are_not_there_are_told(study: harness.LoadedStudy, asked: Any, message: str) -> None:
    with pytest.raises(harness.HarnessError) as told:
        study.samples(*asked)
    assert message in str(told.value)


def test_a_sheet_of_another_size_is_refused(study: harness.LoadedStudy) -> None:
    run = make_plan(study).runs[0]
    Image.new("RGB", (30, 8)).save(study.root / run.id / "samples" / "000000020.png")
    with pytest.raises(harness.HarnessError, match="30 x 8 pixels, which are not 4 images side by side"):
        study.samples("origin", 0)


def test_a_notebook_shows_the_answer_and_no_name_acts(without_content: Path) -> None:
    study = loaded(without_content)
    assert "No run is finished" in study._repr_html_() and study.effects.empty and "verdict" in study.effects
    for run in make_plan(study).runs:
        finish(study.root, run)
    page = study._repr_html_()
    assert "transform_w improves" in page and page.count("<tr>") == 1 + 3 and "23 done" not in page
    hostile = replace(study, baseline="origin", overrides=(f"metrics.captions={HOSTILE}",))
    assert HOSTILE not in hostile._repr_html_() and "&lt;img src=x" in hostile._repr_html_()
    assert repr(study) == f"<study tiny: {without_content / 'tiny.yaml'}>"


def test_what_keeps_runs_from_being_compared_stands_in_the_place_of_the_answer(
    without_content: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = loaded(without_content)

    def gone(source: object, resolution: int) -> str:
        raise harness.HarnessError(f"{HOSTILE}: no such folder")

    monkeypatch.setattr("harness.data.dataset.fingerprint", gone)
    assert "&lt;img src=x onerror=alert(1)&gt;: no such folder" in study._repr_html_()
    with pytest.raises(harness.HarnessError, match="no such folder"):
        _ = study.effects


def test_looks_of_a_study_whose_seeds_are_added(without_content: Path) -> None:
    study = loaded(without_content, adding.STUDY)
    assert study.looks.empty
    for run in make_plan(study).runs:
        folder = RunFolder(study.root / run.id)
        folder.create(run)
        folder.finish(Result({"fd": adding.CLEAR(run) or 0.0}, {}, {}))
        folder.update(state="done", step=10, total_steps=10)
    looks, effects = study.looks, study.effects
    assert {*looks.seeds} == {3} and {*looks.toggle} == {"mix_logits", "transform_w"} and looks.decided.all()
    assert {*effects.decided_after} == {3} and "3 of at most 6 seeds" in study._repr_html_()
    document = as_json(harness.analyse(study))["metrics"]["fd"]["effects"]
    assert by_json(document)["mix_logits"]["decided_after"] == 3


def test_the_table_of_runs_is_compared_as_its_study_is(without_content: Path) -> None:
    """Its baseline, margins, factor, looks, headline metrics and a toggle whose name alone would be no toggle's."""
    text = """
    study: tiny
    toggles: [mix_logits, fold: {train.lr: 0.001}]
    levels: {loss.tau: [0.1, 0.5]}
    design: {kind: full, seeds: auto, max_seeds: 5, control: 0}
    baseline: mix_logits
    margins: {kid: 0.01, clip_score: 1, r_precision: 0.1}
    """
    study = loaded(without_content, text)
    for run in make_plan(study).runs[:24]:  # all of three seeds
        folder, number = RunFolder(study.root / run.id), distance_of(run) * (0.7 if "mix_logits" in run.toggles else 1)
        folder.create(run)
        measured = {"fd_emoji": number, "kid_emoji": number / 100, "clip_score": number / 25, "r_precision": 0.5}
        cards = {name: {**CARD, "n": 50, "d": 64} for name in measured}
        cards["fd_further"], measured["fd_further"] = {**CARD, "role": "further"}, number
        folder.finish(Result(measured, cards, {}))
        folder.update(state="done", step=10, total_steps=10)

    def told(source: Any, **more: Any) -> Any:
        document = as_json(harness.analyse(source, **more))
        assert document.pop("levels")[0]["reference"] == "tau=0.5"
        return document

    runs = study.runs
    assert json.loads(json.dumps(runs.attrs)) == runs.attrs, "as Parquet keeps it"
    found = told(study)
    assert found["baseline"] == "mix_logits" and found["metrics"]["kid_emoji"]["role"] == "headline"
    assert found["looks"]["most"] == 5 and found["metrics"]["fd_further"]["role"] == "further"
    assert told(runs) == told(runs.sort_values("run").sort_index()) == found
    for more in ({"margins": {"r_precision": 0.2}}, {"margins": {}}, {"baseline": "full"}):
        assert told(runs, **more) == told(study, **more) != found
    few = harness.analyse(runs[runs.tau == "0.5"].drop(columns="kid_emoji"))
    assert (few.baseline, few.toggles, few.of("clip_score").margin) == ("mix_logits", ("mix_logits", "fold"), 1)
    columns = harness.CsvColumns(toggles=("mix_logits", "fold"), lower=("fd_further",))
    other = harness.analyse(runs, columns=columns, looks=harness.Looks(3, 4))
    assert other.of("fd_further").metric.headline and other.rule == harness.Looks(3, 4)
    runs.attrs.clear()
    with pytest.raises(harness.HarnessError, match="stands in the table: row"):
        harness.analyse(runs)


def test_it_is_the_study_for_all_else(study: harness.LoadedStudy) -> None:
    assert isinstance(study, harness.Study) and isinstance(replace(study, baseline="full"), harness.LoadedStudy)
    for twin in (copy.deepcopy(study), pickle.loads(pickle.dumps(study))):
        assert twin == study and twin.effects.equals(study.effects)


def test_tables_need_no_torch(study: harness.LoadedStudy) -> None:
    program = """
import sys, harness
import harness.data.dataset, harness.models.encoders
harness.data.dataset.fingerprint = lambda source, resolution: "data"
harness.models.encoders.fingerprint = lambda name: name
study = harness.load("tiny.yaml")
print(len(study.effects), len(study.runs) > 0, len(study.curves) > 0, len(study.samples("origin", 0).images))
study._repr_html_()
print([name for name in ("torch", "torchvision", "mlflow", "optuna") if name in sys.modules])
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=study.path.parent)
    assert done.stdout.split("\n")[:2] == ["6 True True 4", "[]"], done.stderr
