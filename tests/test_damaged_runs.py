"""Run folders that were edited, cut short or planted: a sound answer or one refusal, and nothing else happens."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fuzz import examples
from harness.cli.select import run_rows
from harness.errors import RecordError
from harness.files import write_json
from harness.grid import outcome
from harness.planning.forecast import Given, forecast
from harness.planning.reasons import reasons
from harness.report.document.markdown import markdown
from harness.report.inputs import collect
from harness.report.write import build
from harness.runs.folders import RunFolder
from harness.runs.lease import holder
from harness.runs.record import STATES, Point, Result, Status, state_of
from harness.scheduler.ownership import Ownership
from harness.scheduler.processes import node
from harness.storage.folders import stored_runs
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from harness.tracking import ledger as ledgers
from harness.tracking import mirror as tracking
from harness.tracking.points import read_points
from hostile import SMALL, VALUES, bounded, device, refusal, untouched, write_images

STUDY = SMALL + "toggles: [mix_logits, transform_w]\ndesign: {include: [full], seeds: 2}\n"
PARTS = 4
"""Of fifty damaged folders each."""
HANGS_S = 60.0
IN_RUN = ("run.json", "status.json", "metrics.jsonl", "result.json", "mlflow.json", "log.txt", "claim")
OF_STUDY = ("grid.json", "provenance.json", "mlflow.json", "mlflow_report.json", "scale")
BINARY = ("generator.safetensors", "checkpoint/000000010.safetensors")
DEVICES = ("pipe", "sparse", "folder", "circle", "/dev/zero", "/nowhere/at/all")


@dataclass(frozen=True)
class Place:
    """A study with finished runs, of which every example damages a copy."""

    plan: Plan
    sound: Path
    canary: Path

    @property
    def root(self) -> Path:
        return self.plan.study.root

    def fresh(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.sound, self.root)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    around = tmp_path_factory.mktemp("around")
    (around / "precious").write_text('{"precious": 1}\n')
    write_images(around / "here" / "images")
    (around / "here" / "study.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(around)
        plan = make_plan(load_study(around / "here" / "study.yaml", None, ()))
        for number, run in enumerate(plan.runs):
            finished(RunFolder(plan.study.root / run.id), run, number)
        write_json(outcome.scale_path(plan), {"ceiling": {"fd_emoji": 1.5, "n": 8.0}, "floor": {"clip_score": 12.0}})
        write_json(plan.study.root / "provenance.json", {"data": {"images": 24}, "calls": [{"command": "harness"}]})
        ledgers.save(plan.study.root / "mlflow.json", ledgers.GridLedger("sqlite:///x.db", "2", status="FINISHED"))
        ledgers.save(plan.study.root / "mlflow_report.json", ledgers.Report(5, {"a": 1.0}, {}, ""))
        outcome.write_grid(outcome.gather(plan))
        plan.study.reports.mkdir(parents=True)
        for name in ("report.md", "report.html"):
            (plan.study.reports / name).touch()
        sound = tmp_path_factory.mktemp("sound") / "runs"  # made anew where tests of this file are taken up again
        shutil.copytree(plan.study.root, sound)
        yield Place(plan, sound, around / "canary")


def finished(folder: RunFolder, run: Any, number: int) -> None:
    """As training leaves it; the last one is interrupted."""
    folder.create(run)
    for step in (0, 5, 10):
        values = {
            "metrics/fd_emoji": 9.0 + number - step / 3,
            "metrics/clip_score": 20.0 + step,
            "generator/total": 0.5,
        }
        folder.append(Point(step, step * 0.016, 1.7e9 + step, values))
    card = {"n": 32, "n_real": 8, "d": 16, "role": "headline", "extractor": "resnet", "digest": "ab"}
    metrics = {"fd_emoji": 9.0 + number, "clip_score": 30.0 - number / 7}
    last = number == 7
    if not last:
        cost = {"s_per_kimg": 3.0 + number, "seconds": 9.0, "gflops_per_step": 2.0, "peak_memory_mb": 100.0}
        folder.finish(Result(metrics, {name: {**card, "metric": name} for name in metrics}, cost))
    where = {"attempt": 1, "host": node(), "started": 1.7e9, "updated": 1.7e9, "seconds": 12.0, "last": {"G": 1.0}}
    folder.put(Status("interrupted" if last else "done", 10, 10, 5.0, **where))
    (folder.path / "checkpoint").mkdir()
    for name in (*BINARY, "log.txt"):
        (folder.path / name).write_bytes(b"trained\n" * 20)
    ledgers.save(folder.path / "mlflow.json", ledgers.Ledger("sqlite:///x.db", "2", "3", offset=40, tail="00"))


class Planted:
    """Unpickled, it leaves a trace."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


