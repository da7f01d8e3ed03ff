"""One round of a run in a line, for whoever waits."""

from __future__ import annotations

from typing import Any


def describe(row: dict[str, Any], label: str = "") -> str:
    """One row of `rounds.jsonl` in words."""
    losses = [loss for loss in row["loss"].values() if loss is not None]
    parts = [f"{label + ' ' if label else ''}round {row['round'] + 1}"]
    if losses:
        parts.append(f"loss {sum(losses) / len(losses):.3f}")
    if row["validation"]:
        for which in ("global", "personal"):
            dice = [site[which] for site in row["validation"].values() if which in site]
            if dice:
                parts.append(f"validation Dice {which} {sum(dice) / len(dice):.3f}")
    parts += [f"{site} failed: {reason}" for site, reason in row["failed"].items()]
    return ", ".join(parts)
