"""Where a profile goes in a study file, however it is written: every byte that was there stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from applied import FULL, TAU, assert_written, profiles, written
from fuzz import examples
from harness.errors import SpecError
from harness.study import temperature
from harness.study.load import load_study
from harness.study.schema import apply_toggles, cell_toggles
from harness.tuning.profile import write_profile

BODY = """\
{0}# written by harness tune: cell full, 30 trials, objective fd
{0}tuned-full:
{0}{1}loss: {{tau: 0.31}}
{0}{1}tuned:
{0}{1}{1}full: {{trials: 30, objective: fd}}
"""
"""The profile with the temperature alone: indentation of its name, and of what it holds."""

PLACES = {
    "no profiles": ("study: s\n^", 2),
    "no profiles, no last line end": ("study: s^", 2),
    "nothing but a comment after": ("study: s\n# end\n^", 2),
    "indented by 3": ("study: s\ntrain:\n   kimg: 4\n^", 3),
    "all of it indented": ("  study: s\n^", 4),
    "before the end of the document": ("study: s\n^...\n", 2),
    "under a directive": ("%YAML 1.2\n---\nstudy: s\n^", 2),
    "last": ("study: s\nprofiles:\n  a: {}\n^", 2),
    "first": ("profiles:\n  a: {}\n^study: s\n", 2),
    "indented by 1": ("study: s\nprofiles:\n a: {}\n^", 1),
    "indented by 12": ("study: s\nprofiles:\n            a: {}\n^", 12),
    "a comment of the last profile": ("profiles:\n  a: {}\n    # of a\n  # too\n^\n# of study\nstudy: s\n", 2),
    "a comment of the next key": ("profiles:\n  a: {}\n^# of study\nstudy: s\n", 2),
    "a profile that was put away": ("profiles:\n  a: {}\n#  b: {}\n^\nstudy: s\n", 2),
    "an alias last": ("study: s\ndata: &d {fit: pad}\nprofiles:\n  a:\n    data:\n      *d\n# z\n^\ntrain: {}\n", 2),
    "a quoted key": ('study: s\n"profiles":\n  a: {}\n^', 2),
    "lines of text last": ("study: s\nprofiles:\n  a:\n    tracking:\n      uri: |\n       b\n       # text\n^", 2),
    "an anchor": ("study: s\nprofiles: &p\n  a: {}\n^", 2),
    "braces over lines": ("study: s\nprofiles:\n  a: {train:\n # odd\n {kimg: 2}\n  }\n^", 2),
    "a byte order mark": ("\ufeffprofiles:\n  a: {}\n^study: s\n", 2),
    "tabs": ("study: s #\ta\nprofiles:\n  a: {} #\tb\n^", 2),
}  # fmt: skip
"""What it is of -> the file with ^ where the profile goes, columns of the profile's name."""


def expected(marked: str, column: int, has_profiles: bool) -> str:
    outer = len(marked.lstrip("\ufeff")) - len(marked.lstrip("\ufeff ")) if marked.startswith("  ") else 0
    step = column - outer
    body = BODY.format(" " * column, " " * step)
    text = f"\n{body}" if has_profiles else f"\n{' ' * outer}profiles:\n{body}"
    before, after = marked.split("^")
    return before + (text + after if before.endswith("\n") else "\n" + text[:-1] + after)


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("case", PLACES)
def test_where_it_goes(case: str, end: str, tmp_path: Path) -> None:
    marked, column = PLACES[case]
    text = marked.replace("^", "")
    path = written(tmp_path, text.replace("\n", end))
    assert assert_written(path, None, TAU, ()) == "tuned-full"
    wanted = expected(marked, column, "profiles" in text)
    # A file of one line does not tell how its lines end.
    assert path.read_bytes().decode() == wanted.replace("\n", end if "\n" in text else "\n")


