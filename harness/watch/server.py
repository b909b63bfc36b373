"""Serves the page of watched studies to this machine, for reading alone.

It listens on loopback. A request under another host name, such as that of a page elsewhere whose name was bound to
this machine (DNS rebinding), gets nothing. What is asked for is never part of a path: an address names a study by its
number, a run by its id and a file by one of a few names, and each is looked up among those that are known.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import shutil
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO

from harness.errors import HarnessError
from harness.watch.followed import REPORT_FILES, FollowedStudy
from harness.watch.page import render, static_files
from harness.watch.run_files import PNG, opened

LOOK_S = 1.0
"""Shortest time between two looks at the folders; without a reader there is none."""
SHARE = 0.05
"""Of the time that looks may take; at very many runs it is looked more rarely."""
IDLE_S = 60.0
"""After so long without a request a connection is closed."""
_log = logging.getLogger(__name__)
_HOSTS = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
"""Any port, so that tunnels work."""
_SAMPLES = re.compile(r"/(\d{1,4})/samples/([\w-]{1,64})/(real|\d{9})\.png", re.ASCII)
_REPORT = re.compile(r"/(\d{1,4})/report/([\w./]{1,40})", re.ASCII)
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_OF_PAGE = f"{_POLICY}; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'"
# The report is one file with a policy of its own, by hashes, and is shut off from this page.
_OF_REPORT = f"{_POLICY}; sandbox allow-scripts; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class WatchServer(ThreadingHTTPServer):
    """Answers with what the folders of these studies hold now."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, studies: Sequence[FollowedStudy], host: str, port: int) -> None:
        """`port`: 0 for one that is free. Raises HarnessError where the port is taken."""
        self.studies = studies
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._lock = threading.Lock()
        self._page, self._due = b"", 0.0
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            fix = "choose another --port, or leave it out for one that is free"
            raise HarnessError(f"--port {port}: cannot be used on {host} ({error.strerror}); {fix}") from error

    def server_bind(self) -> None:
        """Without the question for this machine's name, which may leave it."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    @property
    def url(self) -> str:
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away in the middle of an answer is no news, anything else is a fault of ours."""
        if not isinstance(error := sys.exception(), ConnectionError | TimeoutError):
            _log.warning("a request was not answered: %s: %s", type(error).__name__, error)
            _log.debug("the whole error", exc_info=True)

    def page(self) -> bytes:
        """As of now, or of a moment ago; one look serves all who ask at once."""
        with self._lock:
            if (began := time.monotonic()) >= self._due:
                for study in self.studies:
                    study.look()
                self._page = render(self.studies).encode()
                self._due = began + max(LOOK_S, (time.monotonic() - began) / SHARE)
            return self._page


class _Handler(BaseHTTPRequestHandler):
    server: WatchServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def version_string(self) -> str:
        return "harness"

    def log_message(self, *_: object) -> None:
        """Nothing: who looks is no news."""

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not _HOSTS.fullmatch(hosts[0].strip()):
            self.send_error(403, "this server answers under localhost, 127.0.0.1 and [::1] alone")
        elif self.path == "/":
            self._send_page()
        elif self.path in static_files():
            kind, content = static_files()[self.path]
            self._send(200, f"{kind}; charset=utf-8", content)
        elif match := _SAMPLES.fullmatch(self.path):
            self._send_samples(int(match[1]), match[2], match[3])
        elif match := _REPORT.fullmatch(self.path):
            self._send_report(int(match[1]), match[2])
        else:
            self.send_error(404, "there is nothing here")

    do_HEAD = do_GET

    def refuse(self) -> None:
        """Any other method: nothing can be changed here, and no body is read."""
        self.send_error(405, "this server is for reading")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = refuse

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """In plain words, without what was asked for."""
        self.close_connection = True
        more = {"Allow": "GET, HEAD"} if code == 405 else {}
        self._send(code, "text/plain; charset=utf-8", f"{message or 'not understood'}\n".encode(), more)

    def _send_page(self) -> None:
        page = self.server.page()
        tag = f'"{hashlib.sha256(page).hexdigest()[:32]}"'
        if self.headers.get("If-None-Match") == tag:
            self._begin(304, {"ETag": tag})
        else:
            self._send(200, "text/html; charset=utf-8", page, {"ETag": tag})

    def _send_samples(self, number: int, run: str, name: str) -> None:
        folder = self.server.studies[number].folder(run) if number < len(self.server.studies) else None
        try:
            file = opened(folder, "samples", f"{name}.png") if folder else None
        except OSError:
            file = None
        if file is None:
            self.send_error(404, "there is no such picture")
            return
        with file:
            if file.read(len(PNG)) == PNG:
                self._send_file(file, "image/png", _OF_PAGE)
            else:
                self.send_error(404, "there is no such picture")

    def _send_report(self, number: int, name: str) -> None:
        try:
            if number >= len(self.server.studies) or name not in REPORT_FILES:
                raise FileNotFoundError
            file = opened(self.server.studies[number].study.reports, *name.split("/"))
        except OSError:
            self.send_error(404, "there is no such report")
            return
        with file:
            is_page = name.endswith(".html")
            self._send_file(file, f"text/{'html' if is_page else 'plain'}; charset=utf-8", _OF_REPORT)

    def _send_file(self, file: BinaryIO, kind: str, policy: str) -> None:
        size = file.seek(0, 2)
        file.seek(0)
        more = {"Content-Type": kind, "Content-Length": str(size), "Content-Security-Policy": policy}
        self._begin(200, more)
        if self.command != "HEAD":
            shutil.copyfileobj(file, self.wfile)

    def _send(self, code: int, kind: str, content: bytes, more: Mapping[str, str] | None = None) -> None:
        self._begin(code, {"Content-Type": kind, "Content-Length": str(len(content)), **(more or {})})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _begin(self, code: int, headers: Mapping[str, str]) -> None:
        self.send_response(code)
        for name, value in {**_ALWAYS, "Content-Security-Policy": _OF_PAGE, **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        with contextlib.suppress(ConnectionError):
            self.end_headers()
