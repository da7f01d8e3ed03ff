"""A row of scores for every case, structure and model, under one of two protocols.

`standard`: masks in native geometry, a row for each image or volume; see `metrics` and `distances`.
`fedfms`: what FedFMS's tables hold; see `fedfms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sammit.config import EvaluationConfig
from sammit.geometry import View
from sammit.learning import fedfms
from sammit.learning.distances import distance_scores
from sammit.learning.inference import segment
from sammit.learning.metrics import overlap_scores
from sammit.vocabulary import Case, Loaded, SiteData


@dataclass(frozen=True)
class Scored:
    """One row's worth of scores.

    Attributes:
        loaded: what was scored.
        found: (D, H, W, C), the case's masks in native geometry.
        name: the row's name: the case's, or under the protocol `fedfms` a volume's slice.
        scores: structure -> metric -> value; None where a distance is undefined.
        unit: of the distances: "mm", "px" where the case has no spacing, "" where there are none.
    """

    loaded: Loaded
    found: NDArray[np.bool_]
    name: str
    scores: Mapping[str, Mapping[str, float | None]]
    unit: str = ""

    @property
    def case(self) -> Case:
        """Whose scores these are."""
        return self.loaded.case

    @property
    def dice(self) -> float:
        """Mean Dice over the structures."""
        return float(np.mean([metrics["dice"] for metrics in self.scores.values()]))


@dataclass(frozen=True)
class Scorer:
    """How a run's models are scored.

    Attributes:
        evaluation: `[evaluation]`: protocol and tolerance.
        view: how a model looks at an image.
        device: where models are.
        distances: whether surface distances are measured too; validation, which picks a round by Dice, has no use
            for them.
    """

    evaluation: EvaluationConfig
    view: View
    device: str = "cpu"
    distances: bool = True

    def rows(self, model: nn.Module, site: SiteData, cases: Iterable[Case]) -> Iterator[Scored]:
        """Score cases one by one; nothing is kept but what the caller keeps."""
        for case in cases:
            loaded = site.load(case)
            if self.evaluation.protocol == "fedfms":
                yield from self._slices(model, loaded, site.structures)
            else:
                found = segment(model, loaded.image, self.view, self.device, loaded.spacing)
                yield self.row(found, loaded, site.structures)

    def row(self, found: NDArray[np.bool_], loaded: Loaded, structures: tuple[str, ...]) -> Scored:
        """The standard scores of (D, H, W, C) masks in a case's native geometry."""
        scores: dict[str, dict[str, float | None]] = {}
        for c, name in enumerate(structures):
            pair = found[..., c], loaded.truth[..., c]
            scores[name] = {**overlap_scores(*pair, loaded.valid)}
            if self.distances:
                scores[name] |= distance_scores(*pair, loaded.spacing, self.evaluation.tolerance, loaded.valid)
        unit = ("mm" if loaded.spacing else "px") if self.distances else ""
        return Scored(loaded, found, loaded.case.name, scores, unit)

    def _slices(self, model: nn.Module, loaded: Loaded, structures: tuple[str, ...]) -> Iterator[Scored]:
        """A row for each slice: FedFMS averages over slices, never over volumes."""
        slices = list(fedfms.slice_scores(model, loaded, self.view, self.device))
        found = np.stack([masks for _, masks in slices])
        for index, (scores, _) in enumerate(slices):
            name = f"{loaded.case.name}/{index:03d}" if loaded.case.volume else loaded.case.name
            yield Scored(loaded, found, name, dict(zip(structures, scores, strict=True)))
