"""The user's text in every output: it is shown, and it never acts."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from harness.report.caveats import with_names
from harness.report.data_files import csv_text
from harness.report.document.html import html
from harness.report.document.latex import all_tables, tabular, tex
from harness.report.document.markdown import code, markdown, md, table
from harness.report.document.model import (
    Cell,
    Column,
    Document,
    Link,
    Names,
    Paragraph,
    Row,
    Section,
    Strong,
    Table,
    plain,
)
from harness.report.write import write_report
from reported import material_of, records_of, study_of, unfinished
from synthetic import draw_samples

HOSTILE = [
    '=HYPERLINK("http://x.example","a")',
    "=cmd()",
    r"\input{/etc/passwd}",
    r"\write18{touch pwned} $\alpha$ #1 %z ^^41 ~",
    "![x](http://x.example/p.png) [y](javascript:alert(1))",
    "](javascript:alert(1))",
    "<script>alert(1)</script> & <img src=x onerror=alert(1)>",
    '"></section></style><script>alert(2)</script>',
    "{{ 7 * 7 }} {% raw %}",
    "a | b | c\n| d",
    "# heading\n- item\n1. one",
    "**bold** _em_ `code` ~~gone~~ \\ $x^2$",
    "+1 and @someone -2 -- '' ,, ?` !` << >>",
    "snake_case_name",
    "Größe œuvre 図 🙂 \u202egnp.exe\u2066 \x07\x1b[31m",
    "w" * 300,
]


def in_markdown(text: str) -> str:
    """The text that a reader sees. Fails on links, images and HTML."""
    seen = []
    for block in MarkdownIt("commonmark").enable("table").parse(text):
        assert block.type != "html_block"
        for token in block.children or ():
            assert token.type in ("text", "text_special", "code_inline"), token
            seen.append(token.content)
    return "".join(seen)


def shown(text: str) -> str:
    visible = str.maketrans(dict.fromkeys("\u202e\u2066\x07\x1b", "\ufffd"))
    return " ".join(text.split()).translate(visible)


class Page(HTMLParser):
    """Elements, attributes and text of a page; of drawings, whose shapes are as many as their text has, no shapes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("g", "defs", "path", "use", "clippath", "rect", "title") or tag == "title" not in self.tags:
            self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def small(text: str) -> Document:
    """The text in every place that a document has for it."""
    rows = (Row((Cell(text), Cell((text, " ", Link(text, "run-1"))), Cell("1", 1.0))),)
    columns = (Column(text, "text"), Column("b", "text"), Column("n"))
    found = Table(columns, rows, text, "small")
    return Document(text, (Paragraph((Strong(text), f" {text} ", text)),), (Section(text, (found,), "one"),))


class TestMarkdown:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_shows_it_and_nothing_acts(self, text):
        assert in_markdown(md(text)) == shown(text)
        assert in_markdown(f"before {md(text)} after") == f"before {shown(text)} after"
        one = Table((Column("cell", "text"), Column("n")), (Row((Cell(text), Cell("1"))),), "", "")
        assert in_markdown(table(one)) == f"celln{shown(text)}1"

    @pytest.mark.parametrize("text", HOSTILE)
    def test_wherever_a_document_has_text(self, text):
        found = MarkdownIt("commonmark").enable("table").parse(markdown(small(text)))
        kinds = {token.type for block in found for token in block.children or ()}
        assert kinds <= {"text", "text_special", "strong_open", "strong_close"}
        assert {block.type for block in found} <= {
            f"{kind}_{side}"
            for kind in ("heading", "paragraph", "table", "thead", "tbody", "tr", "th", "td")
            for side in ("open", "close")
        } | {"inline"}

    def test_names_stay_readable_in_the_file(self):
        assert md("paired_contrast") == "paired_contrast"
        assert md("https://example.org/a_b") == "https://example.org/a_b"

    @pytest.mark.parametrize("text", ["plain", "with `ticks`", "``two``"])
    def test_code_spans_hold_ticks(self, text):
        assert in_markdown(code(text)) == text


class TestHtml:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_makes_no_elements(self, text, tmp_path):
        plain, hostile = Page(html(small("x"), tmp_path)), Page(html(small(text), tmp_path))
        assert hostile.tags == plain.tags
        assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
        assert hostile.text.count(shown(text)) >= 7
        assert ("aria-label", shown(text)) in hostile.attributes

    def test_nothing_is_fetched_and_no_other_script_may_run(self, tmp_path):
        page = Page(html(small("x"), tmp_path))
        policy = next(value for name, value in page.attributes if value.startswith("default-src"))
        assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
        assert "unsafe" not in policy
        assert {value for name, value in page.attributes if name in ("src", "href")} == {
            "#answer",
            "#one",
            "#run-1",
            "data:,",
        }


