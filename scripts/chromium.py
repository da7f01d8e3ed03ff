"""Headless Chromium as the tests and the screenshots use it: a profile of its own, and nothing that calls home."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--force-color-profile=srgb",
)  # fmt: skip


def lacking() -> str:
    """What this machine lacks to drive Chromium, in words; "" where all is there."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (the extra `browser`)"
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not found (Debian: chromium-driver)" if missing else ""


@contextmanager
def chromium() -> Iterator[Chrome]:
    """A browser that keeps what pages write to its console."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def ask(driver: Chrome, command: str, **arguments: Any) -> dict[str, Any]:
    """A command of the DevTools protocol."""
    answer: dict[str, Any] = driver.execute_cdp_cmd(command, arguments)
    return answer


def resize(driver: Chrome, width: int, height: int, scale: float = 1) -> None:
    """Give the page a window of so many CSS pixels, without touching its cache or its state."""
    ask(driver, "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
        mobile=False)  # fmt: skip


def emulate(driver: Chrome, medium: str = "", dark: bool = False) -> None:
    """Show the page as a medium ("print", or "" for the screen) and a colour scheme would have it."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    ask(driver, "Emulation.setEmulatedMedia", media=medium, features=[scheme])


def show(driver: Chrome, page: Path) -> None:
    """Open a file."""
    driver.get(page.resolve().as_uri())
