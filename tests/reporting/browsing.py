"""What the browser's tests share: which pages there are, and how a reader's hands and eyes are played."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.chromium import lacking

from sammit.reporting.html import write_report
from sammit.reporting.joining import summarise_join
from sammit.reporting.joining_page import write_join_report
from sammit.reporting.study import write_study

from .fake_study import FakeStudy, make_study
from .test_joining import FACTS, gained, model

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

IN_CHROMIUM = [pytest.mark.slow, pytest.mark.skipif(bool(lacking()), reason=lacking())]
PAGES = ("run", "full", "several", "study", "joining")
UNFOLD = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
STUDY = FakeStudy(
    {"fed": ("Fed", 0.05, "personal"), "cen": ("Cen & Co", 0.03, "global"), "own": ("Own", 0.0, "sources")},
    {"Drishti-GS": 9, "REFUGE": 7}, structures=("disc", "cup"), distances=True, side=60,
)  # fmt: skip


def write_pages(real: dict[str, Path], full: Path, out: Path) -> dict[str, Path]:
    """Every kind of report: of real runs, of a made-up one with everything in it, of a study, of a site that joined."""
    write_report([real["pfedsam"]], out / "run.html")
    write_report([full], out / "full.html")
    write_report([real["pfedsam"], real["fedavg"]], out / "several.html")
    cells = make_study(out / "cells", STUDY)
    (gone,) = [cell for cell in cells if (cell.method, cell.seed, cell.unseen) == ("own", 1, "REFUGE")]
    (gone.folder / "summary.json").unlink()
    write_study(cells, out / "study", "A study", 0.02, (("fed", "cen"),), None, "cen")
    found = {name: out / f"{name}.html" for name in ("run", "full", "several")}
    return {**found, "study": out / "study" / "report.html", "joining": _joined(out / "joining")}


def _joined(folder: Path) -> Path:
    learnt = (("global", 0, 0, 0.0), ("cases-1", 1, 1, -0.1), ("cases-all", 9, 8, 0.2))
    models = [model(name, cases, patients, gained(gain)) for name, cases, patients, gain in learnt]
    folder.mkdir()
    (folder / "join.json").write_text(json.dumps(summarise_join(models, replace(FACTS, site="cedar"))))
    (folder / "environment.json").write_text("{}")
    return write_join_report(folder)


def text(page: Chrome, selector: str) -> str:
    return str(page.execute_script("return document.querySelector(arguments[0]).textContent", selector)).strip()


def press(page: Chrome, key: str) -> None:
    """A key, for whatever has the focus."""
    from selenium.webdriver import ActionChains

    ActionChains(page).send_keys(key).perform()


def column(page: Chrome, table: str, place: int) -> list[str]:
    """The texts of a table's rows that can be seen, in a column."""
    script = """return [...document.querySelector(arguments[0]).tBodies[0].rows].filter((row) => !row.hidden)
        .map((row) => row.cells[arguments[1]].textContent.trim())"""
    found: list[str] = page.execute_script(script, table, place)
    return found
