"""A row of scores for every case, structure and model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sammit.geometry import View
from sammit.learning.inference import segment
from sammit.learning.metrics import overlap_scores
from sammit.vocabulary import Case, Loaded, SiteData


@dataclass(frozen=True)
class Scored:
    """One case under one model.

    Attributes:
        loaded: the case with its truth.
        found: (D, H, W, C) bool, the model's masks in the same geometry.
        scores: structure -> metric -> value.
    """

    loaded: Loaded
    found: NDArray[np.bool_]
    scores: dict[str, dict[str, float]]

    @property
    def dice(self) -> float:
        """Mean Dice over the structures."""
        return float(np.mean([metrics["dice"] for metrics in self.scores.values()]))


def score_cases(
    model: nn.Module, site: SiteData, cases: Iterable[Case], view: View, device: str = "cpu"
) -> Iterator[Scored]:
    """Score cases one by one, in native geometry; nothing is kept but what the caller keeps."""
    for case in cases:
        loaded = site.load(case)
        found = segment(model, loaded.image, view, device, loaded.spacing)
        yield Scored(loaded, found, score(found, loaded, site.structures))


def score(found: NDArray[np.bool_], loaded: Loaded, structures: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Structure -> {"dice", "iou"} for one case; `found` is (D, H, W, C)."""
    return {
        name: overlap_scores(found[..., c], loaded.truth[..., c], loaded.valid) for c, name in enumerate(structures)
    }
