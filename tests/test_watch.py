"""`harness watch` answers this machine alone, shows what folders hold whatever they hold, and reads what changed."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.report.paper import NAME
from harness.report.write import FILES, PICTURE, TRENDS
from harness.runs.folders import RunFolder
from harness.runs.record import Point
from harness.watch import run_files
from harness.watch.followed import REPORT_FILES, FollowedStudy
from harness.watch.page import render
from harness.watch.run_files import RunFiles
from harness.watch.server import WatchServer
from watched import SCRIPT, draw, planned


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchServer]:
    """Of a study with one run that has begun, and files beside it that are nobody's business."""
    home = tmp_path_factory.mktemp("watched")
    made = planned(home)
    begin(made.study.root / made.runs[0].id, made.runs[0])
    (home / "secret.png").write_bytes((made.study.root / made.runs[0].id / "samples" / "real.png").read_bytes())
    with WatchServer([FollowedStudy(made.study)], "127.0.0.1", 0) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()


def begin(path: Path, run) -> RunFolder:
    folder = RunFolder(path)
    folder.create(run)
    draw(path, "real", "white")
    draw(path, "000000005", "red")
    (path / "log.txt").write_text("one\n")
    folder.update(state="running", attempt=1, step=5, total_steps=10)
    return folder


def ask(server: WatchServer, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    """The answer, its body read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def samples_of(server: WatchServer) -> str:
    return f"/0/samples/{server.studies[0].runs[0].id}"


def test_the_page_its_parts_and_pictures_are_there(server: WatchServer) -> None:
    page = ask(server, "/")
    assert page.status == 200 and b"transform_w" in page.body
    again = ask(server, "/", If_None_Match=str(page.getheader("ETag")))
    assert again.status in (200, 304) and (again.status == 200 or again.body == b"")
    for path in ("/theme.css", "/watch.css", "/watch.js", f"{samples_of(server)}/000000005.png"):
        found = ask(server, path)
        assert found.status == 200 and len(found.body) == int(found.getheader("Content-Length") or 0) > 0
        head = ask(server, path, "HEAD")
        assert head.status == 200 and head.body == b"" and head.getheader("Content-Length") == str(len(found.body))
    assert ask(server, f"{samples_of(server)}/real.png").getheader("Content-Type") == "image/png"


PATHS = """
    /../../../etc/passwd //etc/passwd /%2e%2e/secret.png /watch.css/../../secret.png /index.html /0 * http://localhost/
    {0}/..%2f..%2f..%2f..%2fsecret.png {0}/../../../../secret.png {0}/../samples/real.png {0}/log.txt {0}/captions.json
    {0}/000000006.png {0}/5.png {0}/real.png?x /1/samples/x/real.png /0/samples/../real.png /0/samples/./real.png
    /00000/samples/x/real.png /0/samples/aaaaaaaaaaaa/real.png /0/report/report.html /0/report/report.md /0/report/..
    /0/report/tables /0/report/figures/../study.json
    /0/report/../../watched.yaml /9999/report/report.html
"""


def test_no_other_path_leads_anywhere(server: WatchServer) -> None:
    for path in PATHS.format(samples_of(server)).split():
        answer = ask(server, path, Host="localhost")
        assert (answer.status, answer.getheader("Content-Type")) == (404, "text/plain; charset=utf-8"), path
        assert len(answer.body) < 60


def test_other_names_of_this_machine_and_other_methods_are_refused(server: WatchServer) -> None:
    for host in ("localhost", "LocalHost:1", "127.0.0.1:8080", "[::1]:9"):
        assert ask(server, "/watch.css", Host=host).status == 200, f"{host}: through a tunnel"
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost:80@evil.example",
        "10.0.0.7",
        "",
        "localhost:x",
        "0",
    ):
        for path in ("/", "/watch.js", f"{samples_of(server)}/real.png", "/nothing"):
            answer = ask(server, path, Host=host)
            assert answer.status == 403 and b"transform_w" not in answer.body, host
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        answer = ask(server, "/", method)
        assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD"), method
    with socket.create_connection(("127.0.0.1", server.server_port), 20) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 403")
    with socket.create_connection(("127.0.0.1", server.server_port), 20) as raw:
        raw.sendall(b"\x16\x03\x01 <script>\r\n\r\n")
        assert b"<script>" not in raw.recv(1000)


def test_every_answer_says_what_a_browser_may_do_with_it(server: WatchServer) -> None:
    asked = [("/", "GET", {}), ("/x", "GET", {}), ("/", "POST", {}), ("/", "GET", {"Host": "evil.example"})]
    for path, method, headers in [*asked, (f"{samples_of(server)}/real.png", "GET", {})]:
        answer = ask(server, path, method, **headers)
        policy = answer.getheader("Content-Security-Policy") or ""
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.getheader("Cache-Control") == "no-store" and answer.getheader("Server") == "harness"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"


def test_the_report_is_shut_off_from_the_page(server: WatchServer) -> None:
    place = server.studies[0].study.reports
    place.mkdir(parents=True)
    (place / "report.html").write_text("<p>the answer")
    (place / "runs.csv").symlink_to(place.parent.parent / "watched.yaml")
    answer = ask(server, "/0/report/report.html")
    policy = answer.getheader("Content-Security-Policy") or ""
    (place / "tables").mkdir()
    (place / "tables" / "paper.tex").write_text("a & b")
    assert ask(server, "/0/report/tables/paper.tex").body == b"a & b"
    assert {"report.html", *FILES, TRENDS, f"tables/{NAME}", f"figures/{PICTURE}.svg"} == REPORT_FILES, "as it links to"
    assert answer.body == b"<p>the answer" and "sandbox allow-scripts;" in policy and "connect-src" not in policy
    assert ask(server, "/0/report/runs.csv").status == 404, "a link that leads elsewhere"
    assert b"/0/report/report.html" in render(server.studies).encode()
    (place / "report.html").unlink()


def test_a_port_that_is_taken_is_named(server: WatchServer) -> None:
    with pytest.raises(
        HarnessError, match=rf"--port {server.server_port}: cannot be used on 127.0.0.1 .*in use.*leave it"
    ):
        WatchServer([], "127.0.0.1", server.server_port)


def test_links_pipes_and_what_is_no_picture_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "run"
    (path / "samples").mkdir(parents=True)
    draw(tmp_path, "000000009", "blue")
    (path / "samples" / "000000009.png").symlink_to(tmp_path / "samples" / "000000009.png")
    (path / "samples" / "000000008.png").write_text("<svg onload=alert(1)>" * 9)
    draw(path, "000000007", "red")
    os.mkfifo(path / "log.txt")
    (path / "metrics.jsonl").symlink_to("/etc/passwd")
    files = RunFiles(path)
    files.look()
    assert files.samples and files.samples.step == 7 and (files.samples.width, files.samples.height) == (128, 8)
    assert (files.log, files.points, files.unread, files.captions) == ("", {}, 0, ())
    (path / "samples").rename(tmp_path / "elsewhere")
    (path / "samples").symlink_to(tmp_path / "elsewhere")
    files.look()
    assert files.samples is None


def test_only_what_changed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = RunFolder(tmp_path), list[str]()
    really = run_files.opened
    monkeypatch.setattr(run_files, "opened", lambda path, *names: (read.append(names[-1]), really(path, *names))[1])
    taken = []
    take = run_files.parse_point
    monkeypatch.setattr(run_files, "parse_point", lambda line, where: (taken.append(line), take(line, where))[1])
    files = RunFiles(tmp_path)
    for step in (1, 2, 3):
        folder.append(Point(step, 0.1, 1.0, {"generator/total": float(step)}))
    files.look()
    files.look()
    assert read == ["metrics.jsonl"] and len(taken) == 3
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('nonsense\n{"step": 4, "kimg"')
    files.look()
    assert files.unread == 1 and len(taken) == 4, "the line that is not whole yet waits"
    assert list(files.points["generator/total"]) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    (tmp_path / "metrics.jsonl").write_text("")
    folder.append(Point(1, 0.1, 1.0, {"generator/total": 7.0}))
    folder.rewind(1)
    files.look()
    assert list(files.points["generator/total"]) == [(1, 7.0)], "a run that goes on from a checkpoint"
    (tmp_path / "metrics.jsonl").unlink()
    files.look()
    assert files.points == {}


def test_whatever_names_and_logs_hold_is_text(tmp_path: Path) -> None:
    made = planned(tmp_path)
    begin(made.study.root / made.runs[0].id, made.runs[0]).update(
        state="failed", error=f"x\nE: {SCRIPT}", last={SCRIPT: 1.0, "G": 2.0}, scores={SCRIPT: 3.0}
    )
    log = made.study.root / made.runs[0].id / "log.txt"
    log.write_bytes(b"\x1b[2J\xff" + SCRIPT.encode() + b"\nMLFLOW_TRACKING_TOKEN=abcdefghijkl\n")
    followed = FollowedStudy(made.study)
    hostile = replace(made.runs[0], cell=SCRIPT)
    followed.plan = replace(followed.plan, runs=(hostile, *made.runs[1:]))
    followed.look()
    page = render([followed])
    assert "<script>alert" not in page and "<img src=x" not in page and "&lt;script&gt;alert" in page
    assert "\x1b" not in page and "abcdefghijkl" not in page
    (log.parent / "status.json").write_text("{broken")
    followed.look()
    assert "cannot be used" in render([followed]) and followed.statuses[hostile.id].state == "failed"


def test_a_run_that_nobody_has_is_interrupted(tmp_path: Path) -> None:
    made = planned(tmp_path)
    begin(made.study.root / made.runs[0].id, made.runs[0])
    followed = FollowedStudy(made.study)
    followed.look()
    assert followed.counts == "1 interrupted, 3 pending", "its scheduler is not there"
    assert followed.left is None and "0 of 4 runs ended" in followed.sentence
