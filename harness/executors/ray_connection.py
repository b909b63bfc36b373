"""The driver of a Ray cluster, which is a process of its own, and what it answers.

Ray ends a process that has a connection when the cluster is lost, takes its signals and prints into its output, so
the call that submits has none.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from typing import IO, Any

from harness.errors import HarnessError
from harness.text import one_line

CONNECT_S = 60.0
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
_NO_TOKEN = ("AuthenticationError", "InvalidAuthToken")
"""What Ray says without a token, and again and again with a wrong one."""
_LONGEST = 300


class Unreachable(HarnessError):
    """A cluster cannot be used; `fix` says what to do."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(f"{detail}; {fix}")
        self.detail, self.fix = detail, fix


def refuse_unreachable(address: str) -> None:
    """Raises Unreachable unless somebody listens at `address`: Ray itself would try a dead one for minutes."""
    if not address:
        raise Unreachable("no cluster is named", "set it, or RAY_ADDRESS, to HOST:PORT of the head node")
    matched = _ADDRESS.fullmatch(address)
    if not matched:
        raise Unreachable(f"{address!r} is no address", "write HOST:PORT of the head node, such as 10.0.0.1:6379")
    try:
        socket.create_connection((matched[1].strip("[]"), int(matched[2])), timeout=5).close()
    except (OSError, OverflowError) as error:
        fix = "start the cluster, with `ray start --head` on its head node, or write the address that it has"
        raise Unreachable(f"nobody listens at {address} ({error})", fix) from error


class Connection:
    """A driver that was started, in a session of its own: a Ctrl-C reaches it through its caller alone.

    It ends when its input is closed, so not later than its caller. `log` gets its answers and what Ray says.
    """

    def __init__(self, address: str, log: IO[str], *job: str) -> None:
        self.address, self._log = address, log
        self._answers = 0
        words = [sys.executable, "-P", "-m", "harness.executors.ray_driver", address, *job]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, start_new_session=True
        )

    def answer(self, limit_s: float = CONNECT_S) -> dict[str, Any]:
        """The driver's next answer, each a line of JSON. Raises Unreachable."""
        end = time.monotonic() + limit_s
        while True:
            has_ended = self.process.poll() is not None
            text = self._text()
            answers = [
                json.loads(line) for line in text.splitlines(keepends=True) if line[:1] == "{" and line[-1] == "\n"
            ]
            if len(answers) > self._answers:
                self._answers += 1
                answer: dict[str, Any] = answers[self._answers - 1]
                if "error" not in answer:
                    return answer
                self._refuse_token(answer["error"])
                why = one_line(answer["error"])[:_LONGEST]
                if self._answers > 1:  # it has told of its nodes, so it is not the connection
                    fix = "compare resources.ray with what `ray status` says of the nodes"
                    raise Unreachable(f"Ray at {self.address} starts no workers ({why})", fix)
                fix = "run this on a node of the cluster, with the versions of Ray and Python that it has"
                raise Unreachable(f"Ray refuses the connection to {self.address} ({why})", fix)
            self._refuse_token(text)
            if has_ended:
                raise RuntimeError(f"the driver of Ray ended without an answer:\n{text}")
            if time.monotonic() > end:
                fix = "check that it is the port of a Ray cluster's head, and see `ray status`"
                raise Unreachable(f"{self.address} does not answer as a Ray cluster", fix)
            time.sleep(0.05)

    def _refuse_token(self, error: str) -> None:
        if any(word in error for word in _NO_TOKEN):
            fix = "put the cluster's token into ~/.ray/auth_token or RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token"
            raise Unreachable(
                f"the cluster at {self.address} wants a token, and refuses the one it got or got none", fix
            )

    def _text(self) -> str:
        # The driver writes at the place where this file stands, which is one for both: it must not be moved.
        log = self._log.fileno()
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")

    def end(self) -> None:
        """At once: its workers die with it, after checkpoints."""
        self.process.kill()
        self.process.wait()