Damage = Callable[[Path, Place], None]


def put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def of_kind(kind: str) -> Damage:
    def damage(path: Path, place: Place) -> None:
        path.unlink(missing_ok=True)
        device(str(place.canary.parent / "precious") if kind == "precious" else kind, path)

    return damage


def planted(path: Path, place: Place) -> None:
    put(path, pickle.dumps(Planted(place.canary)))


def bytes_of(edit: Callable[[bytes], bytes]) -> Damage:
    return lambda path, _: put(path, edit(path.read_bytes() if path.exists() else b"{}"))


def values_of(steps: list[int], what: str, value: Any) -> Damage:
    """Walks into a file of JSON, or a line of it, and changes what is found there."""

    def damage(path: Path, _: Place) -> None:
        text = path.read_text() if path.exists() else "{}"
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        at = steps[0] % len(lines)
        tree: Any = json.loads(lines[at])
        node, key, place = None, None, tree
        for step in steps:
            if not isinstance(place, dict | list) or not place:
                break
            names = list(place) if isinstance(place, dict) else list(range(len(place)))
            node, key = place, names[step % len(names)]
            place = place[key]
        if node is None or what == "whole":
            tree = value
        elif what == "set":
            node[key] = value
        elif what == "drop":
            del node[key]
        else:
            node.update({what: value}) if isinstance(node, dict) else node.append(value)
        lines[at] = json.dumps(tree).replace('".nan"', "NaN").replace('"1e999"', "1e999")
        put(path, ("\n".join(lines) + "\n").encode())

    return damage


POSITION = st.integers(0, 4000)
NOISE = st.binary(min_size=1, max_size=12) | st.just(b"\0" * 40) | st.just(b"[" * 100_000) | st.just(b"\n{\n")
EDITS = st.one_of(
    st.builds(lambda at: lambda text: text[: at % (len(text) + 1)], POSITION),
    st.builds(lambda at, noise: lambda text: _mixed(text, at, noise, 0), POSITION, NOISE),
    st.builds(lambda at, noise: lambda text: _mixed(text, at, noise, len(noise)), POSITION, NOISE),
    st.builds(lambda noise: lambda text: text + noise, NOISE),
    st.builds(lambda: lambda text: b"\0" * len(text)),
)
BY_BYTES = st.builds(bytes_of, EDITS) | st.sampled_from([of_kind(kind) for kind in (*DEVICES, "precious")])
BY_VALUE = st.builds(
    values_of,
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.sampled_from(["set", "set", "set", "drop", "whole", "x\x1b[31m", "seed"]),
    st.sampled_from(VALUES),
)
RECORDS = ("run.json", "status.json", "metrics.jsonl", "result.json", "mlflow.json")


def _mixed(text: bytes, at: int, noise: bytes, over: int) -> bytes:
    at %= len(text) + 1
    return text[:at] + noise + text[at + over :]


@st.composite
def damages(draw: st.DrawFn) -> tuple[int, str, Damage]:
    """Which run, which of its files or (with ../) the study's, and what is done to it."""
    run = draw(st.integers(0, 7))
    kind = draw(st.sampled_from(["value", "value", "value", "bytes", "study", "study bytes", "planted"]))
    if kind == "value":
        return run, draw(st.sampled_from(RECORDS)), draw(BY_VALUE)
    if kind == "bytes":
        return run, draw(st.sampled_from((*IN_RUN, *BINARY))), draw(BY_BYTES)
    if kind == "planted":
        return run, draw(st.sampled_from((*BINARY, *IN_RUN))), planted
    return run, f"../{draw(st.sampled_from(OF_STUDY))}", draw(BY_VALUE if kind == "study" else BY_BYTES)


