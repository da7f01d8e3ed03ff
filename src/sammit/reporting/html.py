"""One HTML file that holds everything: tables, figures, pictures, configuration. It asks the network for nothing."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sammit.errors import UserError
from sammit.files import write_atomically
from sammit.reporting import cross, figures, router_figures, sentences, wording
from sammit.reporting.against_bytes import dice_against_bytes
from sammit.reporting.case_by_case import case_by_case
from sammit.reporting.case_tables import MOST, every_case
from sammit.reporting.cases_of_runs import cases_of_runs
from sammit.reporting.comparison import compare_runs
from sammit.reporting.cross_figure import cross_site
from sammit.reporting.folder import RunFolder, read_run
from sammit.reporting.model_tables import by_model
from sammit.reporting.pages import render
from sammit.reporting.panels import CasePicture, case_picture
from sammit.reporting.svg import Picture
from sammit.reporting.tables import compare, overview, results, to_html, unseen_models

LARGEST = 3_000_000
"""Bytes a report may have; pictures are made smaller, then left out, until it fits."""

CASES = 500_000
"""Bytes of the scores of single cases with which two methods are compared."""

_DETAIL = ((320, True), (224, True), (144, True), (0, True), (0, False))  # picture width in pixels, with curves


@dataclass(frozen=True)
class Section:
    """One run as the template shows it; HTML and SVG in it are made here, everything else is escaped there."""

    label: str
    anchor: str
    run: RunFolder
    overview: str
    unseen: str
    models: str
    results: str
    worst: str
    facts: list[str]
    doubts: list[str]
    curves: list[Picture]
    failures: list[str]
    bytes: list[Picture]
    cross: list[Picture]
    cross_reading: str
    router: list[Picture]
    router_reading: str
    pictures: dict[str, list[CasePicture]]
    cases: str
    cases_left_out: str
    missing: dict[str, str]
    left_out: str
    environment: list[tuple[str, str]]


def write_report(runs: list[Path], out: Path, labels: Sequence[str] = ()) -> None:
    """Write the report of one run, or the comparison of several with the details of each.

    Args:
        runs: run folders; each needs its `summary.json`, everything else is optional and its absence is said.
        out: the HTML file, written whole or not at all.
        labels: what each run is called; `run_labels` decides where there are none.

    Raises:
        UserError: no runs, a folder that cannot be read, or runs scored under different protocols.
    """
    if not runs:
        raise UserError("no runs to report: name at least one run folder")
    write_atomically(out, report_page([read_run(path) for path in runs], labels))


def report_page(folders: Sequence[RunFolder], labels: Sequence[str] = ()) -> str:
    """The report of run folders that were read, as HTML; `write_report` says the rest."""
    labels = labels or run_labels(folders)
    most = MOST // len(folders)
    sections = [_section(run, label, place, most) for place, (run, label) in enumerate(_titled(folders, labels))]
    several = _comparison(folders, labels) if len(folders) > 1 else None
    for width, curves in _DETAIL:
        detailed = [_detailed(section, width, curves) for section in sections]
        page = render("template.html", sections=detailed, several=several, sentences=sentences)
        if len(page.encode()) <= LARGEST:
            break
    return page


def run_labels(runs: Sequence[RunFolder]) -> list[str]:
    """What each run is called: its method, so that seeds and unseen sites of one recipe share a label.

    Runs of one method with different configurations are told apart by the experiment's name, or the folder's.
    """
    recipes = [_recipe(run) for run in runs]
    labels = []
    for run, (name, recipe) in zip(runs, recipes, strict=True):
        method = str(run.summary["method"])
        rivals = [other for other, one in zip(recipes, runs, strict=True) if one.summary["method"] == method]
        if all(other == recipe for _, other in rivals):
            labels.append(method)
        elif all(other == recipe for rival, other in rivals if rival == name):
            labels.append(f"{method} ({name})")
        else:
            labels.append(f"{method} ({run.path.name})")
    return labels


def _recipe(run: RunFolder) -> tuple[str, dict[str, Any]]:
    """The experiment's name, and its configuration without what differs between cells of one study."""
    try:
        table = tomllib.loads(run.config or "")
    except tomllib.TOMLDecodeError:
        table = {}
    name = str(table.pop("name", run.path.name))
    table.pop("seed", None)
    table.get("evaluation", {}).pop("unseen", None)
    for key in ("root", "sites", "cache"):
        table.get("data", {}).pop(key, None)
    return name, table


