"""Methods side by side: runs of one label averaged, and each label tested against the best on the same cases.

The tests are paired by case and take patients as independent: the Dice of a case is its mean over structures and over
the runs of the label, the Dice of a patient its mean over cases. They speak of these patients, not of what another
random start of the training would have given; the deviation over seeds says that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sammit.errors import UserError
from sammit.reporting.between import between, of_model
from sammit.reporting.cases import CaseScore
from sammit.reporting.statistics import Difference, holm, paired_difference, paired_wilcoxon, patient_means
from sammit.reporting.wording import scored_part

ALPHA = 0.05
"""Below this corrected p-value a difference is called significant."""

Place = tuple[str, bool]
"""A site, and whether it took no part in the training (unseen)."""

_CaseKey = tuple[Place, str, str]  # place, patient, case


@dataclass(frozen=True)
class Spread:
    """A mean over runs with its sample sd (None for a single run)."""

    mean: float | None
    sd: float | None


@dataclass
class Compared:
    """One label's line.

    Attributes:
        label: the method, or how the caller calls it.
        seeds: of its runs, in order.
        dice: Dice of the reported model by place.
        mean: unweighted mean Dice over the sites that took part; `unseen` over those that did not.
        worst, worst_site: lowest Dice of a site that took part (mean over runs), and the site it most often was.
        apart: standard deviation of Dice over the sites that took part, mean over runs.
        global_mean: mean Dice of the shared model on the same cases, where sites are reported with models of their own.
        shared, up_bytes, down_bytes: parameters that travel, bytes for each site and round; None where not known.
        best: whether its mean is the highest.
        difference: to the best, on the cases both have; None for the best itself or without cases in common.
        p: Wilcoxon's p-value against the best, after Holm's correction; None where not tested.
    """

    label: str
    seeds: list[int]
    dice: dict[Place, Spread]
    mean: Spread
    unseen: Spread
    worst: Spread
    worst_site: str | None
    apart: float | None
    global_mean: Spread
    shared: int | None
    up_bytes: float | None
    down_bytes: float | None
    best: bool = False
    difference: Difference | None = None
    p: float | None = None

    @property
    def moved_bytes(self) -> float | None:
        """Bytes up and down for each site and round; 0 where nothing is shared, None where it is not known."""
        known = [way for way in (self.up_bytes, self.down_bytes) if way is not None]
        return sum(known) if known else None

    @property
    def leading(self) -> float | None:
        """What stands for the label: the mean over sites that took part, or over the unseen where none has a score."""
        return self.unseen.mean if self.mean.mean is None else self.mean.mean

    @property
    def ranking(self) -> float:
        """What the best is chosen by."""
        return -math.inf if self.leading is None else self.leading


@dataclass(frozen=True)
class _Run:
    label: str
    summary: Mapping[str, Any]
    cases: Sequence[CaseScore] = field(default_factory=tuple)


def compare_runs(
    summaries: Sequence[tuple[str, Mapping[str, Any]]], cases: Sequence[Sequence[CaseScore]] = ()
) -> list[Compared]:
    """One entry for each label, in order of first appearance.

    Args:
        summaries: (label, `summary.json`); runs of one label (seeds, unseen sites) are averaged.
        cases: the rows of each run, in the same order; empty, or an empty entry, where a run has none.

    Raises:
        UserError: nothing to compare, or runs scored under different protocols.
    """
    if not summaries:
        raise UserError("no runs to compare: name at least one run folder")
    protocols = sorted({str(summary.get("protocol")) for _, summary in summaries})
    if len(protocols) > 1:
        raise UserError(f"runs scored under {' and '.join(protocols)} cannot share a table: compare one protocol")
    if len({scored_part(summary) for _, summary in summaries}) > 1:
        raise UserError("runs scored on validation and on test patients cannot share a table: compare one part")
    rows: list[Sequence[CaseScore]] = [*cases, *([()] * (len(summaries) - len(cases)))]
    groups: dict[str, list[_Run]] = {}
    for (label, summary), part in zip(summaries, rows, strict=True):
        groups.setdefault(label, []).append(_Run(label, summary, part))
    entries = [_averaged(label, runs) for label, runs in groups.items()]
    best = max(entries, key=lambda entry: entry.ranking)
    if math.isfinite(best.ranking):
        best.best = True
        _test_against(best, entries, {label: _case_dice(runs) for label, runs in groups.items()})
    return entries


def _averaged(label: str, runs: Sequence[_Run]) -> Compared:
    """The runs of one label as one entry, not yet tested."""
    summaries = [run.summary for run in runs]
    worst = [summary["worst_site"] for summary in summaries if summary.get("worst_site")]
    names = Counter(str(entry["site"]) for entry in worst)
    unseen = [_unseen_mean(summary) for summary in summaries]
    parameters = summaries[0].get("parameters") or {}
    sites = [between({site: float(entry["dice"]) for site, entry in s["sites"].items()}) for s in summaries]
    return Compared(
        label=label,
        seeds=sorted({int(summary.get("seed", 0)) for summary in summaries}),
        dice={place: _spread([_site_dice(s, place) for s in summaries]) for place in places(summaries)},
        mean=_spread([(summary.get("mean") or {}).get("dice") for summary in summaries]),
        unseen=_spread(unseen),
        worst=_spread([entry["dice"] for entry in worst]),
        worst_site=names.most_common(1)[0][0] if names else None,
        apart=_spread([one.sd for one in sites if one]).mean,
        global_mean=_spread([_beside(summary) for summary in summaries]),
        shared=parameters.get("shared"),
        up_bytes=_traffic(summaries, "up_bytes_per_site_round"),
        down_bytes=_traffic(summaries, "down_bytes_per_site_round"),
    )


def places(summaries: Sequence[Mapping[str, Any]]) -> list[Place]:
    """Every site of the runs, those that took part first, each group in order of first appearance."""
    seen = [(site, False) for summary in summaries for site in summary["sites"]]
    unseen = [(site, True) for summary in summaries for site in summary.get("unseen") or {}]
    return list(dict.fromkeys(seen + unseen))


def _site_dice(summary: Mapping[str, Any], place: Place) -> float | None:
    site, unseen = place
    entry = ((summary.get("unseen") or {}) if unseen else summary["sites"]).get(site)
    return None if entry is None else float(entry["dice"])


def _beside(summary: Mapping[str, Any]) -> float | None:
    """The global model's mean Dice over sites that took part; None where it is what is reported, or was not scored."""
    reported = {entry["reported"] for entry in summary["sites"].values()}
    shared = of_model(summary, "global") if "personal" in reported else None
    return shared.mean if shared else None


