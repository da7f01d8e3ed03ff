"""Slices that do not lie evenly: refused by name or, where the user asks, an even grid is laid through them.

The grid has the usual distance between slices, starts at the first and ends at the last one. An image is interpolated
linearly between the two slices around; a truth is the nearest slice's. What is predicted on the grid goes back to the
slices that there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from sammit.data.dicom import Plane
from sammit.data.stored import stored_frames
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SAME = 1e-3  # mm: slices nearer than this lie at one place
_ASTRAY = 0.05  # share of a step by which a slice may lie beside its place
_MOST = 4  # slices of the even grid for each that there is; beyond it most of the volume would be made up


@dataclass(frozen=True)
class Even:
    """An even grid through slices that lie unevenly; arrays are in the file's own axes (column, row, slice, ...).

    Attributes:
        places: where each of the series' own slices lies, in steps of the grid, from 0 to `slices` - 1.
        slices: how many the grid has.
    """

    places: tuple[float, ...]
    slices: int

    def image(self, volume: np.ndarray) -> np.ndarray:
        """Own slices -> the grid's, linear, in the same type."""
        import numpy as np

        grid = np.empty((*volume.shape[:2], self.slices, *volume.shape[3:]), volume.dtype)
        for place in range(self.slices):
            after = min(max(int(np.searchsorted(self.places, place)), 1), len(self.places) - 1)
            low, high = self.places[after - 1], self.places[after]
            weight = np.float32((place - low) / (high - low))
            between = (1 - weight) * volume[:, :, after - 1] + weight * volume[:, :, after]
            grid[:, :, place] = np.rint(between) if volume.dtype == np.uint8 else between
        return grid

    def truth(self, volume: np.ndarray) -> np.ndarray:
        """Own slices -> the grid's, each the nearest one's; of two as near, the first."""
        import numpy as np

        away = np.abs(np.arange(self.slices)[:, None] - np.array(self.places))
        nearest: np.ndarray = volume[:, :, away.argmin(axis=1)]
        return nearest

    def back(self, volume: np.ndarray) -> np.ndarray:
        """The grid's slices -> own ones, each the nearest one's."""
        import numpy as np

        nearest: np.ndarray = volume[:, :, np.rint(self.places).astype(int)]
        return nearest

    def own_affine(self, affine: np.ndarray) -> np.ndarray:
        """The grid's affine -> that of the own slices as NIfTI has to have it: as many steps, all of mean length."""
        own: np.ndarray = affine.copy()
        own[:3, 2] *= (self.slices - 1) / (len(self.places) - 1)
        return own


def height_of(plane: Plane) -> float:
    """Where a slice lies along its own normal, mm."""
    return 0.0 if plane.grid is None else float(plane.grid[:3, 2] @ plane.grid[:3, 3])


def once_each(ordered: list[Plane]) -> list[Plane]:
    """Slices without those that repeat another pixel by pixel at its place.

    Raises:
        UserError: two that lie at one place show different things, as time points do.
    """
    kept = ordered[:1]
    for plane in ordered[1:]:
        if height_of(plane) - height_of(kept[-1]) >= SAME:
            kept.append(plane)
        elif not _same_pixels(plane, kept[-1]):
            raise UserError(
                f"{plane}: lies where {kept[-1].path.name} lies and shows something else; "
                "give each time point a folder of its own"
            )
    return kept


def _same_pixels(one: Plane, other: Plane) -> bool:
    import numpy as np

    first, second = (stored_frames(plane.path)[plane.frame] for plane in (one, other))
    return one.scale == other.scale and np.array_equal(first, second)


def grid_of(ordered: list[Plane], uneven: str) -> tuple[np.ndarray, Even | None]:
    """The affine of several slices in their order, and the even grid through them where they need one.

    Args:
        ordered: slices of one orientation, by height.
        uneven: "refuse" or "resample".

    Raises:
        UserError: slices at one place; and, unless they are to be resampled, slices that lie further than a twentieth
            of a step from where they should.
    """
    import numpy as np

    origins = np.array([plane.grid for plane in ordered])[:, :3, 3]
    _need_apart(ordered)
    usual = float(np.median(np.linalg.norm(np.diff(origins, axis=0), axis=1)))
    steps = np.arange(len(ordered)) / (len(ordered) - 1)
    if _astray(origins, steps) <= _ASTRAY * usual:
        return _affine(ordered, len(ordered)), None
    if uneven != "resample":
        raise _unevenly(ordered, origins, usual)
    even = _through(ordered, origins, usual)
    return _affine(ordered, even.slices), even


def _need_apart(ordered: list[Plane]) -> None:
    for before, plane in pairwise(ordered):
        if height_of(plane) - height_of(before) < SAME:
            raise UserError(
                f'{plane}: lies where {before.path.name} lies; take one out (data.uneven = "resample" drops exact '
                "copies), or give each time point a folder of its own"
            )


def _astray(origins: np.ndarray, shares: np.ndarray) -> float:
    """How far, in mm, slices lie from given shares of the way between the first and the last."""
    import numpy as np

    wanted = origins[0] + shares[:, None] * (origins[-1] - origins[0])
    return float(np.linalg.norm(origins - wanted, axis=1).max())


def _unevenly(ordered: list[Plane], origins: np.ndarray, usual: float) -> UserError:
    import numpy as np

    steps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    worst = int(np.abs(steps - usual).argmax())
    return UserError(
        f"{ordered[worst + 1]}: lies {steps[worst]:.4g} mm from {ordered[worst].path.name} where slices lie "
        f'{usual:.4g} mm apart; add the slices that are missing, or set data.uneven = "resample" '
        "(sammit predict: --uneven resample)"
    )


def _through(ordered: list[Plane], origins: np.ndarray, usual: float) -> Even:
    """The grid whose step is as near to the usual one as whole steps between the first and the last slice allow."""
    import numpy as np

    way = origins[-1] - origins[0]
    shares = (origins - origins[0]) @ way / (way @ way)
    if _astray(origins, shares) > _ASTRAY * usual:
        raise UserError(
            f"{ordered[0].path.parent}: its slices lie beside each other and on no line, which cannot be resampled; "
            "give each block of slices a folder of its own"
        )
    slices = 1 + max(1, round(float(np.linalg.norm(way)) / usual))
    if slices > _MOST * len(ordered):
        raise UserError(
            f"{ordered[0].path.parent}: {len(ordered)} slices lie so unevenly that an even grid would need {slices}; "
            "add the slices that are missing, or give each block of slices a folder of its own"
        )
    return Even(tuple(float(share) * (slices - 1) for share in shares), slices)


def _affine(ordered: list[Plane], slices: int) -> np.ndarray:
    """The affine of a grid of `slices` from the first to the last slice."""
    import numpy as np

    grids = np.array([plane.grid for plane in ordered])
    affine: np.ndarray = grids[0].copy()
    affine[:3, 2] = (grids[-1] - grids[0])[:3, 3] / (slices - 1)
    return affine
