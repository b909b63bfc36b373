"""The documentation as a site: it builds without a warning, and its references name what there is and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from conftest import trained_once
from harness.metrics.definitions import METRICS
from harness.models.toggles import TOGGLES
from harness.study.schema import StudyFile
from harness.trees import leaves
from test_docs_names import COMMANDS, ROOT
from test_report_page import CHROMIUM, browser  # noqa: F401
from tools.docs import markdown, tree

pytest.importorskip("griffe", reason="the extra `docs` is not installed: make docs")
build = pytest.importorskip("mkdocs.commands.build").build
load_config = pytest.importorskip("mkdocs.config").load_config
Abort = pytest.importorskip("mkdocs.exceptions").Abort


def build_strictly(pages: Path, site: Path, **settings: object) -> None:
    config = load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(site), strict=True, **settings)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pages as Markdown, and the site."""

    from tools.docs import generated

    def make(folder: Path) -> None:
        tree.write(folder / "pages", generated.pages())
        build_strictly(folder / "pages", folder / "site")

    return trained_once("docs-site", make, tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="module")
def reference(made: Path) -> dict[str, str]:
    """Name of a generated page -> its text."""
    return {path.stem: path.read_text(encoding="utf-8") for path in (made / "pages" / "reference").glob("*.md")}


def headings(text: str, level: int) -> list[str]:
    return re.findall(rf"^{'#' * level} `?([^`{{\n]+?)`?(?: \{{.*)?$", text, re.MULTILINE)


def test_the_page_of_settings_has_each_with_its_meaning_and_no_other(reference: dict[str, str]) -> None:
    paths = [path for path, _ in leaves(StudyFile().as_dict())]
    weights = {path for path in paths if path.startswith("loss.weights.")}
    named = headings(reference["settings"], 3)
    assert sorted(named) == sorted({*paths, "loss.weights"} - weights)
    for entry in reference["settings"].split("\n### ")[1:]:
        assert re.match(r".*\n\n.{9,}\n[^#]*\nDefault: .* · allowed: .* · in the run id: ", entry), entry
    assert set(re.findall(r"`(loss\.weights\.\S+)`", reference["objective"])) == weights
    (kimg,) = re.findall(r"### `train\.kimg`.*\n\n(.*)\n\n(.*)\n", reference["settings"])
    assert kimg[1] == "Default: `25000.0` · allowed: number above 0 and at most 1,000,000,000 · in the run id: yes"


def test_the_page_of_commands_has_each_with_its_options_and_no_other(reference: dict[str, str]) -> None:
    entries = re.split(r"^## harness ", reference["commands"], flags=re.MULTILINE)[1:]
    found = {entry.partition("\n")[0]: set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", entry)) for entry in entries}
    expected = {name: options - {"--token"} for name, options in COMMANDS.items() if name != "data"}  # a hidden one
    assert found.keys() == expected.keys()
    for name, options in expected.items():
        assert {each for each in options if each.startswith("-")} <= found[name], name


def test_the_tables_and_the_page_on_python_have_every_name(reference: dict[str, str]) -> None:
    first_column = {name: re.findall(r"^\| `([^`]+)`", text, re.MULTILINE) for name, text in reference.items()}
    assert first_column["metrics"] == list(METRICS)
    assert [name for name in first_column["objective"] if not name.startswith("loss.")] == list(TOGGLES)
    public = {f"harness.{name}" for name in harness.__all__ if not name.startswith("_")}
    assert set(headings(reference["python"], 2)) == public
    assert "- `profile`: One of the file's profiles;" in reference["python"]


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.md").write_text("# Home\n\n[there](#home)\n")
    build_strictly(pages, tmp_path / "site", nav=["index.md"], extra_css=[])
    (pages / "index.md").write_text("# Home\n\n[there](#hom)\n")
    with pytest.raises(Abort, match="1 warning"):
        build_strictly(pages, tmp_path / "site", nav=["index.md"], extra_css=[])


def test_lists_and_links_are_put_as_the_site_reads_them() -> None:
    text = "Above:\n- one [a](a.md)\n  on\n\n  - in it\n\n        code [b](b.md)\n1. two\n\n   ```\n   x\n   ```\n"
    assert markdown.for_site(text, str.upper) == (
        "Above:\n\n-   one [a](A.MD)\n    on\n\n    -   in it\n\n            code [b](b.md)\n\n"
        "1.  two\n\n    ```\n    x\n    ```\n"
    )


@pytest.fixture
def page(browser) -> Iterator:  # noqa: F811
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    found = browser.new_page(viewport={"width": 390, "height": 844})
    yield found
    found.close()


def test_pages_are_read_without_a_network_and_fit_a_narrow_window(page, made: Path) -> None:
    asked, said, site = [], [], made / "site"
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: said.append(str(error)))
    too_wide = []
    for path in sorted({*site.glob("[!4]*.html"), *site.glob("docs/*.html"), *site.glob("reference/*.html")}):
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            too_wide.append(path.name)
    assert (too_wide, said) == ([], [])
    assert asked and [url for url in asked if not url.startswith(site.as_uri())] == []


def test_a_setting_is_found_by_the_search_of_a_site_that_was_opened_as_a_file(page, made: Path) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto((made / "site" / "docs" / "data.html").as_uri())
    page.click(".md-search__input")
    page.keyboard.type("pl_weight")
    page.click(".md-search-result a[href$='#train.pl_weight']")
    assert "/reference/settings.html" in page.url and page.url.endswith("#train.pl_weight")


def test_reports_that_link_to_each_other_are_followed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[one](reports/one/report.md)")
    for name, other in (("one", "two"), ("two", "one")):
        report = tmp_path / "reports" / name / "report.html"
        report.parent.mkdir(parents=True)
        report.write_text(f'<a href="../{other}/report.html">x</a><a href="runs.csv">y</a>')
        report.with_name("runs.csv").touch()
    tree.write(tmp_path / "site", {})
    found = sorted(path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site/reports").rglob("*.*"))
    assert found == [f"reports/{name}/{file}" for name in ("one", "two") for file in ("report.html", "runs.csv")]
