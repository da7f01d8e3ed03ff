"""The hours in which a hospital trains, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import tiny
from federation.test_leading import by_file, hospitals, root, untold
from sammit.errors import UserError
from sammit.federation.hospital import Hospital
from sammit.federation.leading import lead
from sammit.federation.preview import preview
from sammit.policy import SitePolicy

__all__ = ["root"]

NIGHT = SitePolicy(hours="20:00-06:00")


def at(hour: int, minute: int = 0) -> Callable[[], datetime]:
    return lambda: datetime(2026, 1, 1, hour, minute)


def told(root: Path, folder: Path, clock: Callable[[], datetime], policy: SitePolicy = NIGHT) -> list[dict[str, Any]]:
    """The log of a run in which one of two hospitals has hours."""
    sites = hospitals(root, folder / "sites")
    sites["birch"] = Hospital("birch", replace(sites["birch"].premises, policy=policy), clock)
    what = tiny.experiment(Path("x"), training={"rounds": 1})
    return tiny.rows(lead(folder / "out", what, tuple(sites), by_file(sites, folder / "out"), untold).path)


def test_outside_of_its_hours_a_site_does_not_train_and_is_scored_all_the_same(root: Path, tmp_path: Path) -> None:
    (row,) = told(root, tmp_path, at(12))
    assert row["failed"] == {"birch": "takes part between 20:00 and 06:00 only"}
    assert set(row["loss"]) == {"aster"} and set(row["validation"]) == {"aster", "birch"}


def test_within_its_hours_it_trains(root: Path, tmp_path: Path) -> None:
    (row,) = told(root, tmp_path, at(5, 59))
    assert row["failed"] == {} and set(row["loss"]) == {"aster", "birch"}


def test_hours_in_the_folder_of_the_data_hold_too(root: Path, tmp_path: Path) -> None:
    """Both can only take away."""
    data = Path(hospitals(root, tmp_path / "sites")["birch"].premises.data)
    (data / "site.toml").write_text('hours = "08:00-12:00"\n')
    (row,) = told(root, tmp_path, at(21))
    assert row["failed"] == {"birch": "takes part between 08:00 and 12:00 only"}


def test_where_no_site_is_open_the_run_says_so(root: Path, tmp_path: Path) -> None:
    sites = hospitals(root, tmp_path / "sites")
    shut = {n: Hospital(n, replace(site.premises, policy=NIGHT), at(12)) for n, site in sites.items()}
    with pytest.raises(UserError, match=r"0 of 2 sites answered, .*birch: takes part between 20:00 and 06:00 only"):
        lead(tmp_path / "out", tiny.experiment(Path("x")), tuple(shut), by_file(shut, tmp_path / "out"), untold)


def test_a_preview_is_made_at_any_hour(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    premises = replace(hospitals(root, tmp_path / "sites")["birch"].premises, policy=NIGHT)
    monkeypatch.setattr(SitePolicy, "open_at", lambda self, now: False)
    rows = preview(tiny.experiment(Path("x")), "birch", premises, tmp_path / "shown")
    assert "Update" in [row["is"] for row in rows]
