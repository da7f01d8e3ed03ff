"""Reports of sites, the sound and the broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sammit.config import DataConfig
from sammit.data.check import ceilings, check
from sammit.geometry import View
from sammit.vocabulary import Case, Loaded


def _loaded(truth: np.ndarray) -> Loaded:
    return Loaded(Case("s", "c", "p", ()), np.zeros((*truth.shape[:3], 3), np.uint8), truth)


def test_a_report(make_site: Callable[..., Path]) -> None:
    folder = make_site()
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(folder / "masks" / "case5.png")
    (report,) = check(DataConfig(root=str(folder), patient="case([0-4])"))
    assert (report.site, report.layout, report.cases, report.patients) == ("a", "folder", 6, 6)
    assert report.unmatched == ("case5",) and report.smallest == report.largest == (1, 40, 50)
    assert report.channels == (3,) and report.spacing is None and not report.problems
    (structure,) = report.structures
    assert (structure.name, structure.present, structure.empty) == ("foreground", 5, 1)
    assert report.ceiling is not None and 0.7 < report.ceiling < 1


def test_every_problem_is_named(make_site: Callable[..., Path]) -> None:
    folder = make_site()
    (folder / "masks" / "case1.png").unlink()
    (folder / "images" / "case2.png").write_bytes(b"broken")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "masks" / "case3.png")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "masks" / "stray.png")
    (report,) = check(DataConfig(root=str(folder)))
    for name in ("case1.png: has no mask", "case2.png: cannot be read", "case3.png: 1x3x3", "stray.png: there is no"):
        assert any(name in problem for problem in report.problems)
    assert len(report.problems) == 4 and report.structures[0].present == 3


def test_ceilings() -> None:
    truth = np.zeros((1, 64, 64, 3), bool)
    truth[0, 16:48, 16:48, 0] = True
    truth[0, 30, :, 1] = True  # one pixel thin
    fine, coarse = ceilings(_loaded(truth), View("tile", 64), 1), ceilings(_loaded(truth), View("whole", 16), 4)
    assert fine[:2] == pytest.approx([1.0, 1.0]) and np.isnan(fine[2])
    assert 0.8 < coarse[0] <= 1 and coarse[1] == 0
