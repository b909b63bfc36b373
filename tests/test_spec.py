"""The study file: what it resolves to, and what is said about every kind of mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fuzz import examples
from harness.cli.presets import write
from harness.errors import SpecError
from harness.frozen_networks import encoders_read
from harness.models.toggles import TOGGLES
from harness.models.toggles import apply as apply_builtin
from harness.runs.record import Count
from harness.settings import Settings
from harness.study.load import LARGEST_SEED, load_study
from harness.study.schema import Study, StudyFile, apply_toggles, cell_toggles
from harness.study.search_space import parameters
from harness.study.yaml import parse

MINIMAL = "study: tiny\n"
GOLDEN = YAML(typ="safe", pure=True).load(Path(__file__).parent / "golden" / "mistakes.yaml")


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Loads a study from text."""

    def load(text: str, *overrides: str, profile: str | None = None) -> Study:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return load_study(path, profile, overrides)

    return load


@pytest.fixture
def complaint(load: Any, tmp_path: Path) -> Any:
    """The message with which a study is refused, the file's folder left out."""

    def complaint(text: str, *overrides: str, profile: str | None = None) -> str:
        with pytest.raises(SpecError) as refused:
            load(text, *overrides, profile=profile)
        return str(refused.value).replace(f"{tmp_path}/", "")

    return complaint


def test_a_minimal_study_is_the_published_origin(load: Any, tmp_path: Path) -> None:
    study = load(MINIMAL)
    assert study.settings == Settings()
    assert study.toggle_names == tuple(TOGGLES)
    assert (study.name, study.profile, study.baseline, study.design.seeds) == ("tiny", None, "origin", (0,))
    assert (study.root, study.reports) == (tmp_path / "runs" / "tiny", tmp_path / "reports" / "tiny")


def test_the_layers_win_in_order_and_sections_merge(load: Any) -> None:
    text = """
study: tiny
train: {kimg: 1, batch: 8, lr: 0.1}
loss: {weights: {generator: {itd: 2}}}
profile: a
profiles:
  a: {train: {kimg: 2, batch: 12}, loss: {weights: {generator: {itc: 3}}}}
  b: {train: {kimg: 3}, design: {seeds: 4}}
"""
    study = load(text, "train.kimg=5", "train.kimg=6", "loss.weights.generator={itd_r: 7}")
    assert (study.profile, study.settings.train.kimg, study.settings.train.batch) == ("a", 6.0, 12)
    assert study.settings.train.lr == 0.1 and study.settings.train.beta2 == Settings().train.beta2
    weights = study.settings.loss.weights["generator"]
    assert (weights["itd"], weights["itc"], weights["itd_r"], weights["iic"]) == (2.0, 3.0, 7.0, 3.0)
    other = load(text, profile="b")
    assert (other.settings.train.kimg, other.settings.train.batch, other.design.seeds) == (3.0, 8, (0, 1, 2, 3))


def test_whole_numbers_become_the_settings_own_type(load: Any) -> None:
    study = load(MINIMAL, "train.kimg=2", "toggles=[{short: {train.kimg: 1}}]")
    assert type(study.settings.train.kimg) is float
    assert type(study.toggles[0].patch["train.kimg"]) is float


def test_anchors_and_merge_keys_work(load: Any) -> None:
    text = "study: tiny\nprofiles:\n a:\n  train: &t {kimg: 2, batch: 8}\n b:\n  train: {<<: *t, batch: 16}\n"
    assert load(text, profile="b").settings.train.kimg == 2
    assert load(text, profile="b").settings.train.batch == 16


def test_seeds_are_a_number_or_a_list(load: Any) -> None:
    assert load(MINIMAL, "design.seeds=3").design.seeds == (0, 1, 2)
    assert load(MINIMAL, "design.seeds=[7, 3]").design.seeds == (7, 3)


def test_no_seed_is_larger_than_the_record_of_a_run_takes(load: Any, complaint: Any) -> None:
    largest = load(MINIMAL, f"design.seeds=[{LARGEST_SEED}]", "design.control=1000").design
    (limit,) = Count.__metadata__  # type: ignore[attr-defined]
    assert largest.seeds == (LARGEST_SEED,) and largest.control_seeds[-1] == limit.le
    said = complaint(MINIMAL, f"design.seeds=[0, {LARGEST_SEED + 1}]", "design.control=0")
    assert "whole numbers from 0 to 999,999,999,999,000, or auto, not [0, 999999999999001]" in said
    # Trials have theirs from 10,000 on and the comparison at the end from 20,000 on: fresh, as no trial has as many.
    assert "tune.seeds: must be" in complaint(MINIMAL, "tune.seeds=10001")


