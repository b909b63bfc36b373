"""What tests of several files share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from matplotlib.figure import Figure

from engines import CLUSTERS, left_out, reason_to_skip
from forked import OWNER, SOCKETS
from harness.cli import presets
from harness.report.figures.marks import MarkedFigure
from harness.study.load import load_study
from harness.study.schema import Study
from harness.study.site import VARIABLE
from ray_cluster import RayCluster, ray_cluster
from slurm_cluster import SlurmCluster, slurm_cluster

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8ffff3f0005fe02fea735"
    "81840000000049454e44ae426082"
)
"""The smallest PNG."""

EMOJI_CACHE = "TESTS_EMOJI_CACHE"
"""Environment variable: the cache that all test processes share, so that the embedded data are encoded once."""

TRAINED = "TESTS_TRAINED"
"""Environment variable: the folder of what `trained_once` has made, for all test processes."""
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the processor to other tests
FIRST = ("test_grid.py", "test_warm_start.py", "test_tune.py", "test_language_free.py", "test_docs.py")
"""Files that train: what takes longest begins first, so that no process is left alone with it at the end."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Those that runs, grids and workers hear."""


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what runs in its background with Ctrl-C ignored, and so would be all that the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        os.environ[EMOJI_CACHE] = tempfile.mkdtemp(prefix="emoji-cache-")
        os.environ[TRAINED] = tempfile.mkdtemp(prefix="trained-")
        os.environ |= {SOCKETS: tempfile.mkdtemp(prefix="forked-"), OWNER: str(os.getpid())}
        os.environ[VARIABLE] = ""  # the site file of whoever runs the tests
        os.environ["HARNESS_TIMING"] = "0"  # plans of many tests would take steps on trial


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        for name in (EMOJI_CACHE, TRAINED, SOCKETS):
            shutil.rmtree(os.environ.pop(name), ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """What a test runs in this process may set torch's threads, and how signals are heard, as a run does: the next test
    gets both as this one got them."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    heard = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return (yield)
    finally:
        if torch and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        for number, handler in heard.items():
            signal.signal(number, handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if why := reason_to_skip(mark.name for mark in item.iter_markers()):
        pytest.skip(why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in left_out(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line, red=True, bold=True)


def trained_once(name: str, train: Callable[[Path], None], folder: Path) -> Path:
    """The empty `folder` with what `train` writes into it: copied, where another test process has had it trained."""
    shared = Path(os.environ[TRAINED], name)
    with FileLock(f"{shared}.lock"):
        if shared.exists():
            shutil.copytree(shared, folder, symlinks=True, dirs_exist_ok=True)
        else:
            train(folder)
            shutil.copytree(folder, f"{shared}.part", symlinks=True)
            Path(f"{shared}.part").rename(shared)
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: some tests wait for processes and clocks, and leave theirs to others."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture
def slurm_of_all(tmp_path_factory: pytest.TempPathFactory) -> SlurmCluster:
    """A Slurm for all tests in a row that need one. They leave it as they found it: both nodes up, and no job."""
    return CLUSTERS.get("slurm", lambda: slurm_cluster(tmp_path_factory.mktemp("slurm") / "cluster", requeue_s=5))


@pytest.fixture
def ray_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A Ray for all tests in a row that need one, in whose network the test is. Each finds both nodes up."""
    cluster: RayCluster = CLUSTERS.get("ray", lambda: ray_cluster(tmp_path_factory.mktemp("ray")))
    with cluster.entered():
        cluster.until_whole()
        yield cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """A cluster takes processor time also when it has nothing to do: it ends before the first test without it."""
    try:
        return (yield)
    finally:
        CLUSTERS.end_all_but({mark.name for mark in nextitem.iter_markers()} if nextitem else set())


@pytest.fixture(scope="session", autouse=True)
def quick_and_patient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        draw_svg_alone(patch)
        await_tracking(patch)
        yield


@pytest.fixture
def every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn as users get them."""
    monkeypatch.setattr(MarkedFigure, "savefig", Figure.savefig)


def await_tracking(patch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, all that a grid has to send is sent at its end."""
    patch.setattr("harness.tracking.mirror.END_S", 300.0)


def draw_svg_alone(patch: pytest.MonkeyPatch) -> None:
    """Figures of reports as SVG alone: PDF and PNG take three quarters of the time."""

    def savefig(self: Figure, path: Path, **options: Any) -> None:
        if path.suffix == ".svg":
            Figure.savefig(self, path, **options)
        else:
            path.write_bytes(PIXEL)

    patch.setattr(MarkedFigure, "savefig", savefig)


@pytest.fixture
def without_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which data and encoders have their names for content, so that neither need be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_PROFILE", raising=False)
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda source, resolution: "data")
    monkeypatch.setattr("harness.models.encoders.fingerprint", lambda name: name)
    return tmp_path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study of the preset `lafite`, whose data set is a few empty files."""
    folder = tmp_path_factory.mktemp("preset")
    presets.write("lafite", folder / "lafite.yaml")
    for side in ("train2014", "val2014"):
        (folder / "coco" / side).mkdir(parents=True)
        (folder / "coco" / "annotations").mkdir(exist_ok=True)
        (folder / "coco" / "annotations" / f"captions_{side}.json").touch()
    return load_study(folder / "lafite.yaml", "published")
