"""Text for readers: control characters, times and counts."""

from __future__ import annotations

import pytest

from harness.text import duration, escaped, one_line, quantity


@pytest.mark.parametrize(
    ("text", "visible", "line"),
    [
        ("plain é 日 🙂", "plain é 日 🙂", "plain é 日 🙂"),
        ("red \x1b[31m\x07", r"red \x1b[31m\x07", "red �[31m�"),
        ("two\nlines\tand\r\nmore", r"two\nlines\tand\r\nmore", "two lines and more"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066", "�gnp.exe�"),
        ("\udcff", r"\udcff", "�"),
        ("a\u2028b\x85c", r"a\u2028b\x85c", "a b c"),
        ("👩\u200d🚀 \u200eright", "👩\u200d🚀 \u200eright", "👩\u200d🚀 \u200eright"),
    ],
)
def test_what_a_terminal_would_obey_is_made_visible(text: str, visible: str, line: str) -> None:
    assert (escaped(text), one_line(text)) == (visible, line)


def test_times_and_counts_in_words() -> None:
    times = {4: "4 s", 4.27: "4.3 s", 45: "45 s", 63: "63 s", 700: "12 min", 720: "12 min", 7200: "2 h"}
    times |= {
        18_720: "5.2 h",
        108_000: "30 h",
        216_000: "2.5 days",
        270_000: "3.1 days",
        5e7: "579 days",
        1e8: "3.2 years",
        1e11: "3,169 years",
    }
    assert [duration(seconds) for seconds in times] == [*times.values()]
    assert [quantity(count, "run") for count in (0, 1, 2, 1000)] == ["0 runs", "1 run", "2 runs", "1,000 runs"]