def test_own_toggles_patch_settings_beside_the_built_in_ones(load: Any) -> None:
    study = load("study: tiny\ntoggles: [mix_logits, {cosine: {loss.similarity: cosine, loss: {tau: 1}}}]\n")
    assert study.toggles[1].patch == {"loss.similarity": "cosine", "loss.tau": 1.0}
    on = apply_toggles(study, ["cosine", "mix_logits"])
    assert on == apply_toggles(study, ["mix_logits", "cosine"])
    assert (on.loss.similarity, on.loss.tau, on.loss.mix_logits) == ("cosine", 1.0, True)
    assert apply_toggles(study, []) == study.settings
    with pytest.raises(ValueError, match="not toggles of this study: cosin"):
        apply_toggles(study, ["cosin"])


@pytest.mark.parametrize("name", TOGGLES)
def test_built_in_toggles_are_those_of_the_models(load: Any, name: str) -> None:
    study = load(MINIMAL)
    assert apply_toggles(study, [name]) == apply_builtin(study.settings, [name]) != study.settings


def test_a_weight_can_be_a_toggle(load: Any) -> None:
    study = load("study: tiny\ntoggles: [{strong: {loss.weights.generator.itd: 50}}]\n")
    weights = apply_toggles(study, ["strong"]).loss.weights
    assert weights["generator"]["itd"] == 50.0 and weights["generator"]["itc"] == 10.0


@pytest.mark.parametrize("case", GOLDEN, ids=[case["mistake"] for case in GOLDEN])
def test_mistakes_are_said_in_plain_words(complaint: Any, case: dict[str, str]) -> None:
    assert complaint(case["study"]) == case["said"]


def test_a_guide_may_measure_and_further_networks_are_listed(load: Any) -> None:
    assert load("study: tiny\ntoggles: [resnet_guided]\nmetrics: {resnet: timm:resnet50.a1_in1k}\n")
    study = load("study: tiny\nmetrics: {more: [embedded:resnet-measure, timm:vit_small_patch14_dinov2.lvd142m]}\n")
    assert study.settings.metrics.more == ("embedded:resnet-measure", "timm:vit_small_patch14_dinov2.lvd142m")
    assert list(encoders_read(study.settings))[-2:] == ["metrics.more.0", "metrics.more.1"]


def test_overlapping_toggles_are_fine_once_they_exclude_each_other(load: Any) -> None:
    toggles = "toggles: [{hot: {loss.tau: 1}}, {cold: {loss.tau: 0.1}}]\n"
    study = load(f"study: tiny\n{toggles}design: {{kind: full, exclude: [[cold, hot]]}}\n")
    assert study.toggle_names == ("hot", "cold")


def test_overlapping_toggles_are_refused_only_where_a_cell_would_have_both(load: Any, complaint: Any) -> None:
    toggles = "toggles: [{hot: {loss.tau: 1}}, mix_logits, {cold: {loss.tau: 0.1}}]\n"
    study = load(f"study: tiny\n{toggles}")
    assert [apply_toggles(study, cell.toggles).loss.tau for cell in study.layout.cells] == [0.5, 1.0, 0.5, 0.1]
    with pytest.raises(SpecError, match=r"no cell .full.: hot and cold both set loss\.tau; name another cell"):
        cell_toggles(study, "full")
    assert "toggles[2]: hot and cold both set" in complaint(
        f"study: tiny\n{toggles}design: {{kind: list, cells: [[], [mix_logits, hot], [cold, hot]]}}"
    )
    load(f"study: tiny\n{toggles}design: {{kind: list, cells: [[], [mix_logits, hot], [cold, mix_logits]]}}")
    assert "design.include[0]: there can be no cell 'full'" in complaint(
        f"study: tiny\n{toggles}design: {{include: [full]}}"
    )
    searched = f"study: tiny\n{toggles}tune: {{trials: 3}}"
    assert "tune.cell: there can be no cell 'full'" in complaint(searched)


