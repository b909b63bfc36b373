"""Study files nobody meant well with: a plan or a refusal, in little time and memory, and no file elsewhere touched."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from damaged_studies import damaged_text, damaged_tree
from forked import run_forked
from fuzz import examples
from harness.cli.select import find_run, run_rows
from harness.data.sources.twemoji import Twemoji
from harness.errors import HarnessError, SpecError
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.study.schema import terms_of
from hostile import SMALL, VALUES, bounded, device, refusal, untouched, write_images

PARTS = 10
"""Of a hundred files each."""
HEAD = SMALL.strip() + "\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study's folder with images, a cache that knows them, and files around it that are none of its business."""
    around = tmp_path_factory.mktemp("around")
    (around / "cwd").mkdir()
    (around / "precious").write_text("precious")
    write_images(around / "here" / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        records = Twemoji.records
        patch.setattr(Twemoji, "records", lambda source: records(source)[::20])  # prepared anew at each resolution
        patch.chdir(around / "cwd")
        yield around / "here"


def plan_of(path: Path, overrides: Sequence[str] = (), profile: str | None = None) -> str:
    """Loads and plans, and asks what a user would ask next; the refusal, if it is one."""
    around = Path.cwd().parent
    with bounded(), refusal() as told:
        study = load_study(path, profile, overrides)
        assert (study.root.parent, study.reports.parent) == (path.parent / "runs", path.parent / "reports")
        plan = make_plan(study)
        run_rows(plan)
        terms_of(study, plan.cells[0].name)
        json.dumps(plan.as_dict()).encode()
    assert (around / "precious").read_text() == "precious"
    return told[0] if told else ""


OVERRIDES = (
    st.just([])
    | st.just([])
    | st.lists(
        st.builds(
            "{}={}".format,
            st.sampled_from(
                [
                    "train.kimg",
                    "design.seeds",
                    "study",
                    "data.path",
                    "toggles",
                    "loss",
                    "profile",
                    "a..b",
                    "",
                    "resources.slots",
                ]
            ),
            st.sampled_from(VALUES).map(lambda value: value if isinstance(value, str) else json.dumps(value))
            | st.text(max_size=8),
        ),
        max_size=1,
    )
)
PROFILES = st.sampled_from([*[None] * 20, "quick", "trial", "", "../../x", "\0", "\udcff", "x" * 300])


@pytest.mark.fuzz
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_a_study_file_holds_it_is_planned_or_refused(part: int, place: Path) -> None:
    path = place / "study.yaml"
    found = []

    @seed(part)
    @settings(max_examples=examples(100), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(content=damaged_text() | damaged_tree(), overrides=OVERRIDES, profile=PROFILES)
    def check(content: bytes, overrides: list[str], profile: str | None) -> None:
        path.write_bytes(content)
        found.append(plan_of(path, overrides, profile))

    path.write_text("")
    with untouched(place.parent / "cwd", place / "images"):
        check()
    assert len(found) >= examples(100) and any(found) and not all(found), "some are planned, some refused"
    assert {entry.name for entry in place.iterdir()} == {"images", "study.yaml"}
    assert {entry.name for entry in place.parent.iterdir()} == {"cwd", "here", "precious"}


def own(count: int) -> str:
    return "toggles: [" + ", ".join(f"{{t{n}: {{loss.tau: {n + 1}}}}}" for n in range(count)) + "]\n"


PATCHES = [
    "loss.tau", "train.lr", "train.beta1", "train.beta2", "train.r1_gamma", "train.pl_weight", "train.ema_kimg",
    "train.pl_decay", "train.style_mixing", "train.kimg", "condition.text_noise", "condition.pseudo_noise",
]  # fmt: skip
TWELVE = "toggles: [" + ", ".join(f"{{t{n}: {{{name}: 0.25}}}}" for n, name in enumerate(PATCHES)) + "]\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
FILES = {
    "an alias bomb": (BOMB, "more than 10,000 values once its aliases are followed"),
    "a bomb of merge keys": (MERGES, "more than 10,000 values once its aliases are followed"),
    "a bomb of one long text": (
        f"a: &a {'x' * 50_000}\nb: [{', '.join(['*a'] * 5_000)}]\n",
        "more than 250,000 characters once its aliases are followed",
    ),
    "an anchor that holds itself": (HEAD + "profiles: &a {x: *a}\n", "an anchor that holds itself"),
    "a merge of itself": ("a: &a {<<: *a}\n", "an anchor that holds itself"),
    "a profile that names itself": (HEAD + "profiles: {x: {profile: x}}\nprofile: x\n", "not allowed in the profile"),
    "profiles in a profile": (HEAD + "profiles: {x: {profiles: {x: {}}}}\n", "profiles: not allowed in the profile"),
    "a profile of another study": (HEAD + "profiles: {x: {study: ../../x}}\nprofile: x\n", "study: must be up to 64"),
    "a profile that leads out": (HEAD + "profiles: {../../x: {}}\nprofile: ../../x\n", "up to 64 of a-z"),
    "thousands of profiles": (HEAD + "profiles:\n" + "".join(f"  p{n}: {{}}\n" for n in range(999)), "999; at most 64"),
    "code": ("study: !!python/object/apply:os.system ['touch /tmp/exploded']\n", "the tag .* is not allowed"),
    "a tag of a million characters": ("study: " + "!" * 200_000, "the tag .* is not allowed"),
    "keys twice": (HEAD + "study: other\n", "the key 'study' is here twice"),
    "a thousand open brackets": ("study: " + "[" * 1000, "more than 200 brackets are open"),
    "a thousand open lists": ("study: " + "- " * 1000, "not valid YAML"),
    "a billion seeds": (HEAD + "design: {seeds: 1000000000}\n", "a number of seeds from 1 to 1000"),
    "a billion cells": (
        HEAD + "toggles: [" + ", ".join(f"{{t{n}: {{loss.weights.generator.itd: {n}}}}}" for n in range(30)) + "]\n"
        "design: {kind: full, exclude: [" + ", ".join(f"[t{a}, t{b}]" for b in range(30) for a in range(b)) + "]}\n",
        r"2\^30 cells are more than 4096",
    ),
    "four million runs": (HEAD + TWELVE + "design: {kind: full, seeds: 1000}\n", "4,096,000 runs are more than 50,000"),
    "a thousand toggles": (HEAD + own(1000), "1000 toggles are too many; at most 64"),
    "overlapping toggles": (HEAD + own(64) + "design: {kind: both}\n", r"and 1,976 more problems$"),
    "a cell's name of a book": (
        HEAD + f"design: {{kind: list, include: [origin], cells: [{{{'a' * 500}: [mix_logits]}}]}}\n",
        "a cell's name has up to 64 characters",
    ),
    "more generators than can be": (
        HEAD + TWELVE + f"design: {{kind: fractional, generators: [{', '.join(['F=AB'] * 17)}]}}\n",
        "17 are too many; at most 16",
    ),
    "no such user": (HEAD.replace("path: images", "path: ~nobody-here/x"), "there is no .*~nobody-here/x"),
    "no such user's weights": (
        HEAD.replace("embedded:clip-guide", "open_clip:ViT-B-32/openai@~nobody-here/x"),
        "no file .*~nobody-here/x; correct the path",
    ),
    "a path of a book": (HEAD.replace("path: images", f"path: {'a' * 5000}"), "there is no .*aaa"),
    "training until the stars go out": (HEAD + "train: {kimg: 1.0e+307}\n", r"at most 1e\+09"),
    "tars without end": (
        HEAD.replace("source: folder, path: images", 'source: webdataset, path: "x{0..999999999}.tar"'),
        "more than 100,000 tars",
    ),
    "thousands of wrong margins": (
        HEAD + "margins: {" + ", ".join(f"k{n}: x" for n in range(4000)) + "}\n",
        r"margins\.k0: must be a number, not 'x'\n(.*\n)+and 3,960 more problems$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_what_would_never_end_is_refused_at_once(case: str, place: Path) -> None:
    text, said = FILES[case]
    (place / "study.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch, untouched(Path.cwd()):
        patch.setattr("hostile.CPU_SECONDS", 5)
        told = plan_of(place / "study.yaml")
    assert re.search(said, told), told[:500]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "~", "a/b", "a\\0b", ".", "..", "A", "-x", "ü", "x" * 65, ""])
def test_a_study_that_would_live_elsewhere_is_refused(name: str, place: Path) -> None:
    (place / "study.yaml").write_text(HEAD.replace("study: tiny", f'study: "{name}"'))
    with pytest.raises(SpecError, match=r"study: (must be up to 64|missing)"):
        load_study(place / "study.yaml")
    with pytest.raises(SpecError, match=r"study|not allowed"):
        load_study(place / "study.yaml", overrides=[f"study={name}"])


NO_STUDY = r"study\.yaml.*(is no file that can be read again|cannot be read|is a folder|more than 250,000|is empty)"


@pytest.mark.parametrize(
    "kind", ["pipe", "sparse", "folder", "circle", "/dev/zero", "/dev/full", "/proc/self/mem", "/dev/null"]
)
def test_what_is_no_study_file_is_neither_waited_for_nor_read_whole(kind: str, place: Path, tmp_path: Path) -> None:
    path = device(kind, tmp_path / "study.yaml")
    with bounded(), pytest.raises(SpecError, match=NO_STUDY):
        load_study(path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "a/" * 3000, "\udcff.yaml", "/dev/fd/9999", "images/00.txt/x"])
def test_what_is_no_name_of_a_file_is_refused(name: str, place: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot be read|no such file|is not UTF-8|no name of a file"):
        load_study(place / name)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
@pytest.mark.parametrize("kind", ["sparse", "pipe", "/dev/zero"])
def test_data_without_end_is_refused_unread(kind: str, suffix: str, place: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 4)
    path = device(kind, tmp_path / f"data{suffix}")
    source = "coco, images: images" if suffix == ".json" else "table"
    (tmp_path / "study.yaml").write_text(
        HEAD.replace("source: folder, path: images", f"source: {source}, path: {path.name}")
    )
    with bounded(), pytest.raises(HarnessError, match=rf"{path.name}.*(no file|characters|bytes; at most)"):
        make_plan(load_study(tmp_path / "study.yaml"))


@pytest.mark.parametrize(
    "text", ["", "/", "origin/", "/0", "origin/0/0", "origin/-0", "x" * 5000, "../../..", "\udcff", "é/0", "a+b/0"]
)
def test_a_run_that_cannot_be_meant_is_refused(text: str, place: Path) -> None:
    (place / "study.yaml").write_text(HEAD)
    with pytest.raises(SpecError):
        find_run(load_study(place / "study.yaml"), text)


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "a bomb": lambda place: ["plan", str(write(place, BOMB))],
    "values of all kinds": lambda place: ["plan", "--json", str(write(place, HEAD + 'train: {kimg: "\\ud800"}\n'))],
    "red text": lambda place: ["terms", str(write(place, HEAD)), "--cell", "\x1b[31m\udcff" + "x" * 3000],
    "a profile": lambda place: ["status", str(write(place, HEAD)), "--profile", "../\udcff"],
    "an option": lambda place: ["report", str(write(place, HEAD)), "--set", "study=../../x"],
    "a pipe": lambda place: ["data", "show", str(device("pipe", place / "pipe.yaml"))],
    "a run": lambda place: ["sample", "x" * 5000, "cat", "--study", str(write(place, HEAD))],
    "a run of bytes": lambda place: ["sample", "\udcff/0", "cat", "--study", str(write(place, HEAD))],
    "a cell": lambda place: ["run-grid", str(write(place, HEAD)), "--only", "../\udcff" + "+a" * 500],
    "a sheet": lambda place: ["data", "show", str(write(place, HEAD)), "--out", "x" * 5000 + "/a.png"],
    "a file": lambda place: ["doctor", "x" * 5000],
    "a new file": lambda place: ["init", "x" * 5000],
}


def write(place: Path, text: str) -> Path:
    (place / "study.yaml").write_text(text)
    return place / "study.yaml"


@pytest.mark.parametrize("case", COMMANDS)
def test_the_command_line_refuses_in_words(case: str, place: Path) -> None:
    arguments = COMMANDS[case](place)
    with untouched(place, Path.cwd()):
        done = run_forked(arguments, environment={**os.environ, "HF_HUB_OFFLINE": "1"})
    said = done.stderr
    assert done.returncode == 2 and "Traceback" not in said and said.strip(), said
    assert "\x1b[31m" not in said
