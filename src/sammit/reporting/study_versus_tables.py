"""A study's comparisons for a reader: against the best, against the reference, and federated minus centralised."""

from __future__ import annotations

from collections.abc import Sequence

from sammit.reporting import wording
from sammit.reporting.comparison import ALPHA
from sammit.reporting.rendering import Cell, Table
from sammit.reporting.study_against import Against, Gap
from sammit.reporting.study_results import Result
from sammit.reporting.study_sentences import MISSING
from sammit.reporting.study_versus import Versus


def ranking_table(result: Result) -> Table | None:
    """Each method against the best; None where there is nothing to compare."""
    best = result.ranking.best
    if best is None or not result.ranking.others:
        return None
    label = result.block.labels[best]
    columns = (("method", "Method"), ("difference", f"Dice minus {label}'s [95 %]"), ("p_holm", "Wilcoxon, Holm"),
               ("verdict", "Verdict"))  # fmt: skip
    rows = tuple(
        (Cell(result.block.labels[method], method), *_versus(versus), Cell(_verdict(versus), _verdict(versus)))
        for method, versus in result.ranking.others.items()
    )
    notes = (
        "The difference is over cases, each its mean over seeds and structures, with an interval that resamples "
        "patients; the test is Wilcoxon's signed-rank test on patients' means, all sites pooled, with Holm's "
        f"correction over the methods. n = {_sizes(list(result.ranking.others.values()))}.",
    )
    return Table(f"{result.block.title}: each method against {label}, the highest mean.", columns, rows, notes)


def _versus(versus: Versus | None) -> tuple[Cell, Cell]:
    if versus is None:
        return Cell(MISSING, None), Cell(wording.NONE, None)
    gap = versus.pooled
    return (
        Cell(wording.score_with_interval(gap.mean, gap.low, gap.high), gap.mean),
        Cell(wording.p_value(versus.p), versus.p),
    )


def _verdict(versus: Versus | None) -> str:
    if versus is None:
        return "not tested, as cells are missing"
    if versus.p >= ALPHA:
        return "no significant difference"
    words = {-1: "lower", 1: "higher", 0: "different, but mean and ranks point apart"}
    return words[versus.direction]


def _sizes(all_versus: Sequence[Versus | None]) -> str:
    """Patients and cases behind comparisons, in words."""
    known = [one for one in all_versus if one]
    if not known:
        return wording.plural(0, "patient")
    patients, cases = ({one.patients for one in known}, {one.pooled.cases for one in known})
    return f"{_span(patients)} patients ({_span(cases)} cases)"


def _span(numbers: set[int]) -> str:
    return " to ".join(str(number) for number in sorted({min(numbers), max(numbers)}))


def against_table(result: Result) -> Table | None:
    """Each method against the reference, in the mean and at the worst site; None without a reference."""
    if not result.against:
        return None
    label = result.block.labels[result.reference]
    columns = (("method", "Method"), ("mean", "Mean over sites [95 %]"), ("mean_p", "Wilcoxon, Holm"),
               ("mean_verdict", "Verdict"), ("worst", "Worst site [95 %]"), ("worst_p", "Wilcoxon, Holm"),
               ("worst_verdict", "Verdict"), ("sends_no_more", "Sends no more bytes"))  # fmt: skip
    rows = tuple(
        (
            Cell(result.block.labels[one.method], one.method),
            *_gap(one.mean),
            *_gap(one.worst),
            _thrifty(one),
        )
        for one in result.against
    )
    notes = (
        f"Each method minus {label}, in Dice, mean over the seeds that both have; the worst site is each method's own, "
        "in each run. The interval resamples the patients of each site, with all their cases and seeds.",
        "The test is Wilcoxon's signed-rank test on patients' means, with Holm's correction over the methods: on all "
        "patients for the mean, on those of the sites that are the worst of a run under either method for the worst "
        f"site. Better and worse, than {label}, is what interval and test both say.",
        f"Sends no more bytes: up, for a site and a round, than {label}; 0.1 % is taken as no more.",
    )
    return Table(f"{result.block.title}: each method against {label}.", columns, rows, notes)


def _gap(gap: Gap | None) -> tuple[Cell, Cell, Cell]:
    if gap is None:
        return Cell(MISSING, None), Cell(wording.NONE, None), Cell("not tested, as cells are missing", "")
    text = wording.score_with_interval(gap.apart.difference, gap.apart.low, gap.apart.high)
    told = gap.verdict != "not significant"
    return (
        Cell(text, gap.apart.difference),
        Cell(wording.p_value(gap.p), gap.p),
        Cell(gap.verdict, gap.verdict, strong=told),
    )


def _thrifty(one: Against) -> Cell:
    text = wording.NONE if one.thrifty is None else "yes" if one.thrifty else "no"
    return Cell(text, text)


def pairs_table(result: Result) -> Table | None:
    """Federated minus centralised with the verdict; None without pairs."""
    if not result.pairs:
        return None
    margin = wording.score(result.margin)
    columns = (("pair", "Federated minus centralised"), ("difference", "Dice [95 %]"), ("p_holm", "Wilcoxon, Holm"),
               ("verdict", f"Verdict (margin {margin})"), ("cases", "Cases"), ("patients", "Patients"))  # fmt: skip
    labels = result.block.labels
    rows = tuple(
        (
            Cell(f"{labels[pair.federated]} minus {labels[pair.centralised]}", pair.federated),
            *_versus(pair.versus),
            Cell(pair.verdict or MISSING, pair.verdict, strong=pair.verdict is not None),
            *(Cell(str(n), n) if pair.versus else Cell(wording.NONE, None) for n in _counts(pair.versus)),
        )
        for pair in result.pairs
    )
    note = (
        "Differences are paired by case, each its mean over seeds and structures, over the cases of all sites; the "
        f"interval resamples patients. Non-inferior: its lower end lies above -{margin}; superior: above 0, and the "
        f"test agrees; inferior: its upper end lies below -{margin}; inconclusive otherwise. Holm's correction is over "
        "the pairs."
    )
    return Table(f"{result.block.title}: federated minus centralised.", columns, rows, (note,))


def _counts(versus: Versus | None) -> tuple[int, int]:
    return (versus.pooled.cases, versus.patients) if versus else (0, 0)
