"""Ideas of a study's own code as its toggles and settings: checked, hashed, planned and searched, and never run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import harness
from harness.cli.main import app
from harness.errors import SpecError
from harness.planning.reasons import reasons
from harness.runs.folders import RunFolder
from harness.study import search_space
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from harness.study.schema import Study, Tuned, apply_toggles, terms_of
from harness.tuning.profile import write_profile

ONE = '''
raise SystemExit("a parent never runs this")
from harness.ideas import *
import helper

@term("discriminator", reads=("f_own",))
def first(step, *, shift: int = 1, share: Fraction = 0.5):
    """What it does."""

@adversarial
def hinge(player, logits, *, margin: float = 1.0): ...

@adversarial
def square(player, logits): ...

@layer("generator", at=8)
class block(nn.Module): ...

f_own = feature("embedded:resnet-guide")
'''
TWO = """
from harness.ideas import penalty

@penalty("discriminator", weight=2.0, every=2)
def second(step, *, power: "Positive" = 6.0): ...
"""
STUDY = """
study: mine
code: [one.py, two.py]
data: {source: twemoji, resolution: 16}
toggles: [first, second, hinge, block, {far: {ideas.first.shift: 3, ideas.first.weight: 0.5}}]
design: {kind: one-at-a-time, seeds: 1, exclude: [[first, far]]}
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide"}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 16}
"""
FILES = {"one.py": ONE, "two.py": TWO, "helper.py": "x = 1\n", "mine.yaml": STUDY}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(*overrides: str, text: str = STUDY, add: str = "") -> Study:
    Path("mine.yaml").write_text(text + add)
    return load_study(Path("mine.yaml"), overrides=overrides)


def complaint(*overrides: str, text: str = STUDY, add: str = "") -> str:
    with pytest.raises(SpecError) as caught:
        load(*overrides, text=text, add=add)
    return str(caught.value)


def ids(plan: Plan) -> dict[str, str]:
    return {run.cell: run.id for run in plan.runs}


def test_a_cell_has_the_ideas_that_are_on_and_what_they_read(place: Path) -> None:
    study = load("ideas.first.share=1", "ideas.f_own.network=embedded:resnet-measure")
    assert study.settings.ideas["first"] == {"on": False, "weight": 1.0, "shift": 1, "share": 1.0}
    first = {"on": True, "weight": 1.0, "shift": 1, "share": 1.0, "kind": "term", "reads": ("f_own",)}
    own = {"network": "embedded:resnet-measure", "size": 0, "kind": "feature", "reads": ()}
    second = {"on": True, "weight": 2.0, "every": 2, "power": 6.0, "kind": "penalty", "reads": ()}
    assert apply_toggles(study, ["first"]).ideas == {"first": first, "f_own": own}
    assert apply_toggles(study, ["far"]).ideas["first"] == {**first, "shift": 3, "weight": 0.5}
    assert apply_toggles(study, ["second"]).ideas == {"second": second}
    assert apply_toggles(study, []).ideas == apply_toggles(load("ideas.first.weight=0"), ["first"]).ideas == {}
    base = load("ideas.first.on=true", "design.exclude=[]", text=STUDY.replace("toggles: [first, ", "toggles: ["))
    assert set(apply_toggles(base, []).ideas) == {"first", "f_own"}


def test_the_network_of_a_feature_may_be_a_file_beside_the_study(place: Path) -> None:
    study = load("ideas.f_own.network=timm:resnet18@own.safetensors")
    assert study.settings.ideas["f_own"]["network"] == f"timm:resnet18@{place / 'own.safetensors'}"


MISTAKES = {
    "unknown key": (
        ["ideas.first.shfit=2"],
        "ideas.first.shfit: unknown setting; did you mean 'shift'? al",
    ),
    "unknown idea": (["ideas.frist.on=true"], "ideas.frist: unknown setting; did you mean 'first'?"),
    "type": (["ideas.first.shift=1.5"], "ideas.first.shift: must be a whole number, not 1.5"),
    "range": (["ideas.first.share=2"], "ideas.first.share: must be at most 1, not 2"),
    "kind": (["ideas.first.kind=layer"], "ideas.first.kind: unknown setting"),
    "size": (
        ["ideas.block.at=32"],
        "ideas.block.at: 32 is no size of the network at data.resolution = 16: one of 4",
    ),
    "no mapping": (["ideas.first=true"], "ideas.first: must be a mapping, not true; allowed keys: on, weight, shift"),
    "code": (["code=two.py"], "--set code=two.py: a study has one list of code files"),
    "on twice": (["ideas.first.on=true"], "first changes nothing: ideas.first.on is true in the study"),
    "rivals": (
        ["ideas.square.on=true"],
        "hinge cannot be switched on here, as hinge and square both take the",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_settings_of_ideas_are_checked_as_any_others(case: str, place: Path) -> None:
    overrides, text = MISTAKES[case]
    assert text in complaint(*overrides)


FAR = "{far: {ideas.first.shift: 3, ideas.first.weight: 0.5}}"
WRITTEN = {
    "toggles: [first": ("toggles: [frist", "mine.yaml:5:11: toggles[0]: unknown toggle 'frist'; did you mean 'first'?"),
    "second, hinge": ("f_own, hinge", "'f_own' is a feature, which changes nothing by itself"),
    "{far:": ("{square:", "mine.yaml:5:40: toggles[4]: 'square' is an idea of one.py and takes no patch"),
    "one-at-a-time, seeds: 1, exclude: [[first, far]]": ("full", "first and far both set ideas.first.on; add [first"),
    f"block, {FAR}]\ndesign: {{kind: one-at-a-time": (
        f"square, {FAR}]\ndesign: {{kind: full",
        "hinge and square cannot meet in a cell, as hinge and square both take the place of the",
    ),
    "code: [one.py, two.py]": ("ideas: {a: {on: true}}", ", and in it each has a mark above it: from harness.ideas"),
    "[one.py, two.py]": ("[one.py, tow.py]", "mine.yaml:3:16: code: tow.py is not there; did you mean 'two.py'?"),
    "[one.py": ("[../one.py", "mine.yaml:3:8: code: '../one.py' is not a file in the study's folder"),
    "data:": ("profiles: {p: {code: two.py}}\ndata:", "not allowed in the profile 'p': a study has one list of"),
}  # fmt: skip


@pytest.mark.parametrize("old", WRITTEN)
def test_mistakes_of_the_study_file_are_told_with_their_place(old: str, place: Path) -> None:
    new, text = WRITTEN[old]
    assert text in complaint(text=STUDY.replace(old, new, 1))


@pytest.mark.parametrize("text", ['from helper import *\n@term("generator")\n', "@staticmethod\n", ""])
def test_a_function_without_a_mark_that_a_toggle_names_is_told_with_its_line(text: str, place: Path) -> None:
    Path("helper.py").write_text("from harness.ideas import term\n")
    Path("two.py").write_text(f"{text}def second(step): ...\n")
    line = text.count("\n") + 1
    (said,) = (each for each in complaint().splitlines() if "second" in each)
    assert f"toggles[1]: 'second' is no idea, as at two.py:{line} no mark of harness.ideas stands above it" in said


def test_a_link_to_nowhere_is_told_as_such(place: Path) -> None:
    Path("two.py").unlink()
    Path("two.py").symlink_to("/nowhere/two.py")
    assert "code: two.py is a link to /nowhere/two.py, which is not there" in complaint()


def test_mistakes_of_all_files_are_one_error(place: Path) -> None:
    Path("one.py").write_text(ONE + "x = layer\n")
    Path("two.py").write_text(TWO.replace('"Positive"', "list"))
    lines = complaint().splitlines()
    assert len(lines) == 2 and lines[0].startswith("one.py:20: layer: ") and lines[1].startswith("two.py:5: second: ")


def test_ids_move_with_what_decides_and_with_nothing_else(place: Path) -> None:
    before = make_plan(load())
    bare = "".join(line for line in STUDY.splitlines(True) if not line.startswith(("code", "toggles", "design")))
    without = make_plan(load(text=bare, add="toggles: [mix_logits]\ndesign: {kind: one-at-a-time, seeds: 1}\n"))
    assert ids(without)["origin"] == ids(before)["origin"]

    def after(**files: str) -> set[str]:
        """The cells whose ids move."""
        for name, text in {**FILES, **{f"{name}.py": text for name, text in files.items()}}.items():
            Path(name).write_text(text)
        return {cell for cell, name in ids(make_plan(load())).items() if name != ids(before)[cell]}

    of_one, of_two = {"first", "hinge", "block", "far"}, {"second"}
    assert after(one=f"# a comment\n{ONE.replace('What it does', 'Something else')}\n\n", helper="x = 1  \n") == set()
    assert after(one=ONE.replace("/", "//") + "y = 2\n") == of_one == after(helper="x = 2\n")
    assert after(two=TWO.replace("6.0", "4.0")) == of_two == after(two=TWO.replace("every=2", "every=4"))
    assert after() == set()
    (run,) = (run for run in before.runs if run.cell == "first")
    assert run.source == {name: FILES[name] for name in ("helper.py", "one.py")}
    assert {"code.one.py", "ideas.f_own.network"} < set(run.fingerprints) and "code.two.py" not in run.fingerprints
    assert [run.source for run in before.runs if run.cell == "origin"] == [{}]


def test_planning_says_which_file_has_changed_and_finds_old_runs_again(place: Path) -> None:
    plan = make_plan(load())
    for run in plan.runs:
        RunFolder(plan.study.root / run.id).create(run)
    Path("helper.py").write_text("x = 2\n")
    details = {reason.run.cell: (reason.why, reason.detail) for reason in reasons(make_plan(load()))}
    assert details["far"] == ("changed", "the content of code.one.py") and details["second"][0] == "new"
    Path("helper.py").write_text(FILES["helper.py"])
    assert ids(make_plan(load())) == ids(plan)
    assert RunFolder(plan.study.root / ids(plan)["far"]).run().source == {"helper.py": "x = 1\n", "one.py": ONE}


def test_terms_tell_what_each_idea_is(place: Path) -> None:
    rows = {
        row["name"]: row for row in terms_of(load("ideas.second.on=true", text=STUDY.replace("second, ", "")), "first")
    }
    (every_step,) = (row for row in terms_of(load("ideas.second.every=1"), "second") if row["name"] == "second")
    assert (every_step["weight"], every_step["equation"]) == (2.0, "penalty")
    assert rows["first"] | {"u": 0, "v": 0} == {
        "name": "first", "player": "discriminator", "weight": 1.0, "u": 0, "v": 0,
        "equation": "term: What it does.", "kind": "term", "file": "one.py",
    }  # fmt: skip
    assert rows["second"]["equation"] == "penalty, every 2 steps" and rows["f_own"]["weight"] is None
    assert rows["f_own"]["equation"] == "feature: embedded:resnet-guide"


def test_a_search_varies_the_weights_of_ideas_and_what_it_is_asked_to(place: Path) -> None:
    def searched(*overrides: str) -> dict[str, str]:
        study = load("tune.cell=first+second", *overrides)
        settings = apply_toggles(study, ["first", "second"])
        found = search_space.parameters(settings, study.tune)
        return {each.name: each.label for each in found if each.name.startswith("ideas.")}

    weights = {"ideas.first.weight": "first", "ideas.second.weight": "second"}
    assert searched() == weights
    assert searched("tune.ranges={ideas.second.power: [1, 9]}") == {**weights, "ideas.second.power": "second.power"}
    assert searched("tune.parameters=[ideas.second.power]") == {"ideas.second.power": "second.power"}
    cell = "tune.cell=first+second"
    assert "ideas.first.share is a share of at most 1" in complaint(cell, "tune.parameters=[ideas.first.share]")


UNSEARCHABLE = {
    "ideas.frist.share": "the study has no idea 'frist'; did you mean 'first'? allowed: first, hinge, sq",
    "ideas.first.sahre": "the idea first has no setting 'sahre'; did you mean 'share'? allowed: on, weight,",
    "ideas.first.share.x": "the idea first has no setting 'share.x'",
    "ideas.first": "the idea first has no setting ''; allowed: on, weight",
    "ideas.first.shift": "ideas.first.shift is no number with decimals, which is what a search varies; of first th",
    "ideas.first.on": "ideas.first.on is no number with decimals",
    "ideas.block.at": "ideas.block.at is no number with decimals, which is what a search varies; and block has none",
    "ideas.hinge.margin": "the idea hinge is off in 'first+second'; name a cell in which it is on",
    "ideas.second.power": "ideas.second.power is 0 or below in 'first+second', so there is nothing to search around",
}


@pytest.mark.parametrize("name", UNSEARCHABLE)
def test_what_a_search_cannot_vary_of_an_idea_is_told_with_its_place(name: str, place: Path) -> None:
    power = "ideas: {second: {power: 0}}\n" if "power" in name else ""
    (place / "two.py").write_text(TWO.replace('"Positive"', "float"))
    for key, value in (("parameters", f"[{name}]"), ("ranges", f"{{{name}: [0.1, 0.5]}}")):
        head = f"{power}tune:\n  cell: first+second\n"
        told = complaint(add=f"{head}  {key}: {value}\n")
        line = STUDY.count("\n") + head.count("\n") + 1
        assert told.startswith(f"mine.yaml:{line}:") and f": {UNSEARCHABLE[name]}" in told, told


def test_values_found_for_settings_of_ideas_are_a_profile_that_plans_with_them(place: Path) -> None:
    study = load("tune.cell=first+second", "tune.ranges={ideas.first.share: [0.1, 1]}")
    before = ids(make_plan(load_study(Path("mine.yaml"))))
    values = {"ideas.first.weight": 0.25, "ideas.first.share": 0.125}
    name = write_profile(study, values, {"first+second": Tuned(4, "fd")})
    assert Path("mine.yaml").read_text().startswith(STUDY)
    tuned = load_study(Path("mine.yaml"), name)
    for cell, first in ((["first"], (0.25, 0.125)), (["far"], (0.5, 0.125))):  # what a toggle sets wins in its cell
        found = apply_toggles(tuned, cell).ideas["first"]
        assert (found["weight"], found["share"]) == first
    now = ids(make_plan(tuned))
    assert {cell for cell in before if now[cell] != before[cell]} == {"first", "far"}
    assert ids(make_plan(load_study(Path("mine.yaml")))) == before
    with pytest.raises(SpecError, match=r"in the cell far ideas.first.weight would be 0.5, not 0.25"):
        write_profile(study, values, {"far": Tuned(4, "fd")})


@pytest.mark.parametrize("command", ["run-grid", "tune"])
def test_no_code_refuses_what_would_run_it(command: str, place: Path) -> None:
    result = CliRunner().invoke(app, [command, "mine.yaml", "--no-code"])
    assert isinstance(result.exception, SpecError)
    assert "mine.yaml: brings code of its own (one.py, two.py), which --no-code refuses" in str(result.exception)


def test_no_code_refuses_it_in_python_too(place: Path) -> None:
    with pytest.raises(SpecError, match=r"mine.yaml: brings code of its own \(one.py, two.py\), which --no-code"):
        harness.load("mine.yaml", no_code=True)
    assert harness.load("mine.yaml").code.files == ("one.py", "two.py")
    bare = "\n".join(line for line in STUDY.splitlines() if not line.startswith(("code", "toggles", "design")))
    Path("mine.yaml").write_text(bare)
    assert harness.load("mine.yaml", no_code=True).name == "mine"


def test_no_code_refuses_to_draw_from_a_run_that_carries_code(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr("harness.training.samples.sample", lambda folder, *_, **__: drawn.append(folder) or "drawn")
    plan = make_plan(load())
    for run in plan.runs:
        RunFolder(plan.study.root / run.id).create(run)
    for words in (["first/0", "--study", "mine.yaml"], [str(plan.study.root / ids(plan)["first"])]):
        result = CliRunner().invoke(app, ["sample", *words, "a cat", "--no-code"])
        assert isinstance(result.exception, SpecError) and not drawn
        assert "brings code of its own (helper.py, one.py), which --no-code refuses" in str(result.exception)
    # A run of the same study that has no idea on carries none.
    result = CliRunner().invoke(app, ["sample", "origin/0", "a cat", "--study", "mine.yaml", "--no-code"])
    assert result.exit_code == 0 and drawn == [plan.study.root / ids(plan)["origin"]]


def test_planning_and_reporting_run_no_code_and_load_no_torch(place: Path) -> None:
    program = (
        "import sys; from harness.cli.main import main\n"
        "try: main()\nfinally: print('torch' in sys.modules, 'one' in sys.modules, file=sys.stderr)"
    )
    for command in (["plan", "--json"], ["status", "--json"], ["terms", "--json", "--cell", "first"]):
        call = [sys.executable, "-c", program, command[0], "mine.yaml", *command[1:]]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1] == "False False" and json.loads(done.stdout), done.stderr


def test_a_head_that_an_own_term_may_read_is_not_said_to_change_nothing(place: Path) -> None:
    own_d = "\n@discriminator\nclass whole(nn.Module): ...\n"
    (place / "one.py").write_text(ONE + own_d)
    text = STUDY.replace("toggles: [", "discriminator: {heads: separate}\ntoggles: [whole, ")
    plan = make_plan(load(text=text))
    told = {cell.name: [each for each in plan.remarks(cell) if "head" in each] for cell in plan.cells}
    nothing = "no active term reads f_img, so the separate image head changes nothing: same training as without it"
    head = "no built-in term of the discriminator trains f_img: its head keeps its first weights, unless"
    assert told["origin"] == told["hinge"] == told["block"] == [nothing]
    assert told["first"] == told["far"] == [f"{head} first trains it"] and told["second"] == [
        f"{head} second trains it"
    ]
    assert told["whole"] == ["whole takes the place of the discriminator, so discriminator.heads changes nothing"]


def test_levels_of_an_idea_that_is_off_where_they_are_are_refused(place: Path) -> None:
    """They were planned as cells of the very settings of the origin, with a trend over them."""
    add = "levels: {ideas.first.shift: [1, 2]}\n"
    text = STUDY.replace(FAR, "mix_logits").replace(", exclude: [[first, far]]", "")
    told = complaint(text=text, add=add)
    assert "levels.ideas.first.shift: the idea first is off in every cell of these levels" in told
    nested = "levels:\n  ideas:\n    first:\n      shift: [1, 2]"
    assert f":{len((text + nested).splitlines())}:14: levels.ideas.first" in complaint(text=text, add=nested)
    load("ideas.first.on=true", "toggles=[second]", text=text, add=add)
    load("design.kind=full", "toggles=[first]", text=text, add=add)
