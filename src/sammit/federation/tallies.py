"""Sums over a run's log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Log = Sequence[Mapping[str, Any]]
"""The rows of `rounds.jsonl`."""


def traffic(log: Log) -> dict[str, float]:
    """Bytes of training orders and updates: up and down, mean over sites and rounds, and in all."""
    ways = {way: [n for row in log for n in row[f"{way}_bytes"].values()] for way in ("up", "down")}
    means = {f"{way}_bytes_per_site_round": mean(values) for way, values in ways.items()}
    return {**means, "total_bytes": sum(map(sum, ways.values()))}


def steps_per_site(log: Log, sites: Iterable[str]) -> float:
    """Optimiser steps of a site in all rounds, mean over sites."""
    return mean([sum(row["steps"].get(site) or 0 for row in log) for site in sites])


def mean(values: Sequence[float]) -> float:
    """The mean; 0 where there is nothing."""
    return sum(values) / len(values) if values else 0.0
