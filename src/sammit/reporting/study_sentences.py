"""What a study's report says in words: what was run, which method is best, what federating costs, what to doubt."""

from __future__ import annotations

from collections.abc import Sequence

from sammit.reporting import wording
from sammit.reporting.noninferiority import in_words
from sammit.reporting.rendering import Cell
from sammit.reporting.sentences import FEW_PATIENTS
from sammit.reporting.study_against import tally
from sammit.reporting.study_cells import StudyCell
from sammit.reporting.study_results import Result
from sammit.reporting.study_versus import Pair

MISSING = "missing"
UNDEFINED = "undefined"
PARTLY = "†"


def what_ran(results: Sequence[Result]) -> str:
    """One sentence: methods, datasets, sites, seeds, and how many of the runs are there."""
    cells = sum(len(result.block.cells) for result in results)
    there = sum(len(result.block.finished) for result in results)
    methods = dict.fromkeys(label for result in results for label in result.block.labels.values())
    where = wording.listed([f"{result.block.title} ({result.sites_in_words})" for result in results])
    seeds = sorted({seed for result in results for seed in result.seeds})
    named = f"{'seed' if len(seeds) == 1 else 'seeds'} {wording.listed([str(seed) for seed in seeds])}"
    count = f"All {cells} runs are" if there == cells else f"{there} of {cells} runs are"
    return f"{wording.plural(len(methods), 'method')} on {where}, {named}. {count} there."


def best(result: Result) -> str:
    """Which method has the highest mean, and whether that means anything."""
    name = result.ranking.best
    if name is None:
        return bold_note(result)
    line = next(line for line in result.lines if line.method == name)
    one = result.headline(line)
    apart = result.between(line, result.block.headline, "dice")
    score = wording.score_with_sd(one.mean, one.sd)
    below = f" Its worst site is {apart.worst_site} with {wording.score(apart.worst)}." if apart else ""
    return (
        f"{line.label} has a mean Dice of {score} over {result.sites_in_words}, 95 % interval "
        f"{wording.interval(one.low, one.high)}.{below} {bold_note(result)}"
    )


def verdict(result: Result, pair: Pair) -> str:
    """Federated minus centralised in a sentence."""
    ours, theirs = (result.block.labels[name] for name in (pair.federated, pair.centralised))
    if pair.versus is None:
        return f"{ours} minus {theirs} waits for missing cells."
    gap = pair.versus.pooled
    difference = wording.score_with_interval(gap.mean, gap.low, gap.high)
    said = in_words(gap, result.margin, pair.versus.p)
    return (
        f"{ours} minus {theirs} is {difference} Dice "
        f"({wording.p_value(pair.versus.p)}, n = {pair.versus.patients}): {ours} {said}."
    )


def against(result: Result) -> str:
    """How many methods are better and worse than the reference, and how that looks among those that send no more."""
    if not result.against:
        return ""
    label = result.block.labels[result.reference]
    mean, worst = tally(result.against, "mean"), tally(result.against, "worst")
    told = [
        f"{counts['worse']} of {sum(counts.values())} other methods are worse than {label} {where} and "
        f"{counts['better']} better"
        for counts, where in ((mean, "in the mean over sites"), (worst, "at the worst site"))
    ]
    thrifty = [one for one in result.against if one.thrifty]
    better = [result.block.labels[one.method] for one in thrifty if one.mean and one.mean.verdict == "better"]
    said = f"better in the mean: {wording.listed(better)}" if better else "none is better in the mean"
    fewer = f" Of the {len(thrifty)} that send no more bytes, {said}." if thrifty else ""
    open_ones = " The others cannot be told from it." if mean["not significant"] + worst["not significant"] else ""
    return f"{told[0]}; {told[1]}.{open_ones}{fewer}"


def doubts(result: Result) -> list[str]:
    """Sites with few patients."""
    counts = {site: result.count(site)[1] for site in result.block.sites}
    few = [f"{site} ({wording.plural(n, 'patient')})" for site, n in counts.items() if 0 < n < FEW_PATIENTS]
    if not few:
        return []
    return [
        f"Few test patients at {wording.listed(few)}. Such a mean moves with one patient more or "
        "less, and its interval is too narrow rather than too wide."
    ]


