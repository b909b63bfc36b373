"""The commands `ls`, `rm` and `gc`: what a study keeps on disk, and deleting what it does not need."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from harness.cli.options import AsJson, Request, standard_options

Yes = Annotated[bool, typer.Option("--yes", help="Delete; without it nothing is deleted, only listed.")]


@standard_options
def ls(request: Request, as_json: AsJson = False) -> None:
    """Show what the study keeps on disk, with sizes.

    \b
    harness ls ablations.yaml
    harness ls ablations.yaml --profile both --json
    """
    from harness.cli import show_storage
    from harness.storage.folders import stored_runs
    from harness.storage.places import places
    from harness.study.plan import make_plan
    from harness.terminal import console

    plan = make_plan(request.load())
    found = stored_runs(plan)
    beside = places(plan.study, [*plan.runs, *(stored.run for stored in found.runs)])
    if as_json:
        console.json_document(show_storage.as_dict(plan, found, beside))
    else:
        show_storage.listing(plan, found, beside)


@standard_options
def rm(
    request: Request,
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="A run id or its beginning, CELL/SEED or CELL.")
    ] = None,
    unplanned: Annotated[bool, typer.Option("--unplanned", help="All runs that the plan no longer holds.")] = False,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="Only runs in this state; may be repeated.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Delete runs of the study. Without --yes nothing is deleted, only listed.

    \b
    harness rm ablations.yaml 3f2a9c41d07b
    harness rm ablations.yaml full/0 mix_logits --yes
    harness rm ablations.yaml --unplanned
    harness rm ablations.yaml --state failed --yes
    """
    from harness.cli import show_storage
    from harness.cli.select import choose, of_others
    from harness.storage.caches import needed, reads_of
    from harness.storage.folders import delete, refuse_held, refuse_queued, stored_runs
    from harness.storage.starting import starting
    from harness.study.plan import make_plan
    from harness.terminal import console

    plan = make_plan(request.load())
    root, found = plan.study.root, stored_runs(plan)
    chosen = choose(plan, found.runs, runs or (), unplanned, state or ())
    if unplanned or not runs:
        show_storage.left_alone(root, [stored for stored in of_others(plan, found.runs) if stored not in chosen])
    refuse_held(root, chosen)
    refuse_queued(root, chosen)
    begun = starting(plan, needed(root, reads_of(plan.runs)))
    for stored in chosen if yes else ():
        delete(root, stored.run.id)
    show_storage.removal(root, chosen, yes, begun)
    if yes and any(stored.planned for stored in chosen):
        train, write = (plan.study.command(name) for name in ("run-grid", "report"))
        console.result(f"the report still contains them: `{write}` writes it without them, `{train}` trains them again")


@standard_options
def gc(request: Request, yes: Yes = False) -> None:
    """Delete what no run needs. Checkpoints of finished runs, leftovers of crashes, caches that no study reads.

    Without --yes nothing is deleted, only listed.

    \b
    harness gc ablations.yaml
    harness gc ablations.yaml --yes
    """
    from harness.cli import show_storage
    from harness.errors import HarnessError
    from harness.storage import garbage
    from harness.storage.folders import stored_runs
    from harness.study.plan import make_plan

    plan = make_plan(request.load())
    found = garbage.find(plan, stored_runs(plan), time.time())
    deleted, failed = garbage.delete(found.pieces) if yes else (list(found.pieces), [])
    show_storage.garbage(deleted, found.remarks, yes, len(failed))
    if failed:
        raise HarnessError("\n".join(failed))