class TestCsv:
    @pytest.mark.parametrize("text", ["=1+1", "+1+A1", "-1e", "@SUM(A1)", "\t=1", "\r=1"])
    def test_no_formula(self, text):
        head, row = csv.reader(io.StringIO(csv_text([text], [[text]])))
        assert head == row == ["'" + text.replace("\r", "\n")]

    def test_numbers_stay_numbers(self):
        rows = list(csv.reader(io.StringIO(csv_text(["a", "b", "c"], [[-1.5, None, 'x, "y"']]))))
        assert rows[1] == ["-1.5", "", 'x, "y"']


class TestLatex:
    def test_letters_that_mean_something_are_commands(self):
        assert tex(r"a_b \x {1} 5%") == r"a\_b \textbackslash{}x \{1\} 5\%"
        assert tex("−1.5 ± 0.2") == r"$-$1.5 $\pm$ 0.2"
        assert tex("é図") == r"é\texttt{U+56F3}"

    @pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
    def test_hostile_tables_compile_and_show_their_text(self, tmp_path):
        found = [replace(*_table(text), name=f"t{place}") for place, text in enumerate(HOSTILE)]
        (tmp_path / "tables").mkdir()
        for each in found:
            (tmp_path / "tables" / f"{each.name}.tex").write_text(tabular(each), encoding="utf-8")
        (tmp_path / "tables.tex").write_text(all_tables(found), encoding="utf-8")
        log = compiled(tmp_path)
        assert (tmp_path / "tables.pdf").stat().st_size > 10_000
        assert "passwd" not in log and not (tmp_path / "pwned").exists()
        if shutil.which("pdftotext"):
            text = subprocess.run(
                ["pdftotext", "-raw", "tables.pdf", "-"], cwd=tmp_path, capture_output=True, text=True, check=True
            ).stdout
            assert r"\input{/etc/passwd}" in text and "root:" not in text
            assert "=cmd()" in text and "{{ 7 * 7 }}" in text


def _table(text: str) -> tuple[Table]:
    section = small(text).sections[0].blocks[0]
    assert isinstance(section, Table)
    return (section,)


def compiled(folder: Path) -> str:
    """The log of pdfLaTeX; fails on any error."""
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "tables.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study whose toggles, captions and errors are hostile."""
    home = tmp_path_factory.mktemp("hostile")
    study = study_of(home, [HOSTILE[6], HOSTILE[2], HOSTILE[1]])
    records = records_of(study)
    samples = draw_samples(home / "run", HOSTILE[:10], seed=0)
    records[4] = unfinished(records[4], "failed", f"Traceback\nValueError: {HOSTILE[7]}")
    records = [replace(records[0], folder=samples), *records[1:]]
    return write_report(material_of(study, records), home / "report").parent


class TestWholeReport:
    def test_markdown(self, hostile):
        found = MarkdownIt("commonmark").enable("table").parse((hostile / "report.md").read_text())
        tokens = [token for block in found for token in block.children or ()]
        assert not [token for token in tokens if token.type in ("link_open", "html_inline")]
        assert all(str(t.attrs["src"]).startswith("figures/") for t in tokens if t.type == "image")
        folds = [block.content for block in found if block.type == "html_block"]
        assert all(text.startswith(("<details><summary>", "</details>")) and "<script" not in text for text in folds)

    def test_html(self, hostile):
        page = Page((hostile / "report.html").read_text())
        assert page.tags.count("script") == page.tags.count("style") == 1
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert {value.partition(":")[0] for name, value in page.attributes if name == "src"} == {"data"}
        assert HOSTILE[6] in page.text and HOSTILE[7] in page.text

    def test_csv(self, hostile):
        for name in ("runs", "cells", "effects", "interactions"):
            cells = [cell for row in csv.reader(io.StringIO((hostile / f"{name}.csv").read_text())) for cell in row]
            assert not [cell for cell in cells if cell[:1] in ("=", "@", "+")]

    def test_figures(self, hostile):
        for path in (hostile / "figures").glob("*.svg"):
            assert "<script" not in path.read_text()

    @pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
    def test_latex(self, hostile):
        assert "passwd" not in compiled(hostile)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a, b seed 1 and 3 more have it; c has not.", [("a, b seed 1 and 3 more", "a b"), ("c", "c")]),
        ("a+b seed 0 is told.", [("a+b seed 0", "a+b")]),
        ("tau=1.5 and tau=1: 2 x no line (tau=1; see log.txt)", [("tau=1", "tau=1"), ("tau=1", "tau=1")]),
        ("a-b, ab and xa name none, and neither do _a and a=2.", []),
        ("The last is c.", [("c", "c")]),
    ],
)
def test_lists_of_cells_are_found_in_a_sentence(text: str, found: list[tuple[str, str]]) -> None:
    spans = with_names(text, ["a", "b", "c", "a+b", "tau=1"])
    assert plain(spans) == text
    named = [span for span in spans if isinstance(span, Names)]
    assert [(one.text, " ".join(cell for _, cell in one.items)) for one in named] == found


def test_without_cells_a_sentence_stays_as_it_is() -> None:
    assert with_names("a has it", []) == "a has it"
