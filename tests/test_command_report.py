"""What comes of a script's runs: the comparison at equal time, and its points on MLflow's real server."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.runs.folders import RunFolder
from harness.runs.record import Result
from mirrored import connect, empty_store
from mlflow_process import Server
from test_command import harness, study

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")
MORE = """
toggles: [slow: {command.args.slow: 1.0}]
design: {kind: full, seeds: 2}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """A study of a script that leaves images after 2, 4 and 6 steps, and of one that takes twice as long."""
    folder = study(tmp_path_factory.mktemp("own"), MORE)
    shutil.copy(empty_store(), folder / "server.db")
    server = Server(folder)
    server.start()
    try:
        done = harness(
            folder,
            "run-grid",
            "study.yaml",
            "--set",
            "command.args.mode=snapshots",
            "--set",
            f"tracking.uri={server.uri}",
        )
        assert done.returncode == 0, done.stderr
        yield folder, server
    finally:
        server.stop()


def runs(folder: Path) -> dict[tuple[str, int], RunFolder]:
    found = [RunFolder(path.parent) for path in (folder / "runs" / "own").glob("*/run.json")]
    return {(folder.run().cell, folder.run().seed): folder for folder in found}


def curve(run: RunFolder, metric: str) -> list[tuple[int, float]]:
    name = f"metrics/{metric}"
    return [(point.step, point.values[name]) for point in run.points() if name in point.values]


def result_of(run: RunFolder) -> Result:
    result = run.result()
    assert result is not None
    return result


def at_the_baselines_time(folder: Path, metric: str, is_distance: bool) -> float | None:
    """The mean change by `slow`, each run of it read where it was when the baseline had ended; None before step 2."""
    found = runs(folder)
    seconds = {key: result_of(run).cost["script_seconds"] for key, run in found.items()}
    ratio = math.sqrt(math.prod(seconds["slow", seed] / seconds["origin", seed] for seed in (0, 1)))
    step, changes = 6 / max(1.0, ratio), []
    for seed in (0, 1):
        points, end = curve(found["slow", seed], metric), result_of(found["origin", seed]).metrics[metric]
        (first, *_), before = points, [at for at, (where, _) in enumerate(points[:-1]) if where <= step]
        if step < first[0]:
            return None
        (left, low), (right, high) = points[before[-1] : before[-1] + 2]
        share = (step - left) / (right - left)
        if is_distance:
            changes.append(math.log(low) * (1 - share) + math.log(high) * share - math.log(end))
        else:
            changes.append(low * (1 - share) + high * share - end)
    mean = sum(changes) / 2
    return 100 * math.expm1(mean) if is_distance else mean


@pytest.mark.parametrize(
    ("metric", "title", "is_distance"),
    [
        ("fd_emoji", "Fréchet distance", True),
        ("kid_emoji", "Kernel distance", False),
        ("clip_score", "CLIP score", False),
    ],
)
def test_a_slower_script_is_read_at_the_time_of_the_baseline(
    place: tuple[Path, Server], metric: str, title: str, is_distance: bool
) -> None:
    """`slow` leaves the same images later: no change after as many steps, and another one after as many seconds."""
    (report,) = (place[0] / "reports").glob("own.*/report.md")
    text = report.read_text(encoding="utf-8").partition("### At equal time and at equal images")[2]
    row = re.search(r"^\| slow .*", text.partition(f"#### {title}")[2], re.MULTILINE)
    assert row is not None and "those of its process" in text
    _, _, steps, _, verdict, seconds, *_ = (word.strip() for word in row[0].split("|"))
    assert float(steps.removesuffix("\xa0%")) == 0 and verdict == "equivalent"
    expected, shown = at_the_baselines_time(place[0], metric, is_distance), seconds.removesuffix("\xa0%")
    if expected is None:  # on a machine that was busy just then
        assert shown == "–"
    else:
        assert float(shown.replace("−", "-")) == pytest.approx(
            expected, abs=0.51 * 10.0 ** -len(shown.partition(".")[2])
        )


def test_the_points_of_a_script_are_on_the_server_each_once(place: tuple[Path, Server]) -> None:
    folder, server = place
    client = connect(server.uri)
    experiment = client.get_experiment_by_name("own").experiment_id
    rows = {row.info.run_name: row for row in client.search_runs([experiment])}
    changed = "command.args.mode=snapshots"
    assert set(rows) == {"own", f"own, {changed}"} | {
        f"{cell}/seed{seed}, {changed}" for cell in ("origin", "slow") for seed in (0, 1)
    }
    assert {row.info.status for row in rows.values()} == {"FINISHED"}
    for (cell, seed), run in runs(folder).items():
        row, result, unit = rows[f"{cell}/seed{seed}, {changed}"], result_of(run), run.run().settings.step_size

        def history(name: str, row: Any = row) -> list[tuple[int, float]]:
            return [(it.step, it.value) for it in client.get_metric_history(row.info.run_id, name)]

        assert history("script/loss") == [(step * unit, 1 / step) for step in range(1, 7)]
        assert [step for step, _ in curve(run, "fd_emoji")] == [2, 4, 6]
        for name, value in result.metrics.items():
            points = [(step * unit, it) for step, it in curve(run, name)]
            assert history(name) == points and row.data.metrics[name] == value == points[-1][1]
        assert not [name for name in row.data.metrics if name.startswith(("metrics/", "cost/"))]
        assert {name: float(row.data.tags[f"cost.{name}"]) for name in result.cost} == pytest.approx(result.cost, 1e-5)
        assert row.data.tags["engine.training"] == "script" and row.data.tags["command.code"]
        assert "log.txt" in {file.path for file in client.list_artifacts(row.info.run_id)}
