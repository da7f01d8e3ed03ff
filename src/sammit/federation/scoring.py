"""What a site writes down about the models it judges: rows for each case, and the routers' use."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sammit.files import write_atomically
from sammit.learning.evaluate import Scored, Scorer
from sammit.vocabulary import Loaded, Part, SiteData

WHO = ("site", "case", "patient", "structure", "model", "unit")
METRICS = ("dice", "iou", "hd95", "assd", "nsd")

Row = dict[str, Any]
Use = Callable[[], nn.Module]
"""Puts the one model in memory into some state, and gives it."""

Watch = Callable[[str, Loaded, NDArray[np.bool_]], None]
"""Is shown each model's name, each case and the (D, H, W, C) masks that were scored."""


class SiteScores:
    """Scores of one site's cases under each of its models.

    Attributes:
        rows: one for each case (or slice, see the protocol), structure and model.
        router: block -> mean gate of each expert of the personal model.
    """

    def __init__(self, site: SiteData, scorer: Scorer, watch: Watch | None = None) -> None:
        self.site, self.scorer, self.watch = site, scorer, watch
        self.rows: list[Row] = []
        self.router: dict[str, list[float]] = {}
        self._case_of: dict[str, str] = {}

    def add(self, which: str, model: nn.Module, part: Part) -> None:
        """Score every case of a part under `model`."""
        routers: dict[str, Any] = {
            name: module for name, module in model.named_modules() if hasattr(module, "reset_load")
        }
        for module in routers.values():
            module.reset_load()
        self.rows += self._scored(which, model, part)
        for name, module in routers.items():
            if which == "personal" and module.passes:
                self.router[name] = (module.load / module.passes).tolist()

    def add_scored(self, which: str, several: Iterable[Scored]) -> None:
        """Keep what was scored elsewhere, masks of another tool, say, as scores of a model of this name."""
        self.rows += self._kept(which, several)

    def add_mean(self, which: str, uses: Iterable[Use], part: Part) -> None:
        """Score every case under several models and keep the mean of their scores.

        A distance that one of the models leaves undefined is undefined in the mean.
        """
        several = [self._scored(which, use(), part) for use in uses]
        self.rows += [_mean(rows) for rows in zip(*several, strict=True)]

    def _scored(self, which: str, model: nn.Module, part: Part) -> list[Row]:
        return self._kept(which, self.scorer.rows(model, self.site, self.site.cases(part)))

    def _kept(self, which: str, several: Iterable[Scored]) -> list[Row]:
        rows: list[Row] = []
        for scored in several:
            self._case_of[scored.name] = scored.case.name
            if self.watch:
                self.watch(which, scored.loaded, scored.found)
            who = {"site": self.site.name, "case": scored.name, "patient": scored.case.patient, "unit": scored.unit}
            rows += [{**who, "structure": s, "model": which, **m} for s, m in scored.scores.items()]
        return rows

    def dice(self) -> dict[str, float]:
        """For each model the mean over rows: over cases and structures, as every case has every structure."""
        return {which: float(np.mean(values)) for which, values in self._by_model().items()}

    def by_case(self, which: str) -> dict[str, float]:
        """For each case of a model its mean over structures, and over slices where they are scored apart."""
        gathered: dict[str, list[float]] = {}
        for row in self.rows:
            if row["model"] == which:
                gathered.setdefault(self._case_of[row["case"]], []).append(row["dice"])
        return {case: float(np.mean(values)) for case, values in gathered.items()}

    def _by_model(self) -> dict[str, list[float]]:
        gathered: dict[str, list[float]] = {}
        for row in self.rows:
            gathered.setdefault(row["model"], []).append(row["dice"])
        return gathered

    def write(self, folder: Path) -> None:
        """Rows and router use into the site's own folder."""
        metrics = [name for name in METRICS if any(name in row for row in self.rows)]
        text = io.StringIO()
        writer = csv.DictWriter(text, [*WHO, *(metrics or METRICS[:2])], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)  # None becomes an empty field
        write_atomically(folder / "cases.csv", text.getvalue())
        if self.router:
            write_atomically(folder / "router.json", json.dumps(self.router))


def _mean(rows: Sequence[Row]) -> Row:
    """One row of the mean scores; what says whose the rows are is the same in all."""
    mean = dict(rows[0])
    for metric in METRICS:
        if metric in mean:
            values = [row[metric] for row in rows]
            mean[metric] = None if None in values else float(np.mean(values))
    return mean
