"""Answers and messages reach whoever asks, whatever the stream: any encoding, any width, closed, full or left alone."""

from __future__ import annotations

import errno
import functools
import io
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from forked import run_forked
from harness import errors
from harness.cli import presets
from harness.files import write_text
from harness.scheduler.live import LiveView
from harness.scheduler.slots import Slot
from harness.storage.unpack import unpack
from harness.terminal import console, streams

ROOT = Path(__file__).parent.parent
RESULTS = "a,b,seed,fid\n0,0,0,30.1\n1,0,0,28.1\n0,1,0,29.2\n0,0,1,31.1\n1,0,1,28.5\n0,1,1,30.4\n"
STUDY = "study: tiny\ntoggles: [mix_logits]\ndesign: {seeds: 1}\ndata: {source: twemoji}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(RESULTS)
    (tmp_path / "ablations.yaml").write_text(STUDY)
    return tmp_path


def harness(words: str, redirect: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`harness ...` in a shell, as a user types it."""
    path = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    line = f"{sys.executable} -m harness {words} {redirect}"
    return subprocess.run(["bash", "-c", line], capture_output=True, env=path, check=False)


def forked(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same without a shell and without a start, where neither matters."""
    return run_forked(shlex.split(words), environment={**os.environ, **environment})


def small(told: bytes, encoding: str) -> str:
    return re.sub(r"\s+", " ", told.decode(encoding))


@pytest.mark.parametrize(
    ("encoding", "change", "spread"),
    [
        ("utf-8", "−7.5 %", "30.6 ± 0.7"),
        ("latin-1", "-7.5 %", "30.6 ± 0.7"),
        ("cp1252", "-7.5 %", "30.6 ± 0.7"),
        ("ascii:strict", "-7.5 %", "30.6 +- 0.7"),
        ("utf-16", "−7.5 %", "30.6 ± 0.7"),
    ],
)
def test_an_answer_is_whole_in_any_encoding(encoding: str, change: str, spread: str) -> None:
    done = harness("analyze t.csv", PYTHONIOENCODING=encoding)
    said = small(done.stdout, encoding.partition(":")[0])
    assert (done.returncode, done.stderr.count(b"Traceback")) == (0, 0)
    assert change in said and spread in said and "inconclusive" in said


def test_a_locale_of_nothing_but_ascii_is_enough() -> None:
    done = harness("terms --cell mix_logits", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0 and done.stdout.isascii() and b"itd" in done.stdout


def test_signs_of_ours_have_other_letters_and_those_of_users_their_escapes() -> None:
    stream = streams.SafeStream(raw := io.BytesIO(), "ascii", False, "a test")
    stream.write("−1 ± 2 × 3 → ≥ … 日 é \udcff")
    stream.flush()
    assert raw.getvalue() == rb"-1 +- 2 x 3 -> >= ... \u65e5 \xe9 \xff"


@functools.cache
def in_40_columns(words: str) -> subprocess.CompletedProcess[str]:
    return forked(words, COLUMNS="40", LINES="20")


@pytest.mark.parametrize("columns", ["0", "1", "5", "abc", "²", "-3", "99999999", ""])
@pytest.mark.parametrize("words", ["analyze t.csv", "analyze none.csv"])
def test_no_width_of_a_terminal_cuts_or_silences(columns: str, words: str) -> None:
    narrow, plain = forked(words, COLUMNS=columns, LINES=columns), in_40_columns(words)
    assert (narrow.returncode, narrow.stderr.split()) == (plain.returncode, plain.stderr.split())
    wanted = {word for word in plain.stdout.split() if "─" not in word}
    assert wanted <= set(narrow.stdout.split())
    assert "none.csv" in narrow.stderr or "better" in narrow.stdout


def test_a_terminal_of_few_columns_is_laid_out_wider_but_drawn_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "5")
    assert console.terminal().width == console.NARROWEST == 40
    assert console.terminal(live=True).width == 5
    monkeypatch.setenv("COLUMNS", "200")
    assert console.terminal().width == 200


def test_a_closed_standard_output_is_told_before_anything_runs() -> None:
    done = harness("analyze t.csv", ">&-")
    assert done.returncode == 2 and done.stderr.startswith(b"error: standard output is closed; give it a place")
    assert harness("analyze t.csv", "2>&-").returncode == 0
    assert harness("analyze t.csv", "<&-").returncode == 0


@pytest.mark.parametrize("words", ["analyze t.csv", "analyze t.csv --json", "terms", "--help"])
def test_a_full_standard_output_is_an_error(words: str) -> None:
    done = harness(words, "> /dev/full")
    assert done.returncode == 2 and b"error: standard output: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_a_reader_that_has_enough_ends_us_quietly() -> None:
    done = harness("analyze t.csv --json", "| true; echo ${PIPESTATUS[0]}")
    assert done.stdout == b"141\n" and b"Traceback" not in done.stderr and b"BrokenPipe" not in done.stderr


def test_a_name_that_is_no_text_is_shown() -> None:
    words = [sys.executable, "-m", "harness", "analyze", b"\xff\xe9.csv"]
    done = subprocess.run(words, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and rb"\udcff\udce9.csv" in done.stderr


class _Gone(io.StringIO):
    """A terminal that was closed, of which a write says so."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.writes = number, 0

    def write(self, text: str) -> int:
        self.writes += 1
        raise OSError(self.number, os.strerror(self.number))

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC])
@pytest.mark.parametrize("live", [True, False])
def test_a_grid_goes_on_when_its_terminal_is_gone(number: int, live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _Gone(number)
    shown = console.terminal(live=True)
    monkeypatch.setattr(shown, "_file", file)
    shown._force_terminal = live
    from fakes import make_run
    from harness.runs.record import Status

    run = make_run("origin", 0)
    with LiveView([run], Path("runs"), (Slot(0, "cpu", 1),), shown) as view:
        view.tick({run.id: Status("running", 1, 2, attempt=1)})
        before = file.writes
        view.tick({run.id: Status("done", 2, 2, attempt=1)})
    assert before and file.writes == before


@pytest.mark.parametrize("width", [1, 3, 10])
def test_the_live_view_takes_any_width(width: int) -> None:
    from fakes import make_run
    from harness.runs.record import Status

    shown = Console(file=io.StringIO(), width=width, height=4, force_terminal=True, _environ={"TERM": "xterm"})
    run = make_run("origin", 0)
    with LiveView([run], Path("runs"), (Slot(0, "cpu", 1),), shown) as view:
        view.tick({run.id: Status("running", 1, 2, attempt=1)})


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EFBIG, "use another place, or allow larger files: ulimit -f unlimited"),
        (errno.EROFS, "use a place that can be written"),
        (errno.EACCES, "make it readable and writable"),
        (errno.ENOTDIR, "there is a file where a folder is needed"),
        (errno.EEXIST, "move away what is there"),
        (errno.ESTALE, "check that the disk is there"),
        (errno.ENOTCONN, "check that the disk is there"),
        (errno.ENODEV, "check that the disk is there"),
    ],
)
def test_what_is_wrong_with_a_place_has_its_own_remedy(number: int, fix: str) -> None:
    told = errors.describe_os_error(OSError(number, "x", "/no/such/place"))
    assert told.startswith(f"/no/such/place: {os.strerror(number)}; {fix}")


def test_an_error_that_is_about_no_place_is_a_fault_of_ours() -> None:
    assert errors.describe_os_error(ConnectionResetError(errno.ECONNRESET, "reset")) == ""
    assert errors.describe_os_error(OSError("no number")) == ""


def test_what_is_too_large_for_a_limit_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """As on a full disk, where the system names no file either."""
    from harness.report.document.model import Figure
    from harness.report.figures.style import drawing
    from harness.report.write import draw

    def drawn(stem: Path) -> bool:
        with drawing(stem, 1.0, "words " * 100):
            return True

    with zipfile.ZipFile(zipped := tmp_path / "mine.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s.yaml", "x" * 9000)
        archive.writestr("runs/tiny/pack.json", '{"study": "s.yaml"}')
    before, (soft, hard) = sorted(tmp_path.iterdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    asked: dict[Path, Callable[[Path], object]] = {
        tmp_path / "text": lambda path: write_text(path, "x" * 9000),
        tmp_path / "figures": lambda path: draw([("kind", Figure("one", "one", "one"), drawn)], path),
        tmp_path / "unpacked": lambda path: unpack(zipped, path),
        tmp_path / "new.yaml": lambda path: presets.write("quick", path),
    }
    for path, write in asked.items():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
        try:
            with pytest.raises((OSError, errors.SpecError)) as caught:
                write(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        said = errors.describe_os_error(caught.value) if isinstance(caught.value, OSError) else str(caught.value)
        assert said.startswith(f"{path}: ") and "File too large" in said
    shutil.rmtree(tmp_path / "figures")
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(errors.SpecError, match=r"t\.csv: there is a file where a folder is needed"):
        presets.write("quick", tmp_path / "t.csv" / "new.yaml")


def test_a_folder_that_was_deleted_under_us_is_named(folder: Path) -> None:
    (folder / "gone").mkdir()
    line = f"cd gone; rmdir ../gone; {sys.executable} -m harness status"
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=path, check=False)
    assert done.returncode == 2 and b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["status", "plan", "report", "ls", "run-grid", "sync"])
def test_runs_on_a_disk_that_is_not_there_are_not_taken_for_none(folder: Path, words: str) -> None:
    (folder / "runs").symlink_to("/nowhere/runs")
    done = forked(words)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{folder}/runs: is a link to /nowhere/runs, which is not there; mount that disk" in done.stderr


@pytest.mark.parametrize("broken", [False, True])
def test_a_grid_is_refused_at_once_where_its_report_could_not_be_written(folder: Path, broken: bool) -> None:
    (folder / "reports").symlink_to("/nowhere/reports") if broken else (folder / "reports").write_text("")
    done = forked("run-grid")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "stands where the folder of the reports belongs; move it away" in done.stderr
    assert not (folder / "runs").exists()


def test_a_file_where_the_runs_belong_is_refused(folder: Path) -> None:
    (folder / "runs").write_text("")
    done = forked("status")
    assert done.returncode == 2 and "runs: a file stands where the folder of the runs belongs" in done.stderr
