"""`harness watch`: a page that shows studies while they train, for this machine alone."""

from __future__ import annotations

import signal
import sys
import webbrowser
from typing import Annotated, NoReturn

import typer

from harness.cli.options import RequestOfSeveral, standard_options

IPV4, IPV6 = "127.0.0.1", "::1"


@standard_options
def watch(
    request: RequestOfSeveral,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: one that is free.")] = 0,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="Listen on [::1] instead of 127.0.0.1.")] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser too.")] = False,
) -> None:
    """Show studies live in a browser. States, losses, newest samples, time left; nothing is changed.

    \b
    harness watch ablations.yaml
    harness watch ablations.yaml other.yaml --port 8001 --open
    """
    from harness.terminal import console
    from harness.watch.followed import FollowedStudy
    from harness.watch.server import WatchServer

    studies = [FollowedStudy(study) for study in request.load()]
    signal.signal(signal.SIGTERM, _leave)
    with WatchServer(studies, IPV6 if ipv6 else IPV4, port) as server:
        console.result(f"{server.url} (Ctrl-C ends it)")
        sys.stdout.flush()  # for a program that waits for the address
        if open_page and not webbrowser.open(server.url):
            console.note("no browser could be opened here; open the address above")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.note("no longer watched; the runs go on")
            raise typer.Exit(128 + signal.SIGINT) from None


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)
