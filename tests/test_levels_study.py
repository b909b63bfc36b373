"""The `levels` section: names, ids, plans, and what is said about every kind of mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import harness
from harness.cli.main import app
from harness.errors import SpecError
from harness.planning.budget import compare
from harness.planning.forecast import Given, forecast
from harness.scheduler.slots import Slot
from harness.study.factors import short_name
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from harness.study.schema import Study, apply_toggles, cell_toggles, terms_of
from harness.tuning.search import make_search

HEAD = "study: tiny\ntoggles: [mix_logits, transform_w]\n"
TAU = "levels: {loss.tau: [0.1, 0.5, 1.0]}\n"


@pytest.fixture(autouse=True)
def _content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda config, cache: "data")
    monkeypatch.setattr("harness.models.encoders.fingerprint", lambda name: name)
    monkeypatch.setattr("harness.models.encoders.check", lambda name, kind=None: None)
    monkeypatch.setattr("harness.planning.forecast.find_slots", lambda *_: (Slot(0, "cpu", 1),) * 2)


Load = Callable[..., Study]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *overrides: str, profile: str | None = None) -> Study:
        path = tmp_path / "study.yaml"
        path.write_text(HEAD + text, encoding="utf-8")
        return load_study(path, profile, overrides)

    return load


@pytest.fixture
def planned(load: Load) -> Callable[..., Plan]:
    return lambda text, *overrides: make_plan(load(text, *overrides))


def complaint(load: Load, text: str, *overrides: str) -> str:
    with pytest.raises(SpecError) as refused:
        load(text, *overrides)
    return str(refused.value).rpartition("/study.yaml:")[2] if "\n" not in str(refused.value) else str(refused.value)


class TestSection:
    def test_the_study_has_the_factor(self, load: Load) -> None:
        (tau,) = load(TAU).factors
        assert (tau.name, tau.setting, tau.values) == ("tau", "loss.tau", (0.1, 0.5, 1.0))
        assert (tau.levels, tau.reference) == (("tau=0.1", "tau=0.5", "tau=1"), "tau=0.5")
        assert load(TAU).toggle_names == ("mix_logits", "transform_w")
        assert load(TAU).ideas == ("mix_logits", "transform_w", "tau=0.1", "tau=1")

    def test_sections_may_be_nested(self, load: Load) -> None:
        assert load("levels: {loss: {tau: [1, 0.5]}}\n").factors[0].levels == ("tau=1", "tau=0.5")

    def test_words_and_switches_may_be_levels(self, load: Load) -> None:
        study = load(
            "levels: {generator.noise: [true, false], loss.similarity: [exp, cosine]}\n", "loss.similarity=exp"
        )
        assert [factor.levels for factor in study.factors] == [
            ("noise=true", "noise=false"),
            ("similarity=exp", "similarity=cosine"),
        ]
        assert apply_toggles(study, ("noise=false", "similarity=cosine")).generator.noise is False

    def test_the_reference_follows_the_study(self, load: Load) -> None:
        assert load(TAU, "loss.tau=1").factors[0].reference == "tau=1"
        text = TAU + "profiles: {hot: {loss: {tau: 0.1}}, wide: {levels: {loss.tau: [0.5, 2, 4, 8]}}}\n"
        assert load(text, profile="hot").factors[0].reference == "tau=0.1"
        assert load(text, profile="wide").factors[0].levels == ("tau=0.5", "tau=2", "tau=4", "tau=8")

    def test_it_can_be_set_on_the_command_line(self, load: Load) -> None:
        assert load("", "levels.loss.tau=[0.5, 2]").factors[0].levels == ("tau=0.5", "tau=2")
        assert load(TAU, "levels={}").factors == ()

    def test_one_factor_on_the_command_line_leaves_the_others(self, load: Load) -> None:
        def names(text: str, *overrides: str) -> list[str]:
            return [level for factor in load(text, *overrides).factors for level in factor.levels]

        batch, own = ["batch=32", "batch=16"], ["tau=0.1", "tau=0.5", "tau=1"]
        assert names(TAU, "levels.train.batch=[32, 16]") == [*own, *batch]
        assert names("", "levels.train.batch=[32, 16]", "levels.loss.tau=[0.5, 2]") == [*batch, "tau=0.5", "tau=2"]
        for text in (TAU, "levels: {loss: {tau: [0.1, 0.5]}}\n"):
            assert names(text, "levels.loss.tau=[0.5, 2]") == ["tau=0.5", "tau=2"]
        assert names(TAU, "levels={train.batch: [32, 16]}") == batch
        assert names(TAU, "levels={}", "levels.train.batch=[32, 16]") == batch
        # So it is with every mapping whose keys are the user's own.
        assert load("margins: {fd: 5}\n", "margins.kid=1", "margins.fd=7").margins == {"fd": 7, "kid": 1}

    def test_a_profile_has_levels_of_its_own(self, load: Load) -> None:
        text = TAU + "profiles: {batches: {levels: {train.batch: [32, 16]}}, none: {levels: {}}}\n"
        assert load(text, profile="batches").ideas[2:] == ("batch=32",)
        assert load(text, profile="none").factors == ()

    def test_nothing_is_a_level_too(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "g.safetensors").write_bytes(b"")
        (factor,) = load("levels: {init.generator: ['', ./g.safetensors]}\n").factors
        assert factor.levels == ("generator=empty", "generator=.-g.safetensors")

    def test_names_are_as_long_as_they_must_be(self, load: Load) -> None:
        settings = ("loss.weights.generator.itd", "loss.weights.discriminator.itd", "loss.tau", "train.lr")
        assert [short_name(setting, settings, ("lr",)) for setting in settings] == [
            "generator.itd",
            "discriminator.itd",
            "tau",
            "train.lr",
        ]
        both = "levels: {loss.weights.generator.itd: [10, 5], loss.weights.discriminator.itd: [2, 1]}\n"
        own = ("loss.weights.generator.itd=10", "loss.weights.discriminator.itd=2")
        assert load(both, *own).ideas[2:] == ("generator.itd=5", "discriminator.itd=1")

    def test_no_name_is_a_column_that_a_table_of_runs_has_anyway(self, load: Load) -> None:
        assert load("levels: {train.precision: [fp32, bf16]}\n").ideas[2:] == ("train.precision=bf16",)

    def test_a_study_without_levels_has_none(self, load: Load) -> None:
        assert load("").factors == () and load("").ideas == load("").toggle_names


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("levels: {loss.tua: [1, 2]}", "3:21: levels.loss.tua: unknown setting; did you mean 'tau'? allowed: "),
            ("levels: {tau: [1, 2]}", "3:16: levels.tau: unknown setting; did you mean 'loss.tau'? allowed: "),
            ("levels: {loss: 3}", "3:16: levels.loss: must be a mapping, not 3; allowed keys: "),
            (
                "levels: {loss: [null, null]}",
                "3:16: levels.loss: is a section; list the values of one of its settings: ",
            ),
            ("levels: [1]", "3:9: levels: must be a mapping, not [1]"),
            (
                "levels: {loss.tau: 0.5}",
                "3:20: levels.loss.tau: must be a list of 2 to 64 values, the study's own among them: [0.5, ...], "
                "not 0.5",
            ),
            (
                "levels: {loss.tau: [0.5]}",
                "3:20: levels.loss.tau: must be a list of 2 to 64 values, the study's own among them: [0.5, ...], "
                "not [0.5]",
            ),
            ("levels: {loss.tau: [0.5, -1]}", "3:26: levels.loss.tau: must be greater than 0, not -1"),
            ("levels: {loss.tau: [0.5, hot]}", "3:26: levels.loss.tau: must be a number, not 'hot'"),
            (
                "levels: {loss.similarity: [exp, cosin]}",
                "3:33: levels.loss.similarity: must be 'exp' or 'cosine', not 'cosin'; did you mean 'cosine'?",
            ),
            ("levels: {loss.tau: [0.5, 1, 1.0]}", "3:20: levels.loss.tau: 1 is here twice; leave one out"),
            (
                "levels: {loss.tau: [0.1, 1]}",
                "3:20: levels.loss.tau: lacks 0.5, the study's own value, which is the reference level: add 0.5 to the "
                "list, or set loss.tau to one of 0.1, 1",
            ),
            (
                "levels: {loss.mix_logits: [true, false]}",
                "3:27: levels.loss.mix_logits: is set by the toggle mix_logits too; leave it out of one of the two",
            ),
            (
                "levels: {data.resolution: [128, 256]}",
                "3:9: levels: resolution=128 changes data or metrics, so its numbers could not be compared with the "
                "others: make it a study of its own",
            ),
            (
                "levels: {loss.tau: [1, 0.5], loss: {tau: [2, 0.5]}}",
                "3:9: levels: loss.tau is here twice; keep one of the two lists",
            ),
            (
                TAU + "tune: {parameters: [train.r1_gamma, loss.tau]}",
                "4:37: tune.parameters[1]: 'loss.tau' is a factor of the study, so a search cannot vary it; leave it "
                "out here, or leave it out of levels",
            ),
            (
                TAU + "design: {exclude: [[mix_logits, tau=0.5]]}",
                "4:20: design.exclude[0]: 'tau=0.5' is the reference level, which a cell has where no other level is "
                "named; name another one, or leave it out",
            ),
            (
                TAU + "design: {require: {mix_logits: [tau=2]}}",
                "4:32: design.require.mix_logits: unknown toggle or level 'tau=2'; did you mean 'tau=1'? allowed: "
                "mix_logits, transform_w, tau=0.1, tau=1",
            ),
            (
                TAU + "design: {kind: list, cells: [[], [tau=0.1, tau=1]]}",
                "4:34: design.cells[1]: asks for a cell that the design forbids: tau=0.1 and tau=1 are levels of one "
                "factor",
            ),
            (
                TAU + "design: {kind: list, cells: [[], [tau=1.0], [tau=1, tau=0.5]]}",
                "4:45: design.cells[2]: these toggles are listed twice: [\"tau=1\"]",
            ),
            (
                TAU + "design: {include: [tau=0.1+tau=1]}",
                "4:20: design.include[0]: unknown cell 'tau=0.1+tau=1'; did you mean 'tau=0.1'? allowed: origin, full, "
                "full-minus-TOGGLE, TOGGLE, TOGGLE+TOGGLE, and one level of each factor: tau=0.1, tau=1, TOGGLE+LEVEL",
            ),
        ],
    )  # fmt: skip
    def test_each_says_where_what_and_how(self, load: Load, text: str, said: str) -> None:
        found = complaint(load, text + "\n")
        assert found.startswith(said) if said.endswith(": ") else found == said

    def test_a_toggle_that_is_refused_sets_nothing(self, load: Load) -> None:
        found = complaint(load, TAU, "toggles=[mix_logits, {cold: {loss.tua: 1}}]")
        assert "loss.tua: unknown setting" in found and "levels" not in found
        assert "levels" not in complaint(load, TAU, "toggles=[nonsense]")

    def test_all_are_told_at_once(self, load: Load) -> None:
        text = "levels:\n  loss.tau: [0.5, -1, -2]\n  train.lr: fast\ntrain: {kimg: -3}\ndesign: {include: [tau=2]}\n"
        found = complaint(load, text).splitlines()
        assert [line.partition("study.yaml:")[2].partition(": ")[0] for line in found] == [
            "6:15",
            "4:19",
            "4:23",
            "5:13",
        ]

    def test_too_many_cells_are_counted_with_levels(self, load: Load) -> None:
        values = ", ".join(str(place / 100) for place in range(1, 62))
        text = f"levels: {{loss.tau: [0.5, {values}], train.lr: [0.0025, {values}]}}\ndesign: {{kind: full}}\n"
        text = text.replace("0.5, 0.61", "0.61").replace(", 0.5,", ",", 1)
        found = complaint(load, text, "train.lr=0.0025")
        assert "design.kind: 2^2 times" in found and "combinations of levels cells are more than 4096" in found


class TestRuns:
    def test_a_level_has_the_run_of_the_setting(self, planned: Callable[..., Plan]) -> None:
        by_cell = {run.cell: run.id for run in planned(TAU + "design: {kind: full}\n").runs}
        assert by_cell["tau=0.1"] == planned("", "loss.tau=0.1").runs[0].id
        assert by_cell["full+tau=1"] == planned("design: {include: [full]}\n", "loss.tau=1").runs[-1].id
        assert by_cell["origin"] == planned("").runs[0].id and len(set(by_cell.values())) == 12

    def test_names_of_cells_may_be_spelt_freely(self, planned: Callable[..., Plan]) -> None:
        plan = planned(TAU + "design: {kind: full}\n")
        for name in ("tau=1.0", "loss.tau=1", "origin+tau=1"):
            assert plan.cell(name).name == "tau=1"
        assert plan.cell("transform_w+mix_logits+tau=1").name == "full+tau=1"
        assert plan.cell("tau=0.5").name == "origin"
        assert plan.cell("tau=1").toggles == ("tau=1",) and plan.changes(plan.cell("tau=1")) == {"loss.tau": 1.0}

    def test_design_keys_take_levels(self, planned: Callable[..., Plan]) -> None:
        listed = (
            "design: {kind: list, cells: [[], [tau=1.0, mix_logits], {mine: [tau=0.1]}], include: [full+tau=1.00]}\n"
        )
        assert [cell.name for cell in planned(TAU + listed).cells] == [
            "origin",
            "mix_logits+tau=1",
            "mine",
            "full+tau=1",
        ]
        plan = planned(TAU + "baseline: tau=1.0\n")
        assert plan.study.baseline == "tau=1"
        rules = "design: {kind: full, exclude: [[mix_logits, tau=1.0]], require: {loss.tau=0.1: [transform_w]}}\n"
        assert planned(TAU + rules).dropped == {
            "tau=0.1": "tau=0.1 requires transform_w",
            "mix_logits+tau=0.1": "tau=0.1 requires transform_w",
            "mix_logits+tau=1": "mix_logits and tau=1 exclude each other",
            "full+tau=1": "mix_logits and tau=1 exclude each other",
        }

    def test_terms_and_tuning_take_a_level(self, load: Load) -> None:
        study = load(TAU + "tune: {cell: tau=0.10}\n")
        assert cell_toggles(study, "mix_logits+tau=0.1") == ("mix_logits", "tau=0.1")
        assert terms_of(study, "tau=0.1")
        search = make_search(study)
        assert (search.cell.name, search.cell.settings.loss.tau) == ("tau=0.1", 0.1)
        assert "loss.tau" not in {each.name for each in search.parameters}  # what it finds would be no level

    def test_the_plan_lists_levels(self, planned: Callable[..., Plan]) -> None:
        plan = planned(TAU + "design: {kind: both, seeds: 2}\n")
        document = json.loads(json.dumps(plan.as_dict()))
        assert document["levels"] == [
            {
                "factor": "tau",
                "setting": "loss.tau",
                "levels": ["tau=0.1", "tau=0.5", "tau=1"],
                "reference": "tau=0.5",
                "trend": ["tau=0.1", "tau=0.5", "tau=1"],
            }
        ]
        assert [each["toggle"] for each in document["can"]["effects"]] == [
            "mix_logits",
            "transform_w",
            "tau=0.1",
            "tau=1",
        ]
        assert document["can"]["trends"] == ["tau"] and document["can"]["runs"] == 16
        assert {"name": "tau=1", "toggles": ["tau=1"], "changes": {"loss.tau": 1.0}}.items() <= document["cells"][
            4
        ].items()

    def test_every_kind_counts_the_levels_at_a_budget(self, planned: Callable[..., Plan]) -> None:
        plan = planned(TAU + "design: {seeds: 2, control: 1}\ntrain: {kimg: 10}\n")
        found = compare(forecast(plan, Given(seconds_per_kimg=36, sd=0.05)), 36_000)
        cells = {option.name: option.cells for option in found.options}
        assert cells == {"one-at-a-time": 5, "leave-one-out + origin": 6, "both": 8, "full": 12}
        assert all(option.clear and option.effect for option in found.options)
        assert plan.design.runs == 11

    def test_a_level_that_trains_longer_costs_more(self, planned: Callable[..., Plan]) -> None:
        text = "levels: {train.kimg: [10, 20]}\ntrain: {kimg: 10}\n"
        found = compare(forecast(planned(text), Given(seconds_per_kimg=36, sd=0.05)), 36_000)
        assert found.least[2] < 10 * 360 and next(option.cells for option in found.options) == 4

    def test_it_is_shown(self, load: Load, tmp_path: Path) -> None:
        load(TAU + "design: {kind: full, seeds: 2}\ntrain: {kimg: 10}\n")
        done = CliRunner().invoke(app, ["plan", str(tmp_path / "study.yaml"), "--sd", "0.05"])
        assert done.exit_code == 0, done.output
        text = " ".join(done.output.split())
        assert "levels: tau=0.1, tau=1 against tau=0.5, the reference level, and the trend over all" in text
        assert "5 interactions of two ideas, each by itself" in text and "by one idea" in text
        assert len(harness.plan(load(TAU)).plan.cells) == 5

    def test_a_fraction_says_that_it_is_over_the_toggles(self, load: Load, tmp_path: Path) -> None:
        path = tmp_path / "six.yaml"
        path.write_text("study: six\n" + TAU + "design: {kind: fractional, seeds: 2}\n")
        done = CliRunner().invoke(app, ["plan", str(path)])
        text = " ".join(done.output.split())
        assert "the fraction is over the toggles; each of its cells is there with every combination of levels" in text
        assert "48 cells, 96 runs" in text and "interactions in 7 named groups" in text
        assert "12 interactions of two ideas, each by itself" in text
