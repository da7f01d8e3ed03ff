"""Methods of a study against each other on the same cases: each against the best, and federated minus centralised.

Tests are paired by case and take patients as independent: the Dice of a case is its mean over structures and seeds,
that of a patient its mean over cases, and the patients of all sites are pooled. Holm's correction is over all the
comparisons that the study asks for: one that cannot be made yet counts as a p-value of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sammit.errors import UserError, nearest
from sammit.reporting.comparison import ALPHA
from sammit.reporting.noninferiority import Verdict, judge
from sammit.reporting.statistics import (
    Difference,
    holm,
    paired_difference,
    paired_wilcoxon,
    patient_means,
    rank_direction,
)
from sammit.reporting.study_estimates import Estimate, over_seeds
from sammit.reporting.study_scores import Block

_Case = tuple[str, str, str]  # site, patient, case


@dataclass(frozen=True)
class Versus:
    """One method minus another, in Dice.

    Attributes:
        pooled: over the cases of all sites, every case alike.
        sites: over those of each site.
        patients: how many stand behind the test.
        p: Wilcoxon's p-value on patients, after Holm's correction.
        direction: 1 where both the mean over patients and the ranks are higher, -1 where both are lower, else 0.
    """

    pooled: Difference
    sites: Mapping[str, Difference]
    patients: int
    p: float
    direction: int


@dataclass(frozen=True)
class Ranking:
    """Every method against the best.

    Attributes:
        best: the method with the highest mean Dice over sites; None where no method has every site.
        others: each other method minus the best; None where cells are missing.
        outright: whether the best is significantly better than every other method of the study.
    """

    best: str | None
    others: Mapping[str, Versus | None]
    outright: bool


@dataclass(frozen=True)
class Pair:
    """A federated method minus its centralised counterpart; no difference and no verdict where cells are missing."""

    federated: str
    centralised: str
    versus: Versus | None
    verdict: Verdict | None


def rank(block: Block, means: Mapping[str, Estimate]) -> Ranking:
    """Each method against the best.

    Args:
        block: the scores.
        means: method -> mean Dice over sites, of the block's headline structure.
    """
    known = {method: one.mean for method, one in means.items() if one.mean is not None}
    if not known:
        return Ranking(None, dict.fromkeys(block.labels), False)
    best = max(known, key=lambda method: (known[method], method))
    others = [method for method in block.labels if method != best]
    found = dict(zip(others, _corrected([_versus(block, method, best) for method in others]), strict=True))
    outright = all(one is not None and one.p < ALPHA and one.direction < 0 for one in found.values())
    return Ranking(best, found, outright and bool(found))


def compare_pairs(block: Block, pairs: Sequence[tuple[str, str]], margin: float) -> list[Pair]:
    """Federated minus centralised for the pairs whose methods are in the block.

    Args:
        block: the scores.
        pairs: (federated, centralised), keys of methods.
        margin: of non-inferiority, above 0.
    """
    own = [pair for pair in pairs if set(pair) <= set(block.labels)]
    found = _corrected([_versus(block, *pair) for pair in own])
    verdicts = [judge(one.pooled.low, one.pooled.high, margin, one.p) if one else None for one in found]
    return [Pair(*pair, one, verdict) for pair, one, verdict in zip(own, found, verdicts, strict=True)]


def check_pairs(pairs: Sequence[tuple[str, str]], methods: Sequence[str]) -> None:
    """Raise UserError where a pair names a method that the study does not have, or one method twice."""
    for pair in pairs:
        where = f"pair {' / '.join(pair)}"
        for name in pair:
            if name not in methods:
                raise UserError(f"{where}: the study has no method '{name}': {nearest(name, list(methods))}")
        if pair[0] == pair[1]:
            raise UserError(f"{where}: a method cannot be its own counterpart; name another")


def check_reference(reference: str, methods: Sequence[str]) -> None:
    """Raise UserError where the reference is no method of the study."""
    if reference and reference not in methods:
        known = list(dict.fromkeys(methods))
        raise UserError(f"reference: the study has no method '{reference}': {nearest(reference, known)}")


def _versus(block: Block, method: str, other: str) -> Versus | None:
    """One method minus another, p not yet corrected; None where either lacks a site."""
    ours, theirs = (_case_dice(block, one) for one in (method, other))
    common = sorted(ours.keys() & theirs.keys())
    if {site for site, _, _ in common} != set(block.sites) or not common:
        return None
    a, b, patients = [ours[c] for c in common], [theirs[c] for c in common], [case[:2] for case in common]
    key = ("study difference", block.title, method, other)
    means = patient_means(a, patients), patient_means(b, patients)
    gap = math.fsum(means[0]) - math.fsum(means[1])
    ranks = rank_direction(*means)
    return Versus(
        pooled=paired_difference(a, b, patients, key),
        sites={site: _at(site, common, a, b, key) for site in block.sites},
        patients=len(set(patients)),
        p=paired_wilcoxon(*means),
        direction=ranks if ranks * gap > 0 else 0,
    )


def _at(site: str, cases: Sequence[_Case], a: Sequence[float], b: Sequence[float], key: tuple[str, ...]) -> Difference:
    """The difference over the cases of one site."""
    own = [i for i, case in enumerate(cases) if case[0] == site]
    return paired_difference([a[i] for i in own], [b[i] for i in own], [cases[i][1] for i in own], (*key, site))


def _case_dice(block: Block, method: str) -> dict[_Case, float]:
    """Dice of each case under the method's reported model, mean over structures and seeds."""
    return {
        (site, *case): dice
        for site in block.sites
        for case, dice in over_seeds(block.judged[method, site].values(block.headline, "dice")).items()
    }


def _corrected(found: Sequence[Versus | None]) -> list[Versus | None]:
    """The same with p-values after Holm's correction over all, made or not."""
    corrected = holm([1.0 if one is None else one.p for one in found])
    return [one and replace(one, p=p) for one, p in zip(found, corrected, strict=True)]
