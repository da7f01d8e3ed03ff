"""Pictures of a site's test cases with truth and masks, for the report: the best, median and worst case, and one
example that is the same case whatever the method or seed, so that methods can be set side by side.

Masks are those that were scored: which cases are shown is known only when all are, so a small mask of each is kept.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sammit.files import write_atomically
from sammit.randomness import key_to_seed
from sammit.vocabulary import Loaded, SiteData

PICTURE = 480  # longest side of a stored picture, pixels


class CasePictures:
    """Pictures of a few cases of one site, with a mask for each of its models."""

    def __init__(self, site: SiteData) -> None:
        self.site = site
        self._seen: dict[str, dict[str, tuple[NDArray[np.uint8], tuple[int, ...]]]] = {}

    def see(self, which: str, loaded: Loaded, found: NDArray[np.bool_]) -> None:
        """Remember what a model found in a case, (D, H, W, C); of several models of one name, what the first found."""
        cases = self._seen.setdefault(which, {})
        if loaded.case.name not in cases:
            planes = _small(_shown(loaded, found))
            cases[loaded.case.name] = np.packbits(planes), planes.shape

    def write(self, folder: Path, dice: Mapping[str, Mapping[str, float]], reported: str) -> None:
        """One file a picture into the site's own folder.

        Args:
            folder: the site's.
            dice: model -> case -> what the rows say of it.
            reported: the model whose Dice decides which cases are shown.
        """
        cases = {case.name: case for case in self.site.cases("test")}
        for rank, name in _chosen(dice[reported]).items():
            picture = self._base(self.site.load(cases[name]))
            for which, seen in self._seen.items():
                bits, shape = seen[name]
                picture[which] = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
            picture["dice"] = np.array([dice[which][name] for which in self._seen])
            data = io.BytesIO()
            np.savez_compressed(data, **picture)
            write_atomically(folder / "pictures" / f"{rank}.npz", data.getvalue())

    def _base(self, loaded: Loaded) -> dict[str, Any]:
        image = _shown(loaded, loaded.image)
        full = np.iinfo(image.dtype).max
        return {
            "image": _small(image * (255 / full)).astype(np.uint8).transpose(1, 2, 0),
            "truth": _small(_shown(loaded, loaded.truth)),
            "case": np.array(loaded.case.name),
            "structures": np.array(self.site.structures),
        }


def _chosen(dice: Mapping[str, float]) -> dict[str, str]:
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
