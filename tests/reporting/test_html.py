"""The report: one file, nothing from the network, everything said."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.reporting import html
from sammit.reporting.case_tables import every_case
from sammit.reporting.folder import read_run
from sammit.reporting.html import run_labels, write_report
from sammit.reporting.tables import overview, to_html

from .fake import FakeRun, make_run
from .fake_study import FakeStudy, make_study

SMALL = FakeRun(rounds=3, cases=8, side=40, personal=False, distances=False)


class Page(HTMLParser):
    """Tags that are open, ids, addresses, headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.levels: list[int] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.ids += [known["id"]] if known.get("id") else []
        self.addresses += [known[name] or "" for name in ("src", "href", "xlink:href") if name in known]
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(path: Path) -> str:
    """The text of a report that is well-formed, self-contained and not too large."""
    text = path.read_text()
    page = Page(text)
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert not re.search(r"url\((?!#)|@import|<link", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert len(re.findall("<script", text)) == 1 + text.count('<script type="application/json">')
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{allowed}'; style-src" in text
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.ids)
    assert page.levels[0] == 1 and all(b - a <= 1 for a, b in zip(page.levels, page.levels[1:], strict=False))
    assert len(text.encode()) <= html.LARGEST
    return text


def test_one_run(full_run: Path, tmp_path: Path) -> None:
    write_report([full_run], tmp_path / "report.html")
    text = checked(tmp_path / "report.html")
    for said in ("The worst site is REFUGE", "HD95 is undefined for 1 score", "Few test patients", "Router use",
                 "no answer within 600 s", "hashes.weights", "Effective configuration"):  # fmt: skip
        assert said in text
    assert text.count("data:image/jpeg") == 12


