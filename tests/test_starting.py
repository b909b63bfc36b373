"""`harness gc` keeps the training state that any known study starts from, and `harness rm` names that study."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.files import write_json
from harness.storage import garbage
from harness.storage.caches import Reads, register
from harness.storage.folders import stored_runs
from harness.study.plan import Plan, make_plan
from kept import STUDY, earlier, harness, lay, plan, plan_in

__all__ = ["harness", "plan"]


def keeps(plan: Plan) -> tuple[set[str], str]:
    """The runs whose training states stay, and what is said."""
    found = garbage.find(plan, stored_runs(plan), time.time())
    going = {piece.names[0] for piece in found.pieces if piece.kind == "checkpoints"}
    return {run.id for run in plan.runs[:2]} - going, "\n".join(found.remarks)


def name_it(who: str, plan: Plan, folder: Path) -> None:
    """Let something start from the plan's first run, or say that it will."""
    root, source = plan.study.root, plan.runs[0]
    path, file, elsewhere = root / source.id, folder / "other.yaml", folder.parent / "elsewhere"
    begun = earlier(plan.runs[2], first_weights={"generator": str(path / "checkpoint" / "000000010.safetensors")})
    if who == "profile":
        plan.study.path.write_text(f"{STUDY}profiles: {{next: {{init: runs/tiny/{source.id}}}}}\n")
    elif who == "search":
        lay(root.with_name("tiny.tune-full"), begun, "pending")
    elif who == "earlier name":
        lay(root, replace(plan.runs[2], cell="before", first_weights=begun.first_weights), "pending")
    elif who == "file":
        file.write_text(f"study: other\ntoggles: [{{warm: {{init.generator: {path}}}}}]\n")
    elif who == "link":
        (folder / "best").symlink_to(path)
        file.write_text("study: other\ninit: best\n")
    elif who == "same name":
        file.write_text("study: tiny\ninit: origin/0\n")
    elif who == "command":
        write_json(
            root / "provenance.json",
            {"calls": [{"command": f"harness run-grid x.yaml --set 'init={source.cell}/{source.seed}'"}]},
        )
    else:
        elsewhere.mkdir()
        other = plan_in(elsewhere, STUDY.replace("tiny", "other"))
        register(other.study, Reads())
        if who == "run elsewhere":
            lay(other.study.root, begun, "pending")
        else:
            other.study.path.write_text(f"study: other\ninit: {path}\n")


@pytest.mark.parametrize(
    ("who", "called"),
    [
        ("profile", "runs of ablations.yaml"),
        ("search", "mix_logits/0 of tiny.tune-full"),
        ("earlier name", "mix_logits/0"),
        ("file", "runs of other.yaml"),
        ("link", "runs of other.yaml"),
        ("same name", "runs of other.yaml"),
        ("command", "a command that "),
        ("run elsewhere", "of other"),
        ("file elsewhere", "runs of ablations.yaml"),
    ],
)
def test_whoever_starts_from_a_run_keeps_its_state(
    tmp_path: Path, harness: Any, monkeypatch: pytest.MonkeyPatch, who: str, called: str
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    plan = plan_in(tmp_path / "mine")
    source, other = plan.runs[:2]
    for run in (source, other):
        lay(plan.study.root, run)
    assert keeps(plan) == (set(), "")
    name_it(who, plan, tmp_path / "mine")
    kept, said = keeps(plan)
    assert (
        kept == {source.id} and "its training state is kept, as other runs start from it: " in said and called in said
    )
    for yes in ((), ("--yes",)):
        _, _, err = harness("rm", "ablations.yaml", source.id, other.id, *yes)
        (line,) = [each for each in " ".join(err.split()).split("note: ") if "start from its weights" in each]
        assert f"origin/0 ({source.id})" in line and called in line


def test_where_it_is_not_known_who_starts_from_what_nothing_goes(plan: Plan, tmp_path: Path, harness: Any) -> None:
    (tmp_path / "compose.yaml").write_text("init: !other {a: b\n")  # of another program
    assert keeps(plan)[0] == set()
    for text in ("study: other\ninit: {generator: \n", "study: other\ninit: !mine x\n"):
        (tmp_path / "other.yaml").write_text(text)
        kept, said = keeps(plan)
        assert kept == {run.id for run in plan.runs[:2]}
        assert f"{tmp_path / 'other.yaml'} cannot be read, and may name a training state" in said
        assert "checkpoints are left alone" in said
        _, _, err = harness("rm", "ablations.yaml", "origin/0")
        assert "cannot be read: whether it names these runs to start from is not known" in " ".join(err.split())
    (tmp_path / "other.yaml").write_text("study: other\ninit: origin/0\n")  # which is a run of that study
    assert keeps(plan) == (set(), "")
    theirs = make_plan(replace(plan.study, name="other"))
    for run in theirs.runs[:2]:
        lay(theirs.study.root, run)
    assert keeps(theirs)[0] == {theirs.runs[0].id}
