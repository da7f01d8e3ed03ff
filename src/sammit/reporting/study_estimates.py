"""What a study's scores come to: a method at a site, and over all sites, with the spread over seeds and an interval.

Cells that are missing change nothing but the numbers that would have come from them: a site without any finished cell
has no score, and a method that lacks a site has no mean over sites.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sammit.reporting.statistics import Key, groups_bootstrap, patient_bootstrap
from sammit.reporting.study_scores import CaseKey, Judged


@dataclass(frozen=True)
class Estimate:
    """A mean with what stands behind it.

    Attributes:
        mean: over cases, then over seeds (then over sites); None where a cell is missing or no case has a value.
        sd: sample standard deviation over seeds of the same mean; None with fewer than two seeds.
        low, high: ends of the 95 % interval over patients, of the scores averaged over seeds; None where there is none.
        cases, patients: whose scores these are.
        undefined: cases without a value under at least one seed.
        seeds: those that have the mean.
        missing: cells that the study asks for and that are not there, such as "seed 1" or "TNBC, seed 1".
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    cases: int
    patients: int
    undefined: int
    seeds: tuple[int, ...]
    missing: tuple[str, ...]

    @property
    def absent(self) -> bool:
        """Whether there is no value because no cell is there, and not because no case has one."""
        return self.mean is None and bool(self.missing)


def at_site(judged: Judged, structure: str, metric: str, key: Key) -> Estimate:
    """One score at one site.

    Args:
        judged: whose.
        structure, metric: which score.
        key: names the bootstrap's draws.
    """
    by_seed = judged.values(structure, metric)
    means = _means(by_seed)
    cases = {case for values in by_seed.values() for case in values}
    averaged = over_seeds(by_seed)
    low, high = patient_bootstrap(list(averaged.values()), [patient for patient, _ in averaged], key)
    return Estimate(
        mean=_mean(means.values()),
        sd=_sd(means.values()),
        low=_finite(low),
        high=_finite(high),
        cases=len(cases),
        patients=len({patient for patient, _ in cases}),
        undefined=sum(any(values.get(case, 0.0) is None for values in by_seed.values()) for case in cases),
        seeds=tuple(means),
        missing=tuple(f"seed {seed}" for seed in judged.missing),
    )


def over_sites(
    sites: Mapping[str, Judged], parts: Mapping[str, Estimate], structure: str, metric: str, key: Key
) -> Estimate:
    """The mean over sites, every site alike; the deviation is of the means of those seeds that have every site.

    Args:
        sites: by name, at least one.
        parts: what `at_site` made of each.
        structure, metric, key: as in `at_site`.
    """
    parts = dict(sorted(parts.items()))
    values = {site: judged.values(structure, metric) for site, judged in sorted(sites.items())}
    by_seed = by_run(values)
    whole = all(part.mean is not None for part in parts.values())
    averaged = {site: over_seeds(one) for site, one in values.items()}
    groups = {site: (list(one.values()), [patient for patient, _ in one]) for site, one in averaged.items()}
    low, high = groups_bootstrap(groups if whole else {}, key)
    return Estimate(
        mean=_mean([part.mean for part in parts.values()]) if whole else None,
        sd=_sd(_mean(run.values()) for run in by_seed.values()) if whole else None,
        low=_finite(low),
        high=_finite(high),
        cases=sum(part.cases for part in parts.values()),
        patients=sum(part.patients for part in parts.values()),
        undefined=sum(part.undefined for part in parts.values()),
        seeds=tuple(by_seed) if whole else (),
        missing=tuple(f"{site}, {cell}" for site, part in parts.items() for cell in part.missing),
    )


def by_run(sites: Mapping[str, Mapping[int, Mapping[CaseKey, float | None]]]) -> dict[int, dict[str, float]]:
    """Seed -> site -> mean over cases, for the seeds under which every site has one.

    Args:
        sites: name -> what `Judged.values` gave.
    """
    means = {site: _means(by_seed) for site, by_seed in sites.items()}
    seeds = sorted(set.intersection(*map(set, means.values()))) if means else []
    return {seed: {site: means[site][seed] for site in means} for seed in seeds}


def over_seeds(by_seed: Mapping[int, Mapping[CaseKey, float | None]]) -> dict[CaseKey, float]:
    """Each case's mean over the seeds under which it has a value, in order of the cases' names."""
    gathered: dict[CaseKey, list[float]] = {}
    for values in by_seed.values():
        for case, value in values.items():
            if value is not None:
                gathered.setdefault(case, []).append(value)
    return {case: math.fsum(found) / len(found) for case, found in sorted(gathered.items())}


def _means(by_seed: Mapping[int, Mapping[CaseKey, float | None]]) -> dict[int, float]:
    """Seed -> mean over the cases that have a value; a seed without any is left out."""
    known = {seed: [v for v in values.values() if v is not None] for seed, values in by_seed.items()}
    return {seed: math.fsum(values) / len(values) for seed, values in known.items() if values}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _sd(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    mean = math.fsum(known) / len(known)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
