"""Everything that a study's tables, figures and sentences are made of, computed once for each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sammit.reporting import wording
from sammit.reporting.between import HIGHER, LOWER, Between, between, over_runs
from sammit.reporting.cases import LABELS, OVERLAP
from sammit.reporting.study_against import Against, against_reference
from sammit.reporting.study_estimates import Estimate, at_site, by_run, over_sites
from sammit.reporting.study_paper import AVERAGE, Paper
from sammit.reporting.study_scores import ALL, Block, Judged
from sammit.reporting.study_versus import Pair, Ranking, compare_pairs, rank

LENGTHS = ("hd95", "assd")
"""Lower is better, and a unit stands behind them."""

MEAN = "mean over sites"
"""Stands where a site's name would."""


@dataclass(frozen=True)
class Line:
    """One model of a method, as a row of a table.

    Attributes:
        method: its key; `label` as it is called.
        model: "" for the model that stands for the method, the other's name otherwise.
        judged: site -> what it scored.
    """

    method: str
    label: str
    model: str
    judged: Mapping[str, Judged]

    @property
    def models(self) -> str:
        """The name of the model, or of both where sites were judged by different ones; "" without any cell."""
        return " / ".join(sorted({one.model for one in self.judged.values()} - {""}))

    @property
    def rule(self) -> str:
        """How unseen sites were judged."""
        return " / ".join(sorted({one.rule for one in self.judged.values()} - {""}))


@dataclass(frozen=True)
class Result:
    """One block with its numbers.

    Attributes:
        block: the scores.
        lines: the model that stands for each method, in the study's order; `beside`: the others that were scored.
        estimates: (method, model of the line, site or `MEAN`, structure, metric) -> estimate.
        apart: (method, model of the line, structure, metric) -> how sites differ, mean over the seeds that have every
            site; only lines with such a seed.
        ranking: each method against the best.
        pairs: federated minus centralised; `margin` of non-inferiority, in Dice.
        reference, against: the method that the study sets every other one against, and what that found; "" and none
            where the study or this block has no such method.
        paper: printed numbers.
    """

    block: Block
    lines: Sequence[Line]
    beside: Sequence[Line]
    estimates: Mapping[tuple[str, str, str, str, str], Estimate]
    apart: Mapping[tuple[str, str, str, str], Between]
    ranking: Ranking
    pairs: Sequence[Pair]
    margin: float
    reference: str
    against: Sequence[Against]
    paper: Paper

    @property
    def places(self) -> tuple[str, ...]:
        """The sites, then `MEAN`."""
        return (*self.block.sites, MEAN)

    @property
    def seeds(self) -> list[int]:
        """All seeds that the study asks for."""
        return sorted({cell.seed for cell in self.block.cells})

    @property
    def sites_in_words(self) -> str:
        """7 unseen sites; 4 sites."""
        return wording.plural(len(self.block.sites), "unseen site" if self.block.unseen else "site")

    def estimate(self, line: Line, place: str, structure: str, metric: str) -> Estimate:
        """One number of a line; ALL has no distances (KeyError)."""
        return self.estimates[line.method, line.model, place, structure, metric]

    def headline(self, line: Line, place: str = MEAN) -> Estimate:
        """The Dice on which methods are compared."""
        return self.estimate(line, place, self.block.headline, "dice")

    def metrics_of(self, structure: str) -> list[str]:
        """The metrics that a structure has: the mean over structures has overlap scores alone."""
        return [name for name in self.block.metrics if structure != ALL or name in OVERLAP]

    def printed(self, line: Line, place: str, structure: str, metric: str) -> float | None:
        """The paper's number for the model that stands for a method; its average only where it is over these sites."""
        if place == MEAN and not self.paper.averages(self.block.dataset, self.block.sites):
            return None
        site = AVERAGE if place == MEAN else place
        alone = len(self.block.structures) == 1
        return None if line.model else self.paper.number(self.block.dataset, site, structure, line.label, metric, alone)

    @property
    def any_printed(self) -> bool:
        """Whether the paper has a number for any score here."""
        return any(
            self.printed(line, place, structure, metric) is not None
            for line in self.lines
            for place in self.places
            for structure in self.block.structures
            for metric in OVERLAP
        )

    def score_name(self, metric: str) -> str:
        """What a score is called: IoU, or HD95 (mm)."""
        units = set(self.block.units.values())
        unit = f" ({units.pop()})" if metric in LENGTHS and len(units) == 1 else ""
        return LABELS.get(metric, metric) + unit

    def between(self, line: Line, structure: str, metric: str) -> Between | None:
        """The worst site and the spread between sites; None where no seed has every site, or units differ."""
        return self.apart.get((line.method, line.model, structure, metric))

    def count(self, site: str) -> tuple[int, int]:
        """Cases and patients that were scored at a site, under the method that has most."""
        known = [self.headline(line, site) for line in self.lines]
        return max(one.cases for one in known), max(one.patients for one in known)


def make_result(
    block: Block, pairs: Sequence[tuple[str, str]], margin: float, paper: Paper, reference: str = ""
) -> Result:
    """All numbers of a block."""
    lines = [
        Line(method, label, "", {site: block.judged[method, site] for site in block.sites})
        for method, label in block.labels.items()
    ]
    beside = [Line(method, block.labels[method], model, sites) for (method, model), sites in block.beside.items()]
    estimates: dict[tuple[str, str, str, str, str], Estimate] = {}
    apart: dict[tuple[str, str, str, str], Between] = {}
    for line in [*lines, *beside]:
        for structure in block.structures:
            for metric in block.metrics:
                for place, one in _estimates(block, line, structure, metric).items():
                    estimates[line.method, line.model, place, structure, metric] = one
                if spread := _apart(block, line, structure, metric):
                    apart[line.method, line.model, structure, metric] = spread
    means = {line.method: estimates[line.method, "", MEAN, block.headline, "dice"] for line in lines}
    return Result(
        block=block,
        lines=lines,
        beside=beside,
        estimates=estimates,
        apart=apart,
        ranking=rank(block, means),
        pairs=compare_pairs(block, pairs, margin),
        margin=margin,
        reference=reference if reference in block.labels else "",
        against=against_reference(block, reference),
        paper=paper,
    )


def _apart(block: Block, line: Line, structure: str, metric: str) -> Between | None:
    """How sites differ in one score, mean over seeds."""
    if metric in LENGTHS and block.mixed_units:
        return None
    runs = by_run({site: judged.values(structure, metric) for site, judged in line.judged.items()})
    found = [between(run, LOWER if metric in LENGTHS else HIGHER) for run in runs.values()]
    return over_runs([one for one in found if one])


def _estimates(block: Block, line: Line, structure: str, metric: str) -> dict[str, Estimate]:
    """Place -> one score."""
    # The same draws for every method: intervals side by side differ by the scores alone.
    key = ("study interval", block.title, structure, metric)
    sites = {site: at_site(one, structure, metric, (*key, site)) for site, one in line.judged.items()}
    mean = over_sites(line.judged, sites, structure, metric, (*key, MEAN))
    if metric in LENGTHS and block.mixed_units:
        mean = replace(mean, mean=None, sd=None, low=None, high=None)
    return {**sites, MEAN: mean}