def _unseen_mean(summary: Mapping[str, Any]) -> float | None:
    values = [float(entry["dice"]) for entry in (summary.get("unseen") or {}).values()]
    return math.fsum(values) / len(values) if values else None


def _traffic(summaries: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return _spread([(summary.get("traffic") or {}).get(name) for summary in summaries]).mean


def _spread(values: Sequence[float | None]) -> Spread:
    """Mean and sample sd over the runs that have the value."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return Spread(None, None)
    mean = math.fsum(known) / len(known)
    rest = math.fsum((value - mean) ** 2 for value in known)
    return Spread(mean, math.sqrt(rest / (len(known) - 1)) if len(known) > 1 else None)


def _case_dice(runs: Sequence[_Run]) -> dict[_CaseKey, float]:
    """The reported model's Dice of each case: its mean over structures and over the label's runs."""
    gathered: dict[_CaseKey, list[float]] = {}
    for run in runs:
        unseen = run.summary.get("unseen") or {}
        reported = {site: entry["reported"] for site, entry in {**run.summary["sites"], **unseen}.items()}
        for row in run.cases:
            dice = row.scores.get("dice")
            if dice is not None and reported.get(row.site) == row.model:
                gathered.setdefault(((row.site, row.site in unseen), row.patient, row.case), []).append(dice)
    return {key: math.fsum(values) / len(values) for key, values in gathered.items()}


def _test_against(best: Compared, entries: Sequence[Compared], scores: Mapping[str, Mapping[_CaseKey, float]]) -> None:
    """Fill in `difference` and `p` of every entry but the best."""
    tested: list[Compared] = []
    raw: list[float] = []
    for entry in entries:
        common = sorted(scores[entry.label].keys() & scores[best.label].keys())
        if entry is best or not common:
            continue
        ours = [scores[entry.label][key] for key in common]
        theirs = [scores[best.label][key] for key in common]
        patients = [key[:2] for key in common]
        entry.difference = paired_difference(ours, theirs, patients, ("difference", entry.label, best.label))
        raw.append(paired_wilcoxon(patient_means(ours, patients), patient_means(theirs, patients)))
        tested.append(entry)
    for entry, p in zip(tested, holm(raw), strict=True):
        entry.p = p
