"""What a report says in words about a run: what was run, what is worst, what is undefined, what to doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sammit.reporting import wording
from sammit.reporting.cases import LABELS
from sammit.reporting.folder import Round, RunFolder

FEW_PATIENTS = 20
"""Below this number of test patients a site's interval is itself uncertain, and a report says so."""

_MISSING = {
    "cases": "There are no per-case rows here (cases.csv): in a deployed run they stay at the sites.",
    "rounds": "There is no record of the rounds here (rounds.jsonl), so there are no curves.",
    "router": "There is no record of router use (router.json): the model has no mixture of experts, or none was kept.",
    "pictures": "There are no case pictures here: in a deployed run they stay at the sites.",
    "environment": "Versions and hashes were not recorded here (environment.json).",
    "config": "The effective configuration was not kept here (config.toml).",
}
_UNSEEN = "There are no case pictures here: they are of test cases, and only validation patients were scored."


def what_ran(summary: Mapping[str, Any]) -> str:
    """One sentence: method, model, data, sites, rounds, seed, protocol."""
    sites, unseen = list(summary["sites"]), list(summary.get("unseen") or {})
    chosen = summary.get("selected_round")
    where = f" at {wording.plural(len(sites), 'site')} ({wording.listed(sites)})" if sites else ""
    without = f" without {wording.listed(unseen)}" if unseen else ""
    part = wording.scored_part(summary)
    how = "tested" if part == "test" else "scored on validation patients"
    tested = "" if chosen is None else f", and the models of round {chosen} (counted from 0) were {how}"
    sources = "" if sites else f" The sites that trained have no {part} cases."
    return (
        f"{summary['method']} trained {summary['model']} on {summary['dataset']}{where}{without} for "
        f"{wording.plural(int(summary['rounds']), 'round')} with seed {summary['seed']}{tested}.{sources} "
        f"Scores follow the protocol '{summary['protocol']}'."
    )


def validation(summary: Mapping[str, Any]) -> str:
    """What scores of validation patients are not; "" where the test patients were scored."""
    if wording.scored_part(summary) == "test":
        return ""
    return (
        "These are scores of VALIDATION patients, and no test result: rounds and settings are chosen on these very "
        "patients, so they are too high for new ones. No test patient was looked at."
    )


def in_short(summary: Mapping[str, Any]) -> str:
    """The one number of a run: its mean Dice, or that of each unseen site where the others have no test cases."""
    if summary["sites"]:
        return f"mean Dice {wording.score(summary['mean']['dice'])}"
    each = [f"{site} {wording.score(entry['dice'])}" for site, entry in (summary.get("unseen") or {}).items()]
    return f"Dice at unseen {wording.listed(each)}"


def worst(summary: Mapping[str, Any]) -> str:
    """Which site is worst, and by how much below the mean; "" without sites that took part."""
    entry, mean = summary.get("worst_site"), (summary.get("mean") or {}).get("dice")
    if not entry or mean is None:
        return ""
    if len(summary["sites"]) == 1:
        return f"There is one site, {entry['site']}, with a Dice of {wording.score(entry['dice'])}."
    gap = mean - entry["dice"]
    return (
        f"The worst site is {entry['site']} with a Dice of {wording.score(entry['dice'])}, "
        f"{wording.score(gap)} below the mean over sites."
    )


def unseen(summary: Mapping[str, Any]) -> list[str]:
    """How each unseen site was judged, and by which model."""
    return [
        f"{site} took no part in the training. How it was judged: {entry['rule']}. Its score is that of the "
        f"{wording.model(entry['reported'])}: Dice {wording.score(entry['dice'])}."
        for site, entry in (summary.get("unseen") or {}).items()
    ]


def undefined(summary: Mapping[str, Any]) -> list[str]:
    """Each site's undefined distances, or one sentence that there are none; [] where no distance was scored."""
    counts = [
        (site, LABELS.get(metric, metric), count)
        for site, entry in _entries(summary)
        for metric, count in entry["undefined"].items()
        if metric not in ("dice", "iou")
    ]
    found = [
        f"{name} is undefined for {wording.plural(count, 'score')} at {site}: the truth or the prediction is empty. "
        "The mean distance leaves them out; Dice and IoU count them."
        for site, name, count in counts
        if count
    ]
    return found or (["Every distance is defined: no case had an empty truth or prediction."] if counts else [])


def _entries(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from summary["sites"].items()
    yield from (summary.get("unseen") or {}).items()


def doubts(summary: Mapping[str, Any]) -> list[str]:
    """What limits the conclusions: sites with few patients, the protocol."""
    few = [
        f"{site} ({wording.plural(int(entry['patients']), 'patient')})"
        for site, entry in _entries(summary)
        if entry["patients"] < FEW_PATIENTS
    ]
    said = []
    if few:
        said.append(
            f"Few {wording.scored_part(summary)} patients at {wording.listed(few)}: one patient more or less moves "
            "such a mean, and its interval is too narrow rather than too wide. Small differences there mean little."
        )
    if summary["protocol"] == "fedfms":
        said.append(
            "These scores follow FedFMS's own protocol (thresholds on raw logits at 256 pixels). They compare with "
            "that paper's tables only."
        )
    return said


def failures(rounds: Sequence[Round]) -> list[str]:
    """Each site that could not answer in a round."""
    return [
        f"Round {record.number}: {site} gave no update ({reason})."
        for record in rounds
        for site, reason in record.failed.items()
    ]


def merging(rounds: Sequence[Round]) -> list[str]:
    """How far the merged low-rank factors were from what the sites' own stand for; [] where none travelled in pairs."""
    errors = [record.server["lora_error"] for record in rounds if "lora_error" in record.server]
    if not errors:
        return []
    worst = max(errors)
    if worst < 1e-5:
        return ["Low-rank factors were merged exactly: the merged update is the weighted mean of the sites' updates."]
    return [
        f"The merged low-rank update missed the weighted mean of the sites' updates by {wording.percent(errors[-1])} "
        f"in the last round and by {wording.percent(worst)} at most (of its Frobenius norm, over all pairs of factors)."
    ]


def travelled(summary: Mapping[str, Any]) -> str:
    """What a site sends and is sent, and what the run cost."""
    traffic, counts = summary.get("traffic") or {}, summary.get("parameters") or {}
    seconds = summary.get("seconds") or {}
    parts = []
    if counts:
        parts.append(
            f"Of {wording.count(counts.get('total'))} parameters {wording.count(counts.get('trainable'))} are trained; "
            f"{wording.count(counts.get('shared'))} are shared and {wording.count(counts.get('local'))} stay at a site."
        )
    if traffic:
        parts.append(
            f"In a round a site sends {wording.size(traffic.get('up_bytes_per_site_round'))} and is sent "
            f"{wording.size(traffic.get('down_bytes_per_site_round'))}; the whole run moved "
            f"{wording.size(traffic.get('total_bytes'))}."
        )
    if seconds:
        parts.append(f"It took {wording.duration(seconds.get('total'))}.")
    if summary.get("peak_rss_bytes"):
        parts.append(f"Peak memory of the process: {wording.size(summary['peak_rss_bytes'])}.")
    return " ".join(parts)


def missing(run: RunFolder) -> dict[str, str]:
    """A sentence for each optional piece that the run folder lacks, by its name."""
    texts = {**_MISSING, "pictures": _UNSEEN} if validation(run.summary) else _MISSING
    return {name: text for name, text in texts.items() if not getattr(run, name)}
