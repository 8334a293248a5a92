"""A real browser, without a window; its own profile, and nothing of the network but loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--no-sandbox",  # it refuses to run as root with one, and shows our own pages alone
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def browser(*, names: dict[str, str] | None = None) -> Iterator[Browser]:
    """One that resolves `names` as told, and no others but addresses and localhost."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium: make system installs it as root on Debian")
    rules = [f"MAP {name} {address}" for name, address in (names or {}).items()]
    resolved = ", ".join([*rules, "EXCLUDE localhost", "EXCLUDE 127.0.0.1", "MAP * ~NOTFOUND"])
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=[*_QUIET, f"--host-resolver-rules={resolved}"])
        try:
            yield opened
        finally:
            opened.close()
