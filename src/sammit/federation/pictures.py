"""Pictures of a site's test cases with truth and masks, for the report: the best, median and worst case, and one
example that is the same case whatever the method or seed, so that methods can be set side by side."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sammit.files import write_atomically
from sammit.geometry import View
from sammit.learning.inference import segment
from sammit.randomness import key_to_seed
from sammit.vocabulary import Loaded, SiteData

PICTURE = 480  # longest side of a stored picture, pixels


class CasePictures:
    """Pictures of a few cases of one site, with a mask for each of its models."""

    def __init__(self, site: SiteData, view: View, device: str, dice: dict[str, float]) -> None:
        """
        Args:
            site: whose cases.
            view, device: as for scoring.
            dice: of the reported model, for each case's name; it decides which cases are shown.
        """
        self.site, self.view, self.device = site, view, device
        self.chosen = _chosen(dice)
        self.pictures: dict[str, dict[str, Any]] = {}

    def add(self, which: str, model: nn.Module, dice: dict[str, float]) -> None:
        """The masks of one model; `dice` is what the rows say of it, by case."""
        cases = {case.name: case for case in self.site.cases("test")}
        for rank, name in self.chosen.items():
            loaded = self.site.load(cases[name])
            found = segment(model, loaded.image, self.view, self.device, loaded.spacing)
            picture = self.pictures.setdefault(rank, self._base(loaded))
            picture[which] = _small(_shown(loaded, found))
            picture["dice"] = np.append(picture["dice"], dice[name])

    def _base(self, loaded: Loaded) -> dict[str, Any]:
        image = _shown(loaded, loaded.image)
        full = np.iinfo(image.dtype).max
        return {
            "image": _small(image * (255 / full)).astype(np.uint8).transpose(1, 2, 0),
            "truth": _small(_shown(loaded, loaded.truth)),
            "case": np.array(loaded.case.name),
            "structures": np.array(self.site.structures),
            "dice": np.zeros(0),  # one for each model, in the order in which they are added
        }

    def write(self, folder: Path) -> None:
        """One file a picture into the site's own folder."""
        for rank, arrays in self.pictures.items():
            data = io.BytesIO()
            np.savez_compressed(data, **arrays)
            write_atomically(folder / "pictures" / f"{rank}.npz", data.getvalue())


def _chosen(dice: dict[str, float]) -> dict[str, str]:
    """Which case is shown as what."""
    ranked = sorted(dice, key=lambda name: (dice[name], name))
    if not ranked:
        return {}
    example = min(ranked, key=lambda name: key_to_seed("example", name))
    return {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1], "example": example}


def _shown(loaded: Loaded, volume: NDArray[Any]) -> NDArray[Any]:
    """(D, H, W, X) -> (X, H, W) of the slice with most truth."""
    slices = loaded.truth.any(-1).sum((1, 2))
    chosen: NDArray[Any] = volume[int(np.argmax(slices))].transpose(2, 0, 1)
    return chosen


def _small(planes: NDArray[Any]) -> NDArray[Any]:
    """(X, H, W) at most PICTURE pixels long, by striding: no smoothing that would flatter a mask."""
    step = -(-max(planes.shape[1:]) // PICTURE)
    return planes[:, ::step, ::step]
