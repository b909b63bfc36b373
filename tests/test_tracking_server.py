"""MLflow's real server, on loopback, that is there, away and back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import point
from harness.errors import HarnessError
from harness.study.definition import Study, Tracking
from harness.tracking import mirror as tracking
from harness.tracking.mirror import Mirror, sync
from mirrored import artefacts, children, empty_store, expected, history, make_folder, make_study, wait_for

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "POLL_S", 0.05)
    return make_study(tmp_path)


class Server:
    """An MLflow server on loopback that can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("mlflow_server.py")), str(self.port), str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, 60)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    shutil.copy(empty_store(), tmp_path / "server.db")
    made = Server(tmp_path)
    yield made
    made.stop()


def test_a_server_that_comes_and_goes(study: Study, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    study = replace(study, tracking=Tracking(uri=server.uri))
    run, folder = make_folder(study, steps=3)
    (folder.path / "log.txt").write_text("hello")
    with Mirror(study, study.root, [run]):
        wait_for(lambda: "sends what is missing" in caplog.text)
        assert len(caplog.records) == 1
        server.start()
        wait_for(lambda: "is back" in caplog.text)
        assert history(study, "origin/seed0") == expected(3)
        server.stop()
        folder.append(point(4))
        wait_for(lambda: caplog.text.count("sends what is missing") == 2)
    folder.update(state="done")
    with pytest.raises(HarnessError, match=rf"MLflow at {server.uri}: cannot be reached \(Connection refused\)"):
        sync(study, study.root, [run])
    server.start()
    assert sync(study, study.root, [run]) == {"points": 2, "files": 1}
    assert history(study, "origin/seed0") == expected(4)
    assert children(study)["origin/seed0"].info.status == "FINISHED"
    assert "log.txt" in artefacts(study, children(study)["origin/seed0"].info.run_id)
