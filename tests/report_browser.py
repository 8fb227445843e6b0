"""A headless Chromium for pages on the disk; shared by the browser test and benchmarks/report.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
# No GPU, no calls home; WebGL in software
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


def missing() -> str:
    """Why no browser can be started; empty where one can."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "playwright is not installed: pip install .[test]"
    if _installed():
        return ""
    with sync_playwright() as playwright:
        if os.path.exists(playwright.chromium.executable_path):
            return ""
    return "no Chromium or Chrome on this machine: install one, or run playwright install chromium"


@contextmanager
def chromium() -> Iterator:
    """A Playwright browser: one that is installed, else Playwright's own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_installed(), args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def _installed() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)