def _titled(runs: Sequence[RunFolder], labels: Sequence[str]) -> list[tuple[RunFolder, str]]:
    """Runs with headings of their own: runs that share a label are told apart by seed and unseen site."""
    titled = []
    for run, label in zip(runs, labels, strict=True):
        more = [f"seed {run.summary['seed']}"] if labels.count(label) > 1 else []
        more += [f"{site} unseen" for site in run.summary.get("unseen") or {}] if more else []
        titled.append((run, ", ".join([label, *more])))
    return titled


def _comparison(runs: Sequence[RunFolder], labels: Sequence[str]) -> dict[str, Any]:
    """The table of methods, the figure of Dice against bytes, and every case to compare two methods by."""
    summaries = [(label, run.summary) for label, run in zip(labels, runs, strict=True)]
    cases = [run.cases or () for run in runs]
    entries = compare_runs(summaries)
    points = [(entry.label, entry.moved_bytes, entry.leading) for entry in entries]
    ranked = [entry.label for entry in sorted(entries, key=lambda entry: -entry.ranking)]
    table = compare(summaries, cases)
    verdicts = [f"{cells[0].text}: {cells[-1].text}." for cells in table.rows]
    figure = dice_against_bytes(points)
    pairs = case_by_case(cases_of_runs(runs, labels, ranked), CASES)
    return {"table": to_html(table), "notes": table.notes, "verdicts": verdicts, "figure": figure, "cases": pairs}


def _section(run: RunFolder, label: str, place: int, most: int) -> Section:
    """One run with its curves, yet without its case pictures, whose size is not known before the page's is."""
    summary, anchor = run.summary, f"run{place}"
    cases = every_case(summary, run.cases or (), most)
    # Titles become ids, which must differ between runs of one page.
    chosen, name = summary.get("selected_round"), f"{label} ({anchor})" if place else label
    validation = figures.validation_curves(run.rounds, chosen, name)
    router = run.router or {}
    traffic, counts = figures.traffic(run.rounds, name), figures.parameters(summary.get("parameters") or {}, name)
    return Section(
        label=label,
        anchor=anchor,
        run=run,
        overview=to_html(overview(summary)),
        unseen=to_html(unseen) if (unseen := unseen_models(summary)) else "",
        models=to_html(models) if (models := by_model(summary)) else "",
        results=to_html(results(summary)),
        worst=sentences.worst(summary),
        facts=[
            *(run.environment or {}).get("notes", []),
            *sentences.merging(run.rounds),
            *sentences.unseen(summary),
            *sentences.undefined(summary),
        ],
        doubts=sentences.doubts(summary),
        curves=_drawn(validation, figures.loss_curves(run.rounds, chosen, name)),
        failures=sentences.failures(run.rounds),
        bytes=_drawn(traffic, counts),
        cross=_drawn(cross_site(summary, name)),
        cross_reading=cross.reading(summary),
        router=[*_drawn(router_figures.by_site(router, name)), *router_figures.by_block(router, name)],
        router_reading=router_figures.reading(router),
        pictures={},
        cases=to_html(cases) if cases else "",
        cases_left_out=" ".join(cases.notes) if cases else "",
        missing=sentences.missing(run),
        left_out="",
        environment=_flat(run.environment or {}),
    )


def _drawn(*pictures: Picture | None) -> list[Picture]:
    return [picture for picture in pictures if picture is not None]


def _detailed(section: Section, width: int, curves: bool) -> Section:
    """The section with pictures of at most `width` pixels (0: none), and without its figures if so asked."""
    gone = [
        name for name, lost in (("Case pictures", section.run.pictures and not width), ("Figures", not curves)) if lost
    ]
    bare: dict[str, Any] = {} if curves else {"curves": [], "bytes": [], "cross": [], "router": []}
    return replace(
        section,
        pictures=_case_pictures(section, width) if width else {},
        left_out=f"{wording.listed(gone)} were left out to keep this file small." if gone else "",
        **bare,
    )


def _case_pictures(section: Section, width: int) -> dict[str, list[CasePicture]]:
    return {
        site: [case_picture(path, kind, width, f"{section.anchor}-{place}-{kind}") for kind, path in files]
        for place, (site, files) in enumerate(section.run.pictures.items())
    }


def _flat(table: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested tables as (dotted name, text)."""
    rows: list[tuple[str, str]] = []
    for key, value in table.items():
        rows += _flat(value, f"{above}{key}.") if isinstance(value, dict) else [(f"{above}{key}", str(value))]
    return rows
