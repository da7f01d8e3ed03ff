"""One made-up run with everything in it, and a browser with every kind of report, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.chromium import chromium, emulate, resize

from .browsing import write_pages
from .fake import FakeRun, make_run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "full", FakeRun(rounds=6, cases=10, side=80))


@pytest.fixture(scope="session")
def pages(runs: dict[str, Path], full_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of report by its name, see `browsing`."""
    return write_pages(runs, full_run, tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def page(browser: Chrome) -> Chrome:
    """A wide, light window without what an earlier test has done to it."""
    resize(browser, 1280, 900)
    emulate(browser)
    browser.get_log("browser")
    return browser
