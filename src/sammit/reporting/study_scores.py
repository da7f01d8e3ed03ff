"""The scores of a study by dataset, method, site and seed.

A `Block` is what shares a table: one dataset under one setting. Where sites were left out one at a time, a method's
score at a site comes from the cell in which that site was unseen; otherwise from the site's own test part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sammit.reporting.cases import OVERLAP, CaseScore, metrics_of
from sammit.reporting.study_cells import Finished, StudyCell

ALL = "mean over structures"
"""Stands beside the structures where there are several; only overlap scores have it."""

CaseKey = tuple[str, str]
"""A patient and one of the patient's cases."""

Scores = Mapping[str, Mapping[CaseKey, Mapping[str, float | None]]]
"""structure -> case -> metric -> value, of one model at one site under one seed."""


@dataclass(frozen=True)
class Judged:
    """One model of a method at one site.

    Attributes:
        model: which, as `cases.csv` names it; "" where no cell is there.
        rule: how the site was judged, where it was unseen; "" otherwise.
        planned: the seeds that the study asks for.
        by_seed: the scores under each seed that is there.
    """

    model: str
    rule: str
    planned: tuple[int, ...]
    by_seed: Mapping[int, Scores]

    @property
    def missing(self) -> tuple[int, ...]:
        """The seeds that the study asks for and that are not there."""
        return tuple(seed for seed in self.planned if seed not in self.by_seed)

    def values(self, structure: str, metric: str) -> dict[int, dict[CaseKey, float | None]]:
        """Seed -> case -> value, cases in order of their names; None where a case has no value."""
        return {
            seed: {case: row.get(metric) for case, row in sorted(scores.get(structure, {}).items())}
            for seed, scores in sorted(self.by_seed.items())
        }


@dataclass(frozen=True)
class Block:
    """One dataset under one setting.

    Attributes:
        title: the dataset, with the setting where the study has both.
        dataset: its name.
        unseen: whether each site was judged by models that had not seen it.
        protocol: how cases were scored; "" where no cell is there.
        labels: method -> label, in the study's order.
        sites: in the study's order.
        structures: as the cases name them, then `ALL` where there are several.
        metrics: those that any case has.
        units: site -> unit of its distances, such as "mm"; only sites with distances.
        judged: (method, site) -> the model that stands for the method there.
        beside: (method, model) -> site -> another model that was scored and does not stand for the method.
        cells: all, `finished` those that are there.
    """

    title: str
    dataset: str
    unseen: bool
    protocol: str
    labels: Mapping[str, str]
    sites: tuple[str, ...]
    structures: tuple[str, ...]
    metrics: tuple[str, ...]
    units: Mapping[str, str]
    judged: Mapping[tuple[str, str], Judged]
    beside: Mapping[tuple[str, str], Mapping[str, Judged]]
    cells: Sequence[StudyCell]
    finished: Sequence[Finished]

    @property
    def headline(self) -> str:
        """The structure on which methods are compared: the only one, or the mean over all."""
        return self.structures[-1]

    @property
    def mixed_units(self) -> bool:
        """Whether distances of different sites, or of one site, are in different units."""
        return len(set(self.units.values())) > 1 or any("/" in unit for unit in self.units.values())

    def summaries(self, method: str) -> list[Mapping[str, Any]]:
        """`summary.json` of every cell of a method that is there."""
        return [one.summary for one in self.finished if one.cell.method == method]


def make_blocks(cells: Sequence[StudyCell], finished: Sequence[Finished]) -> list[Block]:
    """One block for each dataset and setting, in the study's order."""
    settings = list(dict.fromkeys((cell.dataset, bool(cell.unseen)) for cell in cells))
    datasets = [dataset for dataset, _ in settings]
    blocks = []
    for dataset, unseen in settings:
        setting = "sites left out in turn" if unseen else "all sites take part"
        title = dataset if datasets.count(dataset) == 1 else f"{dataset}, {setting}"
        own = [cell for cell in cells if (cell.dataset, bool(cell.unseen)) == (dataset, unseen)]
        there = [one for one in finished if (one.cell.dataset, bool(one.cell.unseen)) == (dataset, unseen)]
        blocks.append(_block(title, own, there))
    return blocks


