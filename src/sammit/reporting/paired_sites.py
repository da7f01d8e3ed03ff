"""Two methods on the same patients of several sites: how far apart a number over sites is, with its interval.

The number is the mean over sites or the worst site, taken in each run (seed) and averaged over runs. Every draw of the
bootstrap resamples the patients of each site within the site, and takes a patient with all cases, under all seeds and
both methods, so that neither a patient's many cases nor several seeds count as more patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

from sammit.randomness import generator
from sammit.reporting.statistics import Key

if TYPE_CHECKING:
    import numpy as np

Pairs = Mapping[tuple[int, str, str, str], tuple[float, float]]
"""(seed, site, patient, case) -> the scores of the two methods, higher is better; every seed has every site."""

OverSites = Callable[..., Any]
"""numpy.mean or numpy.min, over the axis of sites."""


@dataclass(frozen=True)
class Apart:
    """One method's number minus the other's.

    Attributes:
        difference: above 0 where the first is higher.
        low, high: ends of the interval; NaN where a site has fewer than two patients.
    """

    difference: float
    low: float
    high: float


def apart(pairs: Pairs, over_sites: OverSites, key: Key, draws: int = 2000, level: float = 0.95) -> Apart:
    """The difference of a number over sites between two methods.

    Args:
        pairs: at least one.
        over_sites: what is made of the sites' means in a run.
        key: names the draws.
        draws, level: of the percentile interval.
    """
    import numpy as np

    sites = [_Site.of(pairs, site) for site in sorted({site for _, site, _, _ in pairs})]
    ours, theirs = (_over(sites, which, None, over_sites) for which in (0, 1))
    difference = float(ours[0] - theirs[0])
    if min(len(site.patients) for site in sites) < 2:
        return Apart(difference, nan, nan)
    drawn = [site.draw(key, draws) for site in sites]
    gaps = _over(sites, 0, drawn, over_sites) - _over(sites, 1, drawn, over_sites)
    low, high = np.quantile(gaps[np.isfinite(gaps)], [(1 - level) / 2, (1 + level) / 2])
    return Apart(difference, float(low), float(high))


@dataclass(frozen=True)
class _Site:
    """One site's scores, summed by seed and patient.

    Attributes:
        name: its name.
        patients: names, P of them.
        sums: for each of the two methods (S, P).
        cases: (S, P) cases of each patient under each seed; 0 where the patient was not scored under it.
    """

    name: str
    patients: Sequence[str]
    sums: tuple[np.ndarray, np.ndarray]
    cases: np.ndarray

    @classmethod
    def of(cls, pairs: Pairs, name: str) -> _Site:
        """The scores of one site."""
        import numpy as np

        seeds = {seed: place for place, seed in enumerate(sorted({seed for seed, _, _, _ in pairs}))}
        own = {key: pair for key, pair in pairs.items() if key[1] == name}
        patients = {patient: place for place, patient in enumerate(sorted({key[2] for key in own}))}
        sums, cases = np.zeros((2, len(seeds), len(patients))), np.zeros((len(seeds), len(patients)))
        for (seed, _, patient, _), pair in own.items():
            place = seeds[seed], patients[patient]
            sums[:, *place] += pair
            cases[place] += 1
        return cls(name, list(patients), (sums[0], sums[1]), cases)

    def draw(self, key: Key, draws: int) -> np.ndarray:
        """(draws, P) how often each patient is taken."""
        count = len(self.patients)
        taken: np.ndarray = generator(*key, self.name).multinomial(count, [1 / count] * count, size=draws)
        return taken


def _over(sites: Sequence[_Site], which: int, drawn: Sequence[np.ndarray] | None, over_sites: OverSites) -> np.ndarray:
    """(draws,) the number over sites of one method, mean over seeds; NaN where a draw leaves a seed without a case."""
    import numpy as np

    taken = drawn or [np.ones((1, len(site.patients))) for site in sites]
    with np.errstate(invalid="ignore"):  # 0 / 0
        means = [site.sums[which] @ times.T / (site.cases @ times.T) for site, times in zip(sites, taken, strict=True)]
    runs: np.ndarray = np.mean(over_sites(np.stack(means), axis=0), axis=0)
    return runs


def worst_sites(pairs: Pairs) -> set[str]:
    """The sites that are the worst of some run under either method."""
    found: set[str] = set()
    for which in (0, 1):
        for seed in {seed for seed, _, _, _ in pairs}:
            scores: dict[str, list[float]] = {}
            for (own, site, _, _), pair in pairs.items():
                if own == seed:
                    scores.setdefault(site, []).append(pair[which])
            found.add(min(sorted(scores), key=lambda site: math.fsum(scores[site]) / len(scores[site])))
    return found