def test_every_mistake_is_listed(complaint: Any) -> None:
    said = complaint("study: tiny\nkimg: 3\ntrain: {batch: x, lr: 0}\nloss: {simlarity: exp}\n").splitlines()
    assert [line.split(": ")[1] for line in said] == ["kimg", "loss.simlarity", "train.batch", "train.lr"]
    assert "did you mean 'train.kimg'?" in said[0]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("train.kimg", "--set train.kimg: must be KEY.PATH=VALUE, such as train.kimg=2"),
        ("train..kimg=2", "--set train..kimg=2: must be KEY.PATH=VALUE, such as train.kimg=2"),
        ("train.kimg=x", "--set train.kimg=x: train.kimg: must be a number, not 'x'"),
        ("train.kimg={", "--set train.kimg={: not valid YAML: expected the node content, but found '<stream end>'"),
        ("profile=a", "--set profile=a: a profile is chosen with --profile NAME"),
        (
            "design.seeds=0",
            "--set design.seeds=0: design.seeds: must be a number of seeds from 1 to 1000, a list of "
            "different whole numbers from 0 to 999,999,999,999,000, or auto, not 0",
        ),
        ("seeds=2", "--set seeds=2: seeds: unknown setting; did you mean 'design.seeds'? allowed: "),
        ("train.batch=6", "--set train.batch=6: train.batch: 6 cannot be split into groups of "),
        ("baseline=full", "--set baseline=full: baseline: the baseline 'full' is not in the design; add it to design."),
        ("design.kind=leave-one-out", "--set design.kind=leave-one-out: design.kind: the baseline 'origin' is not in "),
    ],
)
def test_mistakes_in_an_option_name_the_option(complaint: Any, option: str, said: str) -> None:
    assert complaint(MINIMAL, option).startswith(said)


def test_an_unknown_profile_on_the_command_line_is_named(complaint: Any) -> None:
    assert complaint("study: a\nprofiles: {quick: {}}\n", profile="quik").startswith(
        "--profile quik: no profile 'quik'"
    )
    assert complaint(MINIMAL, profile="quick") == "--profile quick: no profile 'quick'; the file has no profiles"


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no such file; .* holds no YAML file; `harness init`"):
        load_study(tmp_path / "ablations.yaml")
    with pytest.raises(SpecError, match=r"there is no folder full; the study file comes before .*: STUDY\.yaml full/0"):
        load_study(Path("full/0"))
    (tmp_path / "ablations.yml").touch()
    with pytest.raises(SpecError, match=r"did you mean 'ablations\.yml'\?"):
        load_study(tmp_path / "ablations.yaml")
    opened = psutil.Process().num_fds()
    with pytest.raises(SpecError, match=r"is a folder; name a study file in it: it holds ablations\.yml$"):
        load_study(tmp_path)
    assert psutil.Process().num_fds() == opened


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"study: \xff\n")
    with pytest.raises(SpecError, match="cannot be read as text"):
        load_study(tmp_path / "a.yaml")


def test_an_alias_bomb_is_bounded(complaint: Any) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    assert "more than 10,000 values once its aliases are followed" in complaint(bomb)
    assert "an anchor that holds itself" in complaint("study: &a [*a]\n")
    assert "more than 200 brackets are open at once" in complaint("study: " + "[" * 5000)
    assert "not valid YAML" in complaint("study: " + "- " * 5000)
    assert "more than 250,000 characters" in complaint("study: " + "a" * 250_001)


@pytest.mark.parametrize(
    "value", ["9" * 30, "9" * 5000, "!!int x", "!!bool maybe", "!!float x", "1e999", '"\\ud800"', "!!binary aGk="]
)
def test_values_that_json_could_not_hold_are_refused(complaint: Any, value: str) -> None:
    assert complaint(f"study: tiny\ntrain: {{kimg: {value}}}\n").startswith("study.yaml:")


def test_a_default_is_written_once() -> None:
    """The schema's own defaults pass its own checks unchanged."""
    from harness.study.overlay import ConfigTree

    assert ConfigTree(Settings).value() == Settings()
    assert ConfigTree(StudyFile).value() == StudyFile()


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["full", "cosine"])
)
KNOWN = """study train loss toggles design profiles profile kimg seeds include kind weights exclude require cells
baseline generator resources slots mix_logits loss.tau"""
KEYS = st.sampled_from(KNOWN.split()) | st.text(max_size=4)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