REFUSED = {
    "between braces": ("study: s\nprofiles: {a: {}}\n", "tuned-full: {loss: {tau: 0.31}, tuned: {full: {trials: 30"),
    "braces around all": ("{study: s}\n", "\nTo paste:\nprofiles: {tuned-full: {loss: {tau: 0.31}"),
    "JSON with profiles": (
        '{"study": "s", "profiles": {}}',
        "its `profiles`\nTo paste:\ntuned-full: {loss: {tau: 0.31}",
    ),
    "empty braces": ("study: s\nprofiles: {}\n", "profiles:\n  # written"),
    "an alias": ("study: s\nmargins: &m {}\nprofiles: *m\n", "profiles:\n  # written"),
    "line ends that count": (
        "study: s\nprofiles:\n  a:\n    tracking:\n      uri: |+\n        b\n\n\n",
        "  # written by harness tune: cell full, 30 trials, objective fd\n  tuned-full:",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_take_it_is_left_and_the_text_is_shown(case: str, tmp_path: Path) -> None:
    text, paste = REFUSED[case]
    path = written(tmp_path, text)
    with pytest.raises(SpecError, match="cannot be written into the file") as told:
        write_profile(load_study(path), TAU, FULL)
    assert str(path) in str(told.value) and paste in str(told.value)
    assert path.read_text() == text and os.listdir(tmp_path) == ["study.yaml"]


def test_a_file_whose_profiles_come_by_a_merge_gets_a_block_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, "study: s\n<<: {profiles: {a: {train: {kimg: 2}}}}\n")
    assert write_profile(load_study(path), TAU, FULL) == "tuned-full"
    assert load_study(path, "tuned-full").settings.loss.tau == TAU["loss.tau"]
    assert load_study(path, "a").settings.train.kimg == 2


# Files of every make

COMMENT = st.sampled_from(["", " # c", " #\ttab: {", "  # é 😀 profiles:"])
VALUES = {
    "train": ["kimg: 2", "batch: 8", "r1_gamma: 1.5", "precision: 'bf16'"],
    "loss": ["tau: 0.5", "similarity: cosine", "weights: {generator: {itd: 4}}"],
    "design": ["seeds: 2", 'kind: "both"'],
    "tracking": ["experiment: 'a # b'", 'uri: "x: y\\n"'],
    "margins": ["fd: 5", "clip_score: .5"],
}


@st.composite
def section(draw: st.DrawFn, column: int, step: int) -> list[str]:
    """A key of the study file with some of its values, in braces or as a block."""
    name = draw(st.sampled_from(sorted(VALUES)))
    values = draw(st.lists(st.sampled_from(VALUES[name]), unique=True, min_size=1))
    end = draw(COMMENT)
    if draw(st.booleans()):
        return [" " * column + f"{name}: {{{', '.join(values)}}}{end}"]
    return [" " * column + f"{name}:{end}", *(" " * (column + step) + value + draw(COMMENT) for value in values)]


@st.composite
def sections(draw: st.DrawFn, column: int, step: int) -> list[str]:
    found: dict[str, list[str]] = {}
    for lines in draw(st.lists(section(column, step), max_size=3)):
        found.setdefault(lines[0].split(":")[0], [*lines, *draw(filler(column))])
    return [line for lines in found.values() for line in lines]


@st.composite
def filler(draw: st.DrawFn, column: int) -> list[str]:
    """Blank lines and comments."""
    lines = ["", "   ", "# left", " " * column + "# in", " " * (column + 3) + "#further in", "#"]
    return draw(st.lists(st.sampled_from(lines), max_size=3))


@st.composite
def block_of_profiles(draw: st.DrawFn, column: int, step: int) -> list[str]:
    inner, step = column + step, draw(st.integers(1, 6))
    lines = [" " * column + "profiles:" + draw(COMMENT), *draw(filler(inner))]
    for place in range(draw(st.integers(1, 3))):
        name = " " * inner + f"p{place}:"
        body = draw(sections(inner + step, step))
        merge = [" " * (inner + step) + "<<: *p0"] if place and draw(st.booleans()) else []
        if not any(line.strip() and not line.strip().startswith("#") for line in [*merge, *body]):
            kind = draw(st.sampled_from(["{}", "{train: {kimg: 3}}", "*p0"] if place else ["&p0 {}"]))
            lines += [f"{name} {kind}{draw(COMMENT)}", *body]
        else:
            lines += [name + ("" if place else " &p0") + draw(COMMENT), *merge, *body]
        lines += draw(filler(inner))
    return lines


@st.composite
def study_file(draw: st.DrawFn) -> str:
    """A study file in one of the ways in which people write them."""
    column, step = draw(st.sampled_from([0, 0, 0, 2])), draw(st.integers(1, 8))
    before, after = draw(sections(column, step)), draw(sections(column, step))
    taken = {line.split(":")[0] for line in before}
    after = after if not taken & {line.split(":")[0] for line in after} - {""} else []
    parts = [
        draw(filler(column)),
        [" " * column + "study: s" + draw(COMMENT), " " * column + "toggles: [mix_logits]"],
        before,
        draw(block_of_profiles(column, step)) if draw(st.integers(0, 4)) else [],
        after,
        draw(filler(column)),
        draw(st.sampled_from([[], [], ["..."]])),
    ]
    head = draw(st.sampled_from(["", "", "\ufeff", "%YAML 1.2\n---\n"]))
    text = head + "\n".join(line for part in parts for line in part) + draw(st.sampled_from(["", "\n", "\n\n"]))
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@pytest.mark.fuzz
@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(text=study_file(), data=st.data())
def test_any_file_keeps_its_bytes_and_says_what_was_found(
    text: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.mktemp("study"), text)
    base = data.draw(st.sampled_from([None, *profiles(path)]))
    weight = st.floats(1e-6, 1e6)
    tau = st.floats(temperature.LEAST, 1e6)
    weights = data.draw(st.fixed_dictionaries({"loss.tau": tau}, optional={"train.r1_gamma": weight}))
    overrides = tuple(data.draw(st.lists(st.sampled_from(["train.batch=4", "design.seeds=1", "loss={}"]), max_size=2)))
    name = assert_written(path, base, weights, overrides)
    cell = apply_toggles(found := load_study(path, name), cell_toggles(found, "full"))
    assert cell.loss.tau == weights["loss.tau"]
    again = assert_written(path, name, {"loss.tau": weights["loss.tau"] + 1}, ())
    assert again == f"{name}-tuned-full"
