"""What a tracker is told in numbers: each round's, and the final scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sammit.reporting.folder import Round
from sammit.tracking.names import of_site

LAST_OF_ROUND, LAST_OF_ALL = "seconds", "seconds_total"
"""What is told last: where it is there, so is the rest."""


def of_round(record: Round) -> dict[str, float]:
    """Validation Dice, loss and bytes by site, their means and sums."""
    numbers: dict[str, float] = {}
    for model, dice in record.validation.items():
        numbers |= _by_site(f"validation_dice_{model}", dice)
        numbers |= _mean(f"validation_dice_{model}_mean", list(dice.values()))
    numbers |= _by_site("loss", record.loss) | _mean("loss_mean", list(record.loss.values()))
    for way, sent in (("up", record.up), ("down", record.down)):
        numbers |= _by_site(f"{way}_bytes", sent) | {f"{way}_bytes_sum": math.fsum(sent.values())}
    numbers |= {f"server/{name}": value for name, value in record.server.items()}
    numbers["sites_failed"] = float(len(record.failed))
    return {**numbers, LAST_OF_ROUND: record.seconds or 0.0}


def of_summary(summary: Mapping[str, Any]) -> dict[str, float]:
    """The reported models' scores by site and structure, over sites, and what they cost."""
    numbers: dict[str, float | None] = {}
    for site, entry in {**summary["sites"], **(summary.get("unseen") or {})}.items():
        numbers |= {f"final_{metric}/{of_site(site)}": entry[metric] for metric in ("dice", "iou")}
        for structure, scores in (entry["models"].get(entry["reported"]) or {}).items():
            for metric, cell in scores.items():
                place = f"final_{metric}_by_structure/{of_site(site)}, {of_site(structure)}"
                numbers[place] = cell["mean"]
    for over in ("mean", "pooled"):
        numbers |= {f"final_{metric}_{over}": value for metric, value in (summary.get(over) or {}).items()}
    if summary.get("worst_site"):
        numbers["final_dice_worst_site"] = summary["worst_site"]["dice"]
    for table in ("parameters", "traffic", "steps"):
        numbers |= {f"{table}/{name}": value for name, value in (summary.get(table) or {}).items()}
    known = {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}
    return {**known, LAST_OF_ALL: float(summary["seconds"]["total"])}


def _by_site(name: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}/{of_site(site)}": value for site, value in values.items()}


def _mean(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: math.fsum(values) / len(values)} if values else {}
