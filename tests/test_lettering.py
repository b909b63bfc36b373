"""Captions in any script are drawn with letters or words, never as boxes and never with a warning."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import fonts
from harness.data.contact_sheet import contact_sheet
from harness.data.dataset import load
from harness.report.figures import style
from harness.settings import DataConfig

HAN, DODO = "一只坐", "\U0001f9a4"


@pytest.fixture
def only_the_own_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_others", lambda: ())


@pytest.fixture
def a_font_with_han(monkeypatch: pytest.MonkeyPatch) -> None:
    has = fonts._code_points
    monkeypatch.setattr(fonts, "_others", lambda: ("Roman", "Han Sans"))
    own = {"Roman": frozenset(map(ord, "abc")), "Han Sans": frozenset(map(ord, HAN))}
    monkeypatch.setattr(fonts, "_code_points", lambda font: own.get(font) or has(font))


@pytest.mark.usefixtures("only_the_own_font")
@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("plain, é and Ω", "plain, é and Ω"),
        (f"{HAN} on a {HAN[0]}", "[3 CJK letters] on a [1 CJK letter]"),
        (f"a bird {DODO}{DODO}", "a bird [2 x dodo]"),
        (f"a bird {DODO}\ufe0f", "a bird [dodo]\ufe0f"),
        ("हिन्दी", "[6 Devanagari letters]"),
        ("\U0010fffd", "[u+10fffd]"),
        ("مرحبا", "مرحبا"),
    ],
)
def test_letters_without_a_font_are_said_in_words(text: str, drawn: str) -> None:
    assert fonts.drawable(text) == drawn
    assert not fonts.missing(drawn)


@pytest.mark.usefixtures("a_font_with_han")
def test_a_font_that_has_the_letters_is_used_and_no_other() -> None:
    assert fonts.families(f"ab {HAN}") == (fonts.FONT, "Han Sans")
    assert fonts.families("ab") == (fonts.FONT,)
    assert fonts.drawable(f"ab {HAN} {DODO}") == f"ab {HAN} [dodo]"


def test_fonts_that_are_installed_are_looked_into() -> None:
    assert fonts._code_points(fonts.FONT) >= set(map(ord, "azéΩ")) and ord(HAN[0]) not in fonts._code_points(fonts.FONT)
    assert fonts._code_points("no such font") == frozenset()


@pytest.mark.usefixtures("only_the_own_font")
def test_a_sheet_counts_the_captions_it_cannot_draw(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").mkdir()
    for number in range(8):
        Image.new("RGB", (8, 8), (30 * number, 0, 9)).save(tmp_path / "data" / f"{number}.png")
        (tmp_path / "data" / f"{number}.txt").write_text(f"{HAN} {number}" if number % 2 else f"plain {number}")
    data = load(replace(DataConfig(), source="folder", path=str(tmp_path / "data"), resolution=8), tmp_path / "cache")
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "harness"):
        warnings.simplefilter("error")
        contact_sheet(data, tmp_path / "sheet.png", 8, 0)
    assert "4 of 8 captions have letters that no font here has" in caplog.text and "[3 CJK letters]" in caplog.text
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.asarray(sheet).std() > 1


@pytest.mark.usefixtures("only_the_own_font")
def test_figures_give_them_in_words_and_measure_the_words() -> None:
    assert style.plain(f"{HAN}\tx") == "[3 CJK letters] x"
    assert style.fitted(HAN, 2.0) == "[3 CJK letters]"
    assert style.width_of(style.plain(HAN)) > 3 * style.width_of("a")


@pytest.mark.usefixtures("a_font_with_han")
def test_a_figure_asks_for_the_font_that_has_the_letters(tmp_path: Path) -> None:
    with style.drawing(tmp_path / "figure", 1) as figure:
        text = style.written(figure, 0.1, 0.1, style.plain(HAN))
    assert text.get_fontfamily() == [fonts.FONT, "Han Sans"]


@pytest.mark.usefixtures("only_the_own_font")
def test_text_that_was_not_prepared_is_drawn_in_words_too(tmp_path: Path) -> None:
    with style.drawing(tmp_path / "figure", 1) as figure:
        text = figure.text(0.1, 0.1, f"a {HAN}")
    assert text.get_text() == "a [3 CJK letters]"
