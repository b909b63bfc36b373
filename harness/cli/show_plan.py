"""What `harness plan` prints."""

from __future__ import annotations

import functools
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from harness.cli.tables import MOST_ROWS, STYLES, table_of
from harness.design.design import Design
from harness.design.kinds import DesignConfig
from harness.planning import budget as budgets
from harness.planning.added_seeds import EFFECT
from harness.planning.budget import Comparison, Option
from harness.planning.forecast import Detects, Forecast
from harness.planning.reasons import WHYS, Reason, by_other_code
from harness.report.wording import alias_names
from harness.runs.identity import read_by_who_trains
from harness.runs.initial import layer_lines
from harness.study import looks
from harness.study.remarks import remark_lines
from harness.terminal.console import plain, result, terminal
from harness.terminal.table import TextTable, print_sentence, print_table
from harness.text import duration, quantity, shortened


def plan(forecast: Forecast) -> None:
    """Every run with the reason why it would run, the cost, what can be detected; with -v also every setting."""
    console = terminal()
    print_table(console, _table(forecast))
    for line in _notes(forecast):
        print_sentence(console, Text(plain(line), style="yellow"))
    for line in (*_design(forecast.plan.design), *_cost_and_power(forecast), _summary(forecast)):
        print_sentence(console, plain(line))
    if logging.getLogger("harness").isEnabledFor(logging.DEBUG):
        _details(console, forecast)


_NETWORKS = {"generator": "the generator", "discriminator": "the discriminator", "averaged": "the averaged generator"}


