"""Made-up cells of a study: run folders as they are after leaving one site out, with scores that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sammit.randomness import generator
from sammit.reporting.study import StudyCell
from sammit.reporting.study_cells import Finished
from sammit.reporting.summary import CaseScore, Facts, Summary, summarise, write_cases, write_summary

from .fake import FakeRun, disc_image, disc_masks

RULES = {"global": "the global model", "sources": "mean of the scores of the source sites' own models"}


@dataclass(frozen=True)
class FakeStudy:
    """What to make up.

    Attributes:
        methods: key -> (label, gain over a Dice of 0.8, model that is reported); "personal" is reported as "global"
            with "experts" beside it at an unseen site, and has "global" beside it elsewhere.
        sites: name -> cases; two cases a patient.
        unseen: whether each site in turn is left out; otherwise one cell has all sites.
        side: of the pictures; 0: none.
    """

    methods: Mapping[str, tuple[str, float, str]]
    sites: Mapping[str, int]
    seeds: Sequence[int] = (0, 1)
    dataset: str = "fundus"
    structures: tuple[str, ...] = ("disc",)
    unseen: bool = True
    distances: bool = False
    protocol: str = "standard"
    side: int = 0


def make_study(folder: Path, fake: FakeStudy) -> list[StudyCell]:
    """Write every cell's run folder and return the cells, methods changing fastest."""
    turns = list(fake.sites) if fake.unseen else [""]
    cells = [
        StudyCell(fake.dataset, method, fake.methods[method][0], unseen, seed,
                  folder / fake.dataset / method / f"{unseen or 'all'}-{seed}")
        for seed in fake.seeds for unseen in turns for method in fake.methods
    ]  # fmt: skip
    for cell in cells:
        make_cell(cell, fake)
    return cells


def make_cell(cell: StudyCell, fake: FakeStudy) -> None:
    """Write one cell's run folder."""
    reported = fake.methods[cell.method][2]
    models = _models(reported, bool(cell.unseen))
    judged = [cell.unseen] if cell.unseen else list(fake.sites)
    rows = [row for site in judged for model in models for row in case_rows(fake, cell, site, model)]
    write_rows(cell, rows, dict.fromkeys(judged, models[0]), fake.protocol)
    splits = {site: _split(site == cell.unseen, count) for site, count in fake.sites.items()}
    (cell.folder / "splits.json").write_text(json.dumps(splits))
    if fake.side:
        for site in judged:
            _write_picture(cell.folder / "pictures" / site / "example.npz", fake, cell, site, models)


def _models(reported: str, unseen: bool) -> tuple[str, ...]:
    """What is scored, the reported model first."""
    if reported == "personal":
        return ("global", "experts") if unseen else ("personal", "global")
    return (reported,)


def write_rows(
    cell: StudyCell, rows: Sequence[CaseScore], reported: Mapping[str, str], protocol: str = "standard"
) -> None:
    """Write `cases.csv` and `summary.json` of a cell from its rows."""
    cell.folder.mkdir(parents=True)
    write_cases(cell.folder / "cases.csv", rows)
    write_summary(cell.folder / "summary.json", summary_of(cell, rows, reported, protocol))


def summary_of(
    cell: StudyCell, rows: Sequence[CaseScore], reported: Mapping[str, str], protocol: str = "standard"
) -> Summary:
    """The summary of a cell's rows; `reported` is the model of each judged site."""
    unseen = {cell.unseen: RULES[reported[cell.unseen]]} if cell.unseen else {}
    facts = Facts(
        method=cell.method, model="sam-tiny", dataset=cell.dataset, protocol=protocol, seed=cell.seed, rounds=3,
        selected_round=2, reported=reported, unseen=unseen,
        parameters={"total": 1_200_000, "trainable": 310_000, "shared": 120_000, "local": 190_000},
        traffic={"up_bytes_per_site_round": 480_000, "down_bytes_per_site_round": 481_000, "total_bytes": 9_000_000},
        seconds={"total": 60.0 + cell.seed, "per_round": 20.0}, peak_rss_bytes=2_100_000_000,
    )  # fmt: skip
    return summarise(rows, facts)


def in_memory(cell: StudyCell, dice: Mapping[str, Sequence[float]], model: str = "global") -> Finished:
    """A finished cell without a folder: patient -> Dice of the patient's cases, at the cell's one site."""
    site = cell.unseen or "all"
    rows = [
        CaseScore(site, f"{patient}-{place}", patient, "disc", model, {"dice": value, "iou": value / 2})
        for patient, values in dice.items()
        for place, value in enumerate(values)
    ]
    return Finished(cell, summary_of(cell, rows, {site: model}), rows)


def case_rows(fake: FakeStudy, cell: StudyCell, site: str, model: str) -> list[CaseScore]:
    """One model's rows at one site; a case is as hard under every method and seed."""
    rows = []
    for case in range(fake.sites[site]):
        for place, structure in enumerate(fake.structures):
            hard = generator(site, case // 2, structure).normal(0, 0.05)
            noise = generator(cell.method, cell.seed, site, case, structure, model).normal(0, 0.01)
            gain = fake.methods[cell.method][1] + 0.02 * (model in ("experts", "personal"))
            dice = float(np.clip(0.8 - 0.06 * place + gain + hard + noise, 0, 1))
            scores: dict[str, float | None] = {"dice": dice, "iou": dice / (2 - dice)}
            if fake.distances:
                missed = case == 0 and site == next(iter(fake.sites))
                scores |= {"hd95": None if missed else 20 * (1 - dice), "nsd": 0.0 if missed else dice}
            rows.append(CaseScore(site, f"im{case:03}", f"P{case // 2:02}", structure, model, scores))
    return rows


def _split(unseen: bool, count: int) -> dict[str, str]:
    """All for the test where the site is unseen; 9:1 otherwise."""
    return {f"im{case:03}": "test" if unseen else "val" if case % 10 == 9 else "train" for case in range(count)}


def _write_picture(path: Path, fake: FakeStudy, cell: StudyCell, site: str, models: Sequence[str]) -> None:
    run = FakeRun(structures=fake.structures, side=fake.side)
    off = 1 + 3 * list(fake.methods).index(cell.method)
    masks = {model: disc_masks(run, off + place, off // 2) for place, model in enumerate(models)}
    path.parent.mkdir(parents=True)
    np.savez_compressed(
        path, image=disc_image(run.side, list(fake.sites).index(site)), truth=disc_masks(run, 0, 0),
        case=np.array("im001"), structures=np.array(fake.structures), dice=np.array([0.9 - 0.02 * off] * len(models)),
        **masks,
    )  # fmt: skip
