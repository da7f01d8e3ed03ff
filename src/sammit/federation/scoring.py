"""What a site writes down about its own models: rows for each case, pictures of three, the routers' use."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sammit.files import write_atomically
from sammit.geometry import View
from sammit.learning.evaluate import Scored, score_cases
from sammit.vocabulary import Case, Part, SiteData

COLUMNS = ("site", "case", "patient", "structure", "model", "dice", "iou")
PICTURE = 480  # longest side of a stored picture, pixels


class SiteScores:
    """Scores of one site's cases under each of its models."""

    def __init__(self, site: SiteData, view: View, device: str) -> None:
        self.site, self.view, self.device = site, view, device
        self.rows: list[dict[str, Any]] = []
        self.router: dict[str, list[float]] = {}
        self.pictures: dict[str, dict[str, Any]] = {}
        self._dice: dict[str, dict[str, float]] = {}

    def add(self, which: str, model: nn.Module, part: Part) -> None:
        """Score every case of a part under `model`."""
        routers: dict[str, Any] = {
            name: module for name, module in model.named_modules() if hasattr(module, "reset_load")
        }
        for module in routers.values():
            module.reset_load()
        for scored in score_cases(model, self.site, self.site.cases(part), self.view, self.device):
            case = scored.loaded.case
            self._dice.setdefault(which, {})[case.name] = scored.dice
            who = {"site": self.site.name, "case": case.name, "patient": case.patient}
            self.rows += [{**who, "structure": s, "model": which, **m} for s, m in scored.scores.items()]
        for name, module in routers.items():
            if which == "personal" and module.passes:
                self.router[name] = (module.load / module.passes).tolist()

    def dice(self) -> dict[str, float]:
        """Mean over cases for each model."""
        return {which: float(np.mean(list(cases.values()))) for which, cases in self._dice.items() if cases}

    def add_pictures(self, which: str, model: nn.Module, reported: str) -> None:
        """Predict the best, median and worst case of the reported model again, for the report."""
        ranked = sorted(self._dice.get(reported, {}), key=lambda name: (self._dice[reported][name], name))
        if not ranked:
            return
        chosen = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
        cases = {case.name: case for case in self.site.cases("test")}
        for rank, name in chosen.items():
            scored = next(score_cases(model, self.site, [cases[name]], self.view, self.device))
            picture = self.pictures.setdefault(rank, self._base(cases[name], scored))
            picture[which] = _small(_shown(scored, scored.found))
            self.pictures[rank]["dice"] = np.append(self.pictures[rank]["dice"], scored.dice)

    def _base(self, case: Case, scored: Scored) -> dict[str, Any]:
        image = _shown(scored, scored.loaded.image)
        full = np.iinfo(image.dtype).max
        return {
            "image": _small(image * (255 / full)).astype(np.uint8).transpose(1, 2, 0),
            "truth": _small(_shown(scored, scored.loaded.truth)),
            "case": np.array(case.name),
            "structures": np.array(self.site.structures),
            "dice": np.zeros(0),  # one for each model, in the order in which they are added
        }

    def write(self, folder: Path) -> None:
        """Rows, router use and pictures into the site's own folder."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(folder / "cases.csv", text.getvalue())
        if self.router:
            import json

            write_atomically(folder / "router.json", json.dumps(self.router))
        for rank, arrays in self.pictures.items():
            data = io.BytesIO()
            np.savez_compressed(data, **arrays)
            write_atomically(folder / "pictures" / f"{rank}.npz", data.getvalue())


def _shown(scored: Scored, volume: NDArray[Any]) -> NDArray[Any]:
    """(D, H, W, X) -> (X, H, W) of the slice with most truth."""
    slices = scored.loaded.truth.any(-1).sum((1, 2))
    chosen: NDArray[Any] = volume[int(np.argmax(slices))].transpose(2, 0, 1)
    return chosen


def _small(planes: NDArray[Any]) -> NDArray[Any]:
    """(X, H, W) at most PICTURE pixels long, by striding: no smoothing that would flatter a mask."""
    step = -(-max(planes.shape[1:]) // PICTURE)
    return planes[:, ::step, ::step]