def sizes(result: Result) -> str:
    """How many cases and patients stand behind each site's scores."""
    counts = {site: result.count(site) for site in result.block.sites}
    each = [f"{site} {cases} ({patients})" for site, (cases, patients) in counts.items()]
    return f"Scored cases (patients): {', '.join(each)}." if each else ""


def missing(cells: Sequence[StudyCell]) -> str:
    """What missing cells mean; "" where there are none."""
    if not cells:
        return ""
    verb = "cell has" if len(cells) == 1 else "cells have"
    return f"{len(cells)} {verb} no finished run. They are shown as missing, enter no number, and are listed below."


def score_notes(result: Result, metrics: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """What a reader must know to read the scores."""
    texts = [cell.text for cells in rows for cell in cells]
    notes = [
        f"Seeds {wording.listed([str(seed) for seed in result.seeds])}; the mean over sites weighs every site alike, "
        "± is its standard deviation over seeds; the interval resamples patients within each site.",
        "The worst site is that of each run, its score the mean over seeds, its name the one that is worst most often; "
        "the spread is the standard deviation over sites, mean over seeds.",
    ]
    if "dice" in metrics:
        notes.append(bold_note(result))
    if any(PARTLY in text for text in texts):
        notes.append(f"{PARTLY}: some seeds are missing; the number is over those that are there.")
    if any(text == MISSING for text in texts):
        notes.append(f"{MISSING}: no finished run; a mean over sites needs every site.")
    if any(UNDEFINED in text for text in texts):
        notes.append(
            f"{UNDEFINED}: cases without a distance under at least one seed, because the truth or the prediction is "
            "empty; the mean leaves them out."
        )
    return notes + unit_notes(result, metrics) + paper_notes(result) + rule_notes(result)


def bold_note(result: Result) -> str:
    """Whether the best stands out, and on how many patients that rests."""
    ranking = result.ranking
    if ranking.best is None:
        return "No method has a score at every site yet, so none is called best."
    if not ranking.others:
        return "There is one method only, so none is called best."
    label = result.block.labels[ranking.best]
    sizes = [one.patients for one in ranking.others.values() if one]
    n = f"n = {wording.plural(max(sizes), 'patient')} at {result.sites_in_words}" if sizes else "n = 0"
    if ranking.outright:
        return f"Bold: {label} has the highest mean Dice and is significantly better than every other method ({n})."
    if any(one is None for one in ranking.others.values()):
        return (
            f"{label} has the highest mean Dice so far; nothing is bold, as methods with missing cells were not tested."
        )
    return f"{label} has the highest mean Dice, but not significantly above every other; nothing is bold ({n})."


def paper_notes(result: Result) -> list[str]:
    """What the numbers in parentheses are; [] without a paper."""
    block, paper = result.block, result.paper
    if not paper.numbers:
        return []
    if not result.any_printed:
        return ["The paper has no number for this dataset under these methods' labels."]
    notes = ["In parentheses: the number that the paper printed."]
    if block.protocol == "fedfms":
        notes.append("Both follow FedFMS's scoring.")
    else:
        notes.append(
            "The paper scored in another way (thresholds on raw logits at 256 pixels, slice by slice), so its numbers "
            "are there for orientation and do not compare."
        )
    lost = [site for site in block.sites if not paper.knows(block.dataset, site)]
    return notes + ([f"The paper has no number for {wording.listed(lost)}."] if lost else [])


def unit_notes(result: Result, metrics: Sequence[str]) -> list[str]:
    """The unit of distances where sites have different ones."""
    if not result.block.mixed_units or not {"hd95", "assd"} & set(metrics):
        return []
    each = wording.listed([f"{site} in {unit}" for site, unit in result.block.units.items()])
    return [f"Distances are in different units ({each}), so they have no mean over sites."]


def rule_notes(result: Result) -> list[str]:
    """How unseen sites were judged, methods of one rule together."""
    rules: dict[str, list[str]] = {}
    for line in result.lines:
        if line.rule:
            rules.setdefault(line.rule, []).append(line.label)
    return [f"Judged at an unseen site by {rule}: {wording.listed(labels)}." for rule, labels in rules.items()]