def first_weights(outcomes: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Which networks of each cell start from what `init` names, which of their layers do not, and which start anew."""
    lines: dict[str, list[str]] = {}
    for cell, networks in outcomes.items():
        whole = [_NETWORKS[name] for name in networks if not networks[name]["adapted"] and not networks[name]["new"]]
        if whole:
            lines.setdefault(f"every layer of {shortened(whole)} starts from it", []).append(cell)
        for name, layers in networks.items():
            if layers["adapted"] or layers["new"]:
                for line in layer_lines(layers):
                    lines.setdefault(f"{name}: {line}", []).append(cell)
        anew = [name for name in _NETWORKS if name not in networks]
        if "averaged" in anew and "generator" in networks:
            anew.remove("averaged")
            lines.setdefault("the averaged generator starts as the generator does", []).append(cell)
        if anew:
            names = shortened([_NETWORKS[name] for name in anew])
            lines.setdefault(f"{names}: drawn by the seed, as init has no weights for it", []).append(cell)
    for line, cells in lines.items():
        print_sentence(terminal(), plain(f"init: {shortened(cells)}: {line}"))


def budget(forecast: Forecast, compared: Comparison) -> None:
    """One row per design, the proposal below."""
    table = table_of("design", "cells", "seeds", "runs", "time", "detects", "interactions")
    for option in compared.options:
        table.add_row(*_option(option, forecast, option is compared.proposed))
    console = terminal()
    print_table(console, table)
    for line in _by_reason(compared.left_out):
        print_sentence(console, Text(plain(f"left out: {line}"), style="yellow"))
    assert forecast.pace is not None
    print_sentence(console, plain(f"time: every run anew, {_measured(forecast)}"))
    for remark in forecast.pace.remarks:
        print_sentence(console, plain(f"  {remark}"))
    idea = "idea" if forecast.plan.study.factors else "toggle"
    least = f"the least effect of one {idea} found 4 times in 5, in sds between seeds; --sd 0.05 assumes one"
    if forecast.detects:
        first = forecast.detects[0]
        least = f"the least change of {first.spread.metric.name} by one {idea} found 4 times in 5 ({_spread(first)})"
    print_sentence(console, plain(f"detects: {least}"))
    reasons = budgets.why(compared)
    head = f"{duration(compared.seconds)} on {quantity(forecast.slots, 'slot')}"
    print_sentence(console, plain(f"{head}: {reasons[0]}" + "".join(f"\n  {line}" for line in reasons[1:])))
    if compared.proposed and not compared.proposed.own:
        config, default = asdict(compared.proposed.settings), asdict(DesignConfig())
        changed = {name: value for name, value in config.items() if value != default[name] and name != "seeds"}
        result(f"  design: {_flow({'kind': config['kind'], **changed, 'seeds': compared.proposed.seeds})}")


def _table(forecast: Forecast) -> TextTable:
    if len(forecast.reasons) <= MOST_ROWS:
        return _runs(forecast)
    return _cells(forecast) if len(forecast.plan.cells) <= MOST_ROWS else _whys(forecast)


def _runs(forecast: Forecast) -> TextTable:
    by_id = {reason.run.id: reason for reason in forecast.reasons}
    control = forecast.plan.study.design.control_seeds
    table = table_of("cell", "seed", "run", "why")
    for cell in forecast.plan.cells:
        if cell.same_as:
            table.add_row(cell.name, "", "", Text(f"same settings as {cell.same_as}"))
        for run in () if cell.same_as else forecast.plan.runs_of(cell):
            reason = by_id[run.id]
            text = Text(reason.why, STYLES.get(reason.why, ""))
            if reason.detail:
                text.append(f": {plain(reason.detail)}", "default")
            if run.seed in control:
                text.append(", control")
            table.add_row(cell.name, str(run.seed), run.id, text)
    return table


def _cells(forecast: Forecast) -> TextTable:
    """One row per cell, where one per run would be too many."""
    by_id = {reason.run.id: reason for reason in forecast.reasons}
    table = table_of("cell", "runs", "why")
    for cell in forecast.plan.cells:
        runs = [by_id[run.id] for run in forecast.plan.runs_of(cell)]
        table.add_row(cell.name, str(len(runs)), f"same settings as {cell.same_as}" if cell.same_as else _counts(runs))
    return table


def _whys(forecast: Forecast) -> TextTable:
    """One row per reason, where even one per cell would be too many."""
    table = table_of("why", "runs", "which")
    counts = Counter((reason.why, reason.detail if reason.why == "changed" else "") for reason in forecast.reasons)
    for (why, detail), count in sorted(counts.items(), key=lambda row: (WHYS.index(row[0][0]), -row[1]))[:MOST_ROWS]:
        table.add_row(Text(why, STYLES.get(why, "")), str(count), Text(plain(detail)))
    return table


def _counts(reasons: Sequence[Reason]) -> str:
    counts = Counter(reason.why for reason in reasons)
    return ", ".join(f"{counts[why]} {why}" for why in WHYS if counts[why])


def _notes(forecast: Forecast) -> Iterator[str]:
    """Caveats: dropped cells, what is odd about cells and the design, runs of other code."""
    yield from (f"dropped {line}" for line in _by_reason(forecast.plan.dropped))
    yield from remark_lines({cell.name: forecast.plan.remarks(cell) for cell in forecast.plan.cells})
    yield from forecast.plan.design.warnings()
    yield from by_other_code(forecast.reasons)


def _by_reason(reasons: Mapping[str, str]) -> Iterator[str]:
    """`a, b and c: why`, of names with their reasons."""
    names_of: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names_of.setdefault(reason, []).append(name)
    yield from (f"{shortened(names)}: {reason}" for reason, names in names_of.items())


def _design(design: Design) -> Iterator[str]:
    """What the cells can estimate."""
    if design.fraction:
        letters = ", ".join(f"{letter} {toggle}" for letter, toggle in design.fraction.as_dict()["letters"].items())
        yield f"{design.name}: {', '.join(design.fraction.signed)}; {letters}"
        if design.factors:
            yield "  the fraction is over the toggles; each of its cells is there with every combination of levels"
    else:
        yield f"{design.name}:"
    for factor in design.factors:
        others = ", ".join(factor.ideas)
        trend = ", and the trend over all" if factor.name in {each.toggle for each in design.estimable.trends} else ""
        yield f"  levels: {others} against {factor.reference}, the reference level{trend}"
    for effect in design.estimable.effects:
        if effect.aliases:
            yield f"  {effect.toggle} cannot be told from {alias_names(effect.aliases)}"
    yield from _interactions(design)


def _interactions(design: Design) -> Iterator[str]:
    estimable, what = design.estimable, "ideas" if design.factors else "toggles"
    alone = sum(len(group.aliases) == 1 for group in estimable.interactions)
    sums = [group.toggle for group in estimable.interactions if group.toggle]
    named = [group.aliases for group in estimable.interactions if len(group.aliases) > 1 and not group.toggle]
    if alone:
        yield f"  {quantity(alone, 'interaction')} of two {what}, {'each ' * (alone > 1)}by itself"
    if sums:
        yield f"  interactions: those of {', '.join(sums)}, {'each ' * (len(sums) > 1)}with all others in sum"
    if named:
        yield f"  interactions in {quantity(len(named), 'named group')}:"
        yield from (f"    {' or '.join(alias_names([name]) for name in group)}" for group in named)
    if not estimable.interactions:
        yield "  no interactions"


def _cost_and_power(forecast: Forecast) -> Iterator[str]:
    """Cost and detectable effects."""
    if forecast.pace is None:
        of_run = ", of a whole run," if forecast.plan.study.settings.command.run else ""
        untimed = f" and steps cannot be timed: {forecast.why_untimed}" if forecast.why_untimed else ""
        yield f"cost: unknown, as no run has finished{untimed}; --seconds-per-kimg X{of_run} gives it"
    else:
        runs = quantity(len(forecast.reasons), "run")
        about = "about " if forecast.pace.source in ("timed", "estimated") else ""
        yield f"cost: {about}{duration(forecast.total)} for {runs} on one slot ({_measured(forecast)})"
        left = f"{about}{duration(forecast.wall)} on {quantity(forecast.slots, 'slot')}" if forecast.left else "nothing"
        yield f"left: {left}"
        yield from (f"  {remark}" for remark in forecast.pace.remarks)
    yield from _added_seeds(forecast)
    yield from _detects(forecast)


def _added_seeds(forecast: Forecast) -> Iterator[str]:
    """From how many to how many seeds, and what is to be expected."""
    added = forecast.added
    if added is None:
        return

    def cost(runs: str, seconds: float | None) -> str:
        return runs if seconds is None else f"{runs}, {duration(seconds)} on {quantity(forecast.slots, 'slot')}"

    times = added.seconds or (None, None)
    least, most = (cost(quantity(runs, "run"), time) for runs, time in zip(added.runs, times, strict=True))
    until = f"then one at a time until every effect is decided, at most {added.most} ({most})"
    yield f"seeds: {added.first} ({least}), {until}"
    names = shortened(added.metrics)
    for what, each in (
        (f"every idea changes {names} by {EFFECT:g} spreads", added.effects),
        (f"no idea changes {names}", added.none),
    ):
        if each:
            share = round(100 * each.undecided)
            left = f"; {share} % of such grids end with something undecided" if share else ""
            yield f"  expected if {what}: {each.seeds:.1f} seeds, {cost(f'{each.runs:.0f} runs', each.seconds)}{left}"
    if added.effects is None and added.metrics:
        yield "  how many to expect is unknown: that is reckoned for effects, and this design has none"
    elif added.effects is None:
        yield "  how many to expect is unknown, as is the spread between seeds; --sd 0.05 assumes it"
    elif added.without_margin:
        yield f"  no margin for {shortened(added.without_margin)}: without an effect on it an idea is never decided"


def _detects(forecast: Forecast) -> Iterator[str]:
    design, idea = forecast.plan.study.design, "idea" if forecast.plan.study.factors else "toggle"
    seeds = design.max_seeds or len(design.seeds)
    if seeds == 1:
        yield "detects: nothing, as one seed gives no interval (design.seeds: 3)"
    elif not forecast.detects:
        yield "detects: unknown, as too few runs have finished to tell the spread between seeds; --sd 0.05 assumes it"
    for each in forecast.detects if seeds > 1 else ():
        name = each.spread.metric.name
        effect = f"nothing in {name}"
        if each.effect:
            effect = f"a change of {each.shown(each.effect)} in {name} by one {idea}"
        if each.interaction:
            effect += f", {each.shown(each.interaction)} by an interaction"
        of = f"all {seeds}" if design.max_seeds else seeds
        yield f"detects with {of} seeds, 4 times in 5: {effect} ({_spread(each)})"


def _spread(each: Detects) -> str:
    spread = each.spread
    is_share = spread.metric.scale == "log"
    size = f"{100 * spread.sd:.2g} %" if is_share else f"{spread.sd:.2g} {spread.metric.unit}".rstrip()
    slip = f"; if {spread.sd:g} % is meant: --sd {spread.sd:g}%" if spread.source == "given" and spread.sd > 1 else ""
    return f"spread {size}, {_source(spread.source, spread.runs)}{slip}"


def _measured(forecast: Forecast) -> str:
    pace, of_script = forecast.pace, forecast.plan.study.settings.command.run
    assert pace is not None  # else nothing is shown of it
    return f"{pace.s_per_kimg:.3g} {'s a run' if of_script else 's/kimg'}, {_source(pace.source, pace.runs)}"


def _source(source: str, runs: int) -> str:
    if source in ("given", "timed", "estimated"):
        return {"given": "as given", "timed": "timed here", "estimated": "an estimate"}[source]
    where = {"other settings": " with other settings", "elsewhere": " on another machine"}.get(source, "")
    return f"of {quantity(runs, 'finished run')}{where}"


def _summary(forecast: Forecast) -> str:
    study = forecast.plan.study
    profile = f" (profile {study.profile})" if study.profile else ""
    length = "a script" if study.settings.command.run else f"{study.settings.train.kimg:g} kimg"
    size = f"{length} at {study.settings.data.resolution} px"
    runs = f"{quantity(len(forecast.plan.cells), 'cell')}, {quantity(len(forecast.reasons), 'run')} of {size}"
    seeds = f"; {words}" if (words := looks.in_words(study, forecast.plan.runs)) else ""
    return f"{study.name}{profile}: {runs}: {_counts(forecast.reasons)}{seeds}"


def _option(option: Option, forecast: Forecast, best: bool) -> tuple[str, ...]:
    name = f"{'> ' if best else ''}{option.name}{' (this study)' if option.own else ''}"
    seeds = str(option.seeds) if option.seeds else "none"
    detects = "-"
    if option.effect:
        detects = forecast.detects[0].shown(option.effect) if forecast.detects else f"{option.effect:.2g} sd"
    if not option.clear:
        detects += ", mixed"
    time = duration(option.seconds) if option.seeds else f"{duration(option.seconds)} for 1"
    return name, str(option.cells), seeds, str(option.runs), time, detects, budgets.interactions(option)


def _flow(value: Any) -> str:
    """A value as YAML writes it on one line; names of toggles and kinds need no quotes."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(each)}' for key, each in value.items())}}}"
    return f"[{', '.join(map(_flow, value))}]" if isinstance(value, list | tuple) else str(value)


def _details(console: Console, forecast: Forecast) -> None:
    table = table_of("cell", "changes")
    for cell in forecast.plan.cells:
        changes = [f"{path}: {json.dumps(value)}" for path, value in forecast.plan.changes(cell).items()]
        for change in changes or ["none"]:
            table.add_row(cell.name, change)
    print_table(console, table)
    settings = table_of("setting", "value")
    for path, value in read_by_who_trains(forecast.plan.study.settings).items():
        settings.add_row(path, json.dumps(value))
    print_table(console, settings)
    study = forecast.plan.study
    for path, place in sorted(study.places.items()):
        if not path.startswith("resources."):
            continue
        value = functools.reduce(getattr, path.split(".")[1:], study.resources)
        print_sentence(console, plain(f"{path}: {json.dumps(value)} ({place})"))