def test_reports_of_equal_runs_are_equal(full_run: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report([full_run], tmp_path / name)
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text()


def test_a_deployed_server_shows_tables_and_curves(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "server", SMALL, pictures=False, router=False)
    (folder / "cases.csv").unlink()
    write_report([folder], tmp_path / "report.html")
    text = checked(tmp_path / "report.html")
    assert "no per-case rows" in text and "no case pictures" in text and "Training loss" in text


def test_a_bare_summary_is_enough(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "bare", replace(SMALL, unseen=("REFUGE",)), pictures=False, router=False)
    for name in ("cases.csv", "config.toml", "environment.json", "rounds.jsonl"):
        (folder / name).unlink()
    write_report([folder], tmp_path / "report.html")
    text = checked(tmp_path / "report.html")
    assert "REFUGE took no part in the training. How it was judged: judged with the global model" in text


def test_several_runs_are_compared(full_run: Path, tmp_path: Path) -> None:
    others = [
        make_run(tmp_path / f"avg{seed}", replace(SMALL, method="fedavg", gain=-0.05, seed=seed), router=False)
        for seed in (0, 1)
    ]
    write_report([full_run, *others], tmp_path / "report.html")
    text = checked(tmp_path / "report.html")
    assert "Comparison of 3 runs" in text and "fedavg: lower (p" in text and "fedavg, seed 1" in text
    assert "Mean Dice against bytes" in text


def test_a_matrix_across_sites_is_shown_where_there_is_one(full_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(full_run, folder, ignore=shutil.ignore_patterns("pictures"))
    write_report([folder], tmp_path / "without.html")
    assert "own model elsewhere" not in checked(tmp_path / "without.html")
    summary = json.loads((folder / "summary.json").read_text())
    homes = {site: entry["dice"] for site, entry in summary["sites"].items()}
    summary["cross"] = {one: {site: dice - 0.1 * (site != one) for site, dice in homes.items()} for one in homes}
    (folder / "summary.json").write_text(json.dumps(summary))
    write_report([folder], tmp_path / "with.html")
    text = checked(tmp_path / "with.html")
    assert "that is 0.100 more at home" in text and "Each site&#39;s own model at every site" in text


def test_the_models_of_a_run_stand_beside_each_other(full_run: Path, tmp_path: Path) -> None:
    write_report([full_run], tmp_path / "report.html")
    text = checked(tmp_path / "report.html")
    assert "Dice of each model over the sites that took part." in text and "Spread between sites" in text


def test_scores_of_validation_patients_are_called_so(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, replace(SMALL, method=name, scored="val"), pictures=False) for name in ("one", "two")
    ]
    for chosen in (runs[:1], runs):
        write_report(chosen, tmp_path / "report.html")
        text = checked(tmp_path / "report.html")
        assert "These are scores of VALIDATION patients, and no test result" in text
        assert "Few validation patients" in text and "test patients at" not in text and "were tested" not in text
    assert "Validation Dice by method and site" in text and "each run's validation part" in text


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    odd = replace(SMALL, sites=("<script>alert(1)</script>", 'A"&B'), method="<i>m")
    folder = make_run(tmp_path / "odd", odd, pictures=False)
    write_report([folder], tmp_path / "report.html")
    assert "<i>" not in checked(tmp_path / "report.html")


def test_a_large_report_gives_up_pictures_before_it_grows(
    full_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "LARGEST", 230_000)
    write_report([full_run], tmp_path / "report.html")
    assert "Case pictures were left out to keep this file small." in (tmp_path / "report.html").read_text()


def test_labels_tell_recipes_apart_but_not_seeds(tmp_path: Path) -> None:
    fakes = [SMALL, replace(SMALL, seed=1), replace(SMALL, name="long", rounds=4), replace(SMALL, method="ditto")]
    runs = [read_run(make_run(tmp_path / str(i), fake, pictures=False)) for i, fake in enumerate(fakes)]
    assert run_labels(runs[:2]) == ["pfedsam", "pfedsam"]
    assert run_labels(runs) == ["pfedsam (fake)", "pfedsam (fake)", "pfedsam (long)", "ditto"]
    same_name = read_run(make_run(tmp_path / "other", replace(SMALL, rounds=5), pictures=False))
    assert run_labels([runs[0], same_name]) == ["pfedsam (0)", "pfedsam (other)"]


def test_every_case_is_in_the_report_and_a_large_run_shows_its_worst(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", replace(SMALL, distances=True), pictures=False, router=False)
    write_report([folder], tmp_path / "report.html")
    text = checked(tmp_path / "report.html")
    assert text.count('<th scope="row">im000</th>') == 8 and ">undefined</td>" in text and "P00" not in text
    run = read_run(folder)
    table = every_case(run.summary, run.cases or (), most=3)
    assert table is not None and table.notes == ("The 3 rows with the lowest Dice of 40; cases.csv has all.",)
    dice = [cells[3].value for cells in table.rows]
    assert dice == sorted(row.scores["dice"] for row in run.cases or ())[:3]
    assert every_case(run.summary, ()) is None


def test_sums_stay_below_what_they_sum_up(full_run: Path) -> None:
    """In a foot, out of the reach of sorting; numbers are there unrounded, to sort by."""
    text = to_html(overview(read_run(full_run).summary))
    body, foot = text.split("</tbody>")
    assert "Mean over sites" in foot and "Mean over sites" not in body and '<th scope="col" data-site="">Site' in body
    assert re.search(r'class="number" data-value="0\.\d{7}">0\.\d{3}<', body)


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(UserError, match="no such run folder"):
        write_report([tmp_path / "nowhere"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("reported", ["personal", "sources"])
def test_a_run_that_left_one_site_out(tmp_path: Path, reported: str) -> None:
    """Source sites without test cases: no mean, no worst site, the unseen site's models and rule instead."""
    study = FakeStudy({"m": ("M", 0.0, reported)}, {"A": 6, "B": 4}, seeds=(0,), side=40)
    folders = [cell.folder for cell in make_study(tmp_path / "cells", study)]
    (folders[0] / "pictures/A/best.npz").write_bytes((folders[0] / "pictures/A/example.npz").read_bytes())
    write_report([folders[0]], tmp_path / "one.html")
    text = checked(tmp_path / "one.html")
    assert "m trained sam-tiny on fundus without A for 3 rounds" in text
    assert "The sites that trained have no test cases." in text and "Mean Dice over sites" not in text
    if reported == "sources":
        assert "Source sites&#39; models, mean score" in text and "Its score is that of the source sites&#39;" in text
    else:
        assert "global model with mean experts" in text and "beside it, for comparison" in text
    write_report(folders, tmp_path / "two.html")
    assert "m, seed 0, A unseen: Dice at unseen A 0." in checked(tmp_path / "two.html")