@pytest.mark.fuzz
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(KEYS, TREES, max_size=6))
def test_whatever_the_tree_it_is_a_study_or_a_spec_error(tree: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "random.yaml"
    with path.open("w", encoding="utf-8", errors="surrogatepass") as file:
        YAML(typ="safe", pure=True).dump({"study": "tiny", **tree}, file)
    try:
        assert isinstance(load_study(path), Study)
    except SpecError as error:
        assert str(error)


@pytest.mark.fuzz
@settings(max_examples=examples(100), deadline=None)
@given(text=st.text(alphabet="ab:-[]{}&*!|>\"'#%@,? \n\t<0.1~\\", max_size=60))
def test_whatever_the_text_it_is_read_or_refused(text: str) -> None:
    try:
        parse(text, lambda line, column: f"x:{line + 1}:{column + 1}").plain()
    except SpecError as error:
        assert str(error).startswith("x:")


def test_the_shipped_study_is_the_quick_preset_and_all_its_profiles_load(tmp_path: Path) -> None:
    shipped = Path(__file__).parent.parent / "ablations.yaml"
    write("quick", tmp_path / "ablations.yaml")
    assert shipped.read_text() == (tmp_path / "ablations.yaml").read_text()
    quick, standard, paper = (load_study(shipped, profile) for profile in (None, "standard", "paper"))
    assert (quick.profile, quick.settings.data.resolution) == ("quick", 16)
    assert (standard.settings.data.resolution, paper.settings.data.resolution) == (64, 256)
    published, default = paper.settings, Settings()
    assert (published.generator, published.discriminator, published.loss) == (
        default.generator, default.discriminator, default.loss,
    )  # fmt: skip
    assert published.train == default.train
    assert published.encoders.view == "crop", "as the published code has it, where the papers do not say"


def test_presets_never_overwrite(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    with pytest.raises(SpecError, match="already exists and was not changed"):
        write("quick", tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    with pytest.raises(
        SpecError, match=r"--preset quik: unknown preset; did you mean 'quick'\? allowed: fidelity, folder,"
    ):
        write("quik", tmp_path / "new.yaml")
    assert not (tmp_path / "new.yaml").exists()


@pytest.mark.parametrize(
    "text",
    [
        "loss: {tau: 0.0112}",
        "toggles: [mix_logits, {cold: {loss.tau: 0.0112}}]",
        "levels: {loss.tau: [0.5, 0.0112]}",
        "tune: {ranges: {loss.tau: [0.0112, 1]}}",
    ],
)
def test_a_temperature_whose_exponential_is_no_32_bit_number_is_refused(text: str, load: Any) -> None:
    """exp(1 / 0.0112) is 6e38, beyond 3.4e38; 0.0113 is below. By the cosine alone both can be computed."""
    assert not np.isfinite(np.float32(np.exp(1 / 0.0112))) and np.isfinite(np.float32(np.exp(1 / 0.0113)))
    with pytest.raises(SpecError, match=r"(loss\.)?tau: .*0\.0112 is too small: .*exp\(1 / tau\).* at least 0\.0113"):
        load(f"study: tiny\n{text}\n")
    load(f"study: tiny\n{text.replace('0.0112', '0.0113')}\n")
    if "loss: {" in text:
        load(f"study: tiny\n{text.replace('loss: {', 'loss: {similarity: cosine, ')}\n")
    else:
        load(f"study: tiny\n{text}\nloss: {{similarity: cosine}}\n")


def test_a_search_with_no_range_for_the_temperature_begins_where_it_can_be_computed(load: Any) -> None:
    """Also in the profile that a search writes, whose weights may be near that end."""
    for similarity, lowest in (("exp", 0.0113), ("cosine", 0.005)):
        text = f"loss: {{tau: 0.02, similarity: {similarity}}}\ntune: {{parameters: [loss.tau]}}"
        study = load(f"study: tiny\ntoggles: [mix_logits]\n{text}\n")
        (tau,) = parameters(study.settings, study.tune)
        assert (tau.low, tau.high) == (lowest, 0.08)


def test_true_is_no_number_of_a_choice(load: Any, complaint: Any, tmp_path: Path) -> None:
    """Python has True == 1, by which it was read as another setting than the one that was written."""
    mine = '@term("generator")\ndef mine(step, *, heads: Literal[0, 1, 2] = 2): ...\n'
    (tmp_path / "mine.py").write_text("from typing import Literal\nfrom harness.ideas import term\n" + mine)
    text = MINIMAL + "code: mine.py\n"
    assert load(text, "ideas.mine.heads=1").settings.ideas["mine"]["heads"] == 1
    for value, number in (("true", 1), ("false", 0)):
        refused = f"ideas.mine.heads: must be a number, such as {number}, not {value}"
        assert refused in complaint(text, f"ideas.mine.heads={value}")
