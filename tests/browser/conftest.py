"""A browser, and what it opens: reports of made-up campaigns."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.servers.chromium import chromium
from tests.servers.debian import Unavailable
from tests.workflow.conftest import build_once, shared

__all__ = ["PHONE", "Visit", "browser", "build_once", "shared"]

PHONE = {"width": 360, "height": 740}

# not the 5 s of a fast machine: no test asks for a time
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; of a module, because no other test may find its event loop running."""
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(chromium())
        except Unavailable as reason:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Chromium: {reason}")
        yield found


@dataclass
class Visit:
    """A page that is open, and all that went wrong with it or was asked of elsewhere."""

    page: Page
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, browser: Browser, uri: str, **options) -> Visit:
        """Open a page in a browser of its own, such as one with `viewport`."""
        page = browser.new_context(**options).new_page()
        visit = cls(page)
        page.on("console", lambda message: visit.problems.append(message.text))
        page.on("pageerror", lambda error: visit.problems.append(str(error)))
        page.on("requestfailed", lambda request: visit.problems.append(request.url))
        page.on("request", lambda request: visit.requests.append(request.url))
        page.goto(uri, wait_until="load")
        return visit

    def wait_until(self, condition: str) -> None:
        """Wait for a condition in JavaScript.

        `Page.wait_for_function` evaluates a string in the page if it has to wait, which the page's
        content security policy forbids.
        """
        for _ in range(300):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"it never came to {condition}")

    def pressed(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def focused(self) -> str:
        """The tag, identifier and class of the element that has the focus."""
        return self.page.evaluate(
            "(e => `${e.tagName.toLowerCase()}#${e.id}.${e.className}`)(document.activeElement)"
        )