@dataclass(frozen=True)
class _Part:
    """What one cell says of one model at one site."""

    method: str
    site: str
    model: str
    reported: bool
    rule: str
    seed: int
    scores: Scores


def _block(title: str, cells: Sequence[StudyCell], finished: Sequence[Finished]) -> Block:
    first = cells[0]
    labels = {cell.method: cell.label for cell in cells}
    named = [cell.unseen for cell in cells] if first.unseen else [site for one in finished for site in one.entries]
    sites = tuple(dict.fromkeys(named))
    parts = [part for one in finished for part in _parts(one)]
    structures = list(dict.fromkeys(structure for part in parts for structure in part.scores))
    structures.sort(key=lambda name: name == ALL)
    rows = [row for one in finished for row in _own_rows(one)]
    places = [(method, site) for method in labels for site in sites]
    planned = {place: tuple(cell.seed for cell in cells if _covers(cell, *place)) for place in places}
    others = dict.fromkeys((part.method, part.model) for part in parts if not part.reported)
    beside = {
        (method, model): {
            site: _judged([p for p in parts if _key(p) == (method, model, site, False)], planned[method, site])
            for site in sites
        }
        for method, model in others
    }
    return Block(
        title=title,
        dataset=first.dataset,
        unseen=bool(first.unseen),
        protocol=str(finished[0].summary.get("protocol")) if finished else "",
        labels=labels,
        sites=sites,
        structures=tuple(structures) or ("",),
        metrics=tuple(metrics_of(rows)) or OVERLAP,
        units={site: unit for site in sites if (unit := _unit(rows, site))},
        judged={
            place: _judged([p for p in parts if p.reported and (p.method, p.site) == place], planned[place])
            for place in places
        },
        beside=beside,
        cells=cells,
        finished=finished,
    )


def _unit(rows: Sequence[CaseScore], site: str) -> str:
    """The unit of a site's distances; several with "/" between them."""
    return "/".join(sorted({row.unit for row in rows if row.site == site} - {""}))


def _key(part: _Part) -> tuple[str, str, str, bool]:
    return part.method, part.model, part.site, part.reported


def _covers(cell: StudyCell, method: str, site: str) -> bool:
    return cell.method == method and cell.unseen in ("", site)


def _own_rows(one: Finished) -> list[CaseScore]:
    """The rows of the sites that the cell scores in the study."""
    sites = set(one.entries)
    return [row for row in one.cases if row.site in sites]


def _parts(one: Finished) -> list[_Part]:
    """Every model at every site that the cell scores in the study."""
    rows: dict[tuple[str, str], list[CaseScore]] = {}
    for row in _own_rows(one):
        rows.setdefault((row.site, row.model), []).append(row)
    parts, entries = [], one.entries
    for (site, model), own in rows.items():
        entry = entries[site]
        reported = entry["reported"] == model
        rule = str(entry.get("rule", "")) if reported else ""
        parts.append(_Part(one.cell.method, site, model, reported, rule, one.cell.seed, by_structure(own)))
    return parts


def by_structure(rows: Sequence[CaseScore]) -> Scores:
    """The rows of one model at one site by structure and case."""
    scores: dict[str, dict[CaseKey, Mapping[str, float | None]]] = {}
    for row in rows:
        scores.setdefault(row.structure, {})[row.patient, row.case] = row.scores
    if len(scores) > 1:
        cases = dict.fromkeys(case for part in scores.values() for case in part)
        parts = list(scores.values())
        scores[ALL] = {case: _overlap([part[case] for part in parts if case in part]) for case in cases}
    return scores


def _overlap(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Overlap scores of one case, mean over its structures."""
    return {name: math.fsum(row[name] or 0.0 for row in rows) / len(rows) for name in OVERLAP}


def _judged(parts: Sequence[_Part], planned: tuple[int, ...]) -> Judged:
    """One model under every seed; the parts are of one method at one site."""
    models, rules = (sorted({getattr(part, name) for part in parts} - {""}) for name in ("model", "rule"))
    return Judged(" / ".join(models), " / ".join(rules), planned, {part.seed: part.scores for part in parts})
