"""Debian's Chromium, without a window, for tests of pages; and a server for them on 127.0.0.1."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from .debian import require

PROGRAM = Path("/usr/bin/chromium")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; raises `Unavailable` where there cannot be one."""
    require((PROGRAM.name,), (PROGRAM.name,), str(PROGRAM.parent))
    # its sandbox refuses root, and the pages are the tests' own
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Site:
    """A folder that is served, and how many bytes of each path were sent."""

    uri: str
    sent: dict[str, int] = field(default_factory=dict)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Site]:
    """Serve a folder on 127.0.0.1."""
    sent: dict[str, int] = {}

    class Handler(SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile):
            content = source.read()
            sent[self.path] = sent.get(self.path, 0) + len(content)
            with contextlib.suppress(ConnectionError):  # the browser may go before the end
                outputfile.write(content)

        def log_message(self, *_):
            """Nothing: the test says what was wrong."""

    handler = functools.partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Site(f"http://127.0.0.1:{server.server_port}", sent)
        finally:
            server.shutdown()
            thread.join()