@contextlib.contextmanager
def no_wait() -> Iterator[None]:
    """Ends what waits, such as for the other end of a pipe."""

    def waited(*_: Any) -> None:
        raise AssertionError(f"{HANGS_S} s and no answer")

    before = signal.signal(signal.SIGALRM, waited)
    signal.setitimer(signal.ITIMER_REAL, HANGS_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ask_all(place: Place) -> list[str]:
    """Everything that a user may ask of these folders; the refusals."""
    plan, root, told = place.plan, place.root, []
    for question in (
        lambda: all(state in STATES for state in plan.states().values()) or pytest.fail("a state nobody knows"),
        lambda: json.dumps(run_rows(plan)).encode(),
        lambda: json.dumps(forecast(plan, Given()).as_dict()).encode(),
        lambda: [record.points for record in plan.snapshot().records],
        lambda: [holder(root / run.id) for run in plan.runs],
        lambda: stored_runs(plan),
        lambda: tracking.missing(plan.study, root, plan.runs),
        lambda: [read_points(root / run.id / "metrics.jsonl", ledgers.Ledger()) for run in plan.runs],
        lambda: [ledgers.read(root / run.id / "mlflow.json", ledgers.Ledger) for run in plan.runs],
        lambda: ledgers.read(root / "mlflow_report.json", ledgers.Report),
        lambda: outcome.is_reported(outcome.gather(plan)),
        lambda: report(plan),
        lambda: take(place),
    ):
        with bounded(), no_wait(), refusal() as refused:
            question()
        told += refused
    return told


def report(plan: Plan) -> None:
    """The report without its figures, which are of the same numbers and take a second each time."""
    found = outcome.gather(plan)
    outcome.write_grid(found)
    document = build(collect(plan.study, found.records, found.analysis))
    markdown(document).encode()


def take(place: Place) -> None:
    """As a scheduler does: all are entered before the first is taken."""
    ownership = Ownership(place.root, 1.0, {})
    try:
        missing = [run for run in place.plan.runs if ownership.enter(run)]
        for run in missing:
            with contextlib.suppress(OSError):
                ownership.take(run.id)
    finally:
        ownership.drop_all()


@pytest.mark.fuzz
@pytest.mark.parametrize("part", range(PARTS))
def test_damage_is_told_of_and_nothing_is_executed(place: Place, part: int) -> None:
    around = place.canary.parent

    @seed(part)
    @settings(max_examples=examples(50), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damages())
    def check(found: tuple[int, str, Damage]) -> None:
        number, name, damage = found
        place.fresh()
        if name == "../scale":
            name = f"../{outcome.scale_path(place.plan).name}"
        run = place.root / place.plan.runs[number].id
        with untouched(around / "here" / "images", place.sound):
            damage(run / name if not name.startswith("../") else place.root / name[3:], place)
            ask_all(place)
        assert not place.canary.exists()
        assert sorted(os.listdir(around)) == ["here", "precious"]
        assert (around / "precious").read_text() == '{"precious": 1}\n'

    check()


@pytest.mark.parametrize(
    ("name", "edit", "why"),
    [
        ("result.json", lambda text: text[:100], "result.json: cannot be used"),
        ("result.json", None, "the run is done, but its result.json is not there"),
        (
            "result.json",
            lambda text: re.sub(rb'"metrics": {[^}]*}', b'"metrics": {}', text),
            "clip_score and fd_emoji; move",
        ),
        (
            "result.json",
            lambda text: re.sub(rb'"fd_emoji": [0-9.]+', b'"fd": 1.0', text),
            "holds no number of fd_emoji; move",
        ),
        ("run.json", lambda text: text[:100], "run.json: cannot be used"),
        ("run.json", None, "the run is done, but its run.json is not there"),
    ],
)
def test_all_tell_the_same_of_a_finished_run_that_is_damaged(
    place: Place, name: str, edit: Callable[[bytes], bytes] | None, why: str
) -> None:
    place.fresh()
    path = place.root / place.plan.runs[0].id / name
    put(path, edit(path.read_bytes())) if edit else path.unlink()
    snapshot = place.plan.snapshot()
    with pytest.raises(RecordError, match=why) as refused:
        snapshot.refuse_damaged(place.plan.runs)
    row, reason, record = run_rows(place.plan, snapshot)[0], reasons(place.plan, snapshot)[0], snapshot.records[0]
    assert (row["state"], reason.why, state_of(record)) == ("failed", "failed", "failed")
    assert row["error"] == reason.detail == record.status.error == str(refused.value)
    if name == "result.json":
        assert {stored.run.id: stored.state for stored in stored_runs(place.plan).runs}[record.run.id] == "damaged"


@pytest.mark.parametrize("text", [b"", b"\0" * 300])
def test_a_status_that_a_loss_of_power_emptied_is_none(place: Place, text: bytes) -> None:
    place.fresh()
    run = place.plan.runs[0]
    (place.root / run.id / "status.json").write_bytes(text)
    assert place.plan.states()[run.id] == "pending"
    ownership = Ownership(place.root, 1.0, {})
    assert ownership.enter(run) and not ownership.take(run.id)
    assert place.plan.states()[run.id] == "done", "its result is there"
