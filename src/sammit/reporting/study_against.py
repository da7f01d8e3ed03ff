"""Every method of a study against one of them, the reference, in the mean over sites and at the worst site.

Compared are the cases that both have under the same seeds. The interval is `paired_sites`'s; the test is Wilcoxon's, on
patients' means over cases and seeds, with Holm's correction over the methods: for the mean the patients of all sites,
for the worst site those of the sites that are the worst of some run under either method, for the two need not agree on
it. A verdict needs both to say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sammit.reporting.comparison import ALPHA
from sammit.reporting.paired_sites import Apart, OverSites, Pairs, apart, worst_sites
from sammit.reporting.statistics import holm, paired_wilcoxon, patient_means, rank_direction
from sammit.reporting.study_costs import costs_of
from sammit.reporting.study_scores import Block

Verdict = Literal["better", "worse", "not significant"]


@dataclass(frozen=True)
class Gap:
    """A method's number minus the reference's, in Dice.

    Attributes:
        apart: the difference with its 95 % interval.
        p: Wilcoxon's, after Holm's correction.
        direction: 1 where the patients' ranks are higher, -1 where they are lower, else 0.
        patients: how many stand behind the test.
    """

    apart: Apart
    p: float
    direction: int
    patients: int

    @property
    def verdict(self) -> Verdict:
        """What interval and test both say."""
        if self.p < ALPHA and self.direction > 0 and self.apart.low > 0:
            return "better"
        if self.p < ALPHA and self.direction < 0 and self.apart.high < 0:
            return "worse"
        return "not significant"


@dataclass(frozen=True)
class Against:
    """One method against the reference.

    Attributes:
        method: its key.
        mean, worst: of the mean over sites and of the worst site; None where no seed has every site under both.
        seeds: those that both have whole.
        up: bytes that a site sends in a round; `thrifty` whether that is no more than under the reference; None where
            not known.
    """

    method: str
    mean: Gap | None
    worst: Gap | None
    seeds: tuple[int, ...]
    up: float | None
    thrifty: bool | None


def against_reference(block: Block, reference: str) -> list[Against]:
    """Every other method of a block against the reference; [] where the block does not have it."""
    if reference not in block.labels:
        return []
    import numpy as np

    others = [method for method in block.labels if method != reference]
    pairs = [_pairs(block, method, reference) for method in others]
    means = _corrected([_gap(one, np.mean, _key(block, "mean")) for one in pairs])
    worst = _corrected([_gap(one, np.min, _key(block, "worst"), worst_sites(one)) for one in pairs])
    base = costs_of(block.summaries(reference))
    costs = [costs_of(block.summaries(method)) for method in others]
    return [
        Against(method, mean, low, tuple(sorted({key[0] for key in pair})), cost.up, cost.sends_no_more_than(base))
        for method, mean, low, pair, cost in zip(others, means, worst, pairs, costs, strict=True)
    ]


def _key(block: Block, what: str) -> tuple[str, ...]:
    # The same draws for every method: intervals side by side differ by the scores alone.
    return "study against", block.title, what


def _pairs(block: Block, method: str, reference: str) -> dict[tuple[int, str, str, str], tuple[float, float]]:
    """The cases that both have, under the seeds that have cases at every site."""
    sites = {site: (_scores(block, method, site), _scores(block, reference, site)) for site in block.sites}
    both = {
        (seed, site, *case): (ours[seed][case], theirs[seed][case])
        for site, (ours, theirs) in sites.items()
        for seed in ours.keys() & theirs.keys()
        for case in ours[seed].keys() & theirs[seed].keys()
    }
    places: dict[int, set[str]] = {}
    for seed, site, _, _ in both:
        places.setdefault(seed, set()).add(site)
    return {key: pair for key, pair in sorted(both.items()) if places[key[0]] == set(block.sites)}


def _scores(block: Block, method: str, site: str) -> dict[int, dict[tuple[str, str], float]]:
    """Seed -> (patient, case) -> Dice of the model that stands for the method."""
    found = block.judged[method, site].values(block.headline, "dice")
    return {seed: {case: dice for case, dice in cases.items() if dice is not None} for seed, cases in found.items()}


def _gap(pairs: Pairs, over_sites: OverSites, key: tuple[str, ...], tested: set[str] | None = None) -> Gap | None:
    """One difference, p not yet corrected; the test takes the patients of the `tested` sites, or of all."""
    if not pairs:
        return None
    ours, theirs = _by_patient({k: pair for k, pair in pairs.items() if tested is None or k[1] in tested})
    return Gap(apart(pairs, over_sites, key), paired_wilcoxon(ours, theirs), rank_direction(ours, theirs), len(ours))


def _by_patient(pairs: Pairs) -> tuple[list[float], list[float]]:
    """Each patient's mean under both methods: over seeds for each case, then over cases."""
    cases: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for (_, *case), pair in pairs.items():
        cases.setdefault((case[0], case[1], case[2]), []).append(pair)
    patients = [case[:2] for case in cases]
    ours, theirs = ([sum(pair[which] for pair in own) / len(own) for own in cases.values()] for which in (0, 1))
    return patient_means(ours, patients), patient_means(theirs, patients)


def _corrected(found: Sequence[Gap | None]) -> list[Gap | None]:
    """The same with p-values after Holm's correction over all; one that cannot be made yet counts as 1."""
    corrected = holm([1.0 if one is None else one.p for one in found])
    return [one and replace(one, p=p) for one, p in zip(found, corrected, strict=True)]


def tally(found: Sequence[Against], over: Literal["mean", "worst"]) -> Mapping[Verdict, int]:
    """How many methods are better and worse than the reference, and how many cannot be told from it."""
    gaps = [gap for one in found if (gap := getattr(one, over)) is not None]
    verdicts: tuple[Verdict, ...] = ("better", "worse", "not significant")
    return {verdict: sum(gap.verdict == verdict for gap in gaps) for verdict in verdicts}
