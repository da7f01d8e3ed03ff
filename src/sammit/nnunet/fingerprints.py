"""What a site tells of its training cases, of fixed size; how the server merges it; and nnU-Net's fingerprint of that.

Whatever nnU-Net takes a median or a percentile of is told as a *sketch*: LEVELS order statistics at evenly spaced
ranks. Sketches merge by weight: a value of the merged sketch lies between the pooled quantiles half a level below and
above its rank, one level for intensities, whatever the number of sites and cases. Counts, means and deviations merge
exactly. Axes are (slice, row, column).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Summary = dict[str, NDArray[Any]]
"""What a site tells, or all together: an array for each name of FORM."""

LEVELS = 101  # odd: the middle one is the median, and each whole percentile is one of them
CHANNELS = 3  # a grey image counts as three equal ones

FORM: dict[str, tuple[tuple[int, ...], str, str]] = {
    "cases": ((1,), "int64", "number of training cases"),
    "structures": ((1,), "int64", "number of structures"),
    "overlap": ((1,), "int64", "1 if any pixel carries two structures"),
    "unlabelled": ((1,), "int64", "1 if any pixel is unlabelled"),
    "channels": ((1,), "int64", "1 if all images are grey, or 3"),
    "spacing": ((3, LEVELS), "float64", "spacings in mm by axis, sorted: of few cases, each case's own"),
    "shape": ((3, LEVELS), "float64", "sides in pixels by axis, sorted: of few cases, each case's own"),
    "extent": ((3, LEVELS), "float64", "sides in mm by axis, sorted: of few cases, each case's own"),
    "relative_size": ((1, LEVELS), "float64", "share of an image that is not black border, sorted"),
    "intensity.count": ((CHANNELS,), "int64", "number of foreground intensities drawn, by channel"),
    "intensity.mean": ((CHANNELS,), "float64", "mean foreground intensity, by channel"),
    "intensity.std": ((CHANNELS,), "float64", "deviation of foreground intensities, by channel"),
    "intensity.min": ((CHANNELS,), "float64", "lowest foreground intensity, by channel"),
    "intensity.max": ((CHANNELS,), "float64", "highest foreground intensity, by channel"),
    "intensity": ((CHANNELS, LEVELS), "float64", "foreground intensities at 101 ranks, by channel"),
}


@dataclass(frozen=True)
class CaseFacts:
    """What nnU-Net sees in one case.

    Attributes:
        spacing: 3 numbers, mm.
        shape: 3 sides in pixels, after the black border is cropped.
        relative_size: what of the image the crop keeps, 0 to 1.
        intensities: (1 or 3, n) drawn from the foreground, in [0, 255]; n is 0 where there is none.
        structures: C; overlap, unlabelled: whether any pixel carries two, or is unlabelled.
    """

    spacing: Sequence[float]
    shape: Sequence[int]
    relative_size: float
    intensities: Values
    structures: int
    overlap: bool
    unlabelled: bool


def summarise(cases: Iterable[CaseFacts]) -> Summary:
    """What a site tells of its cases, at least one; they are looked at one after another, none is kept."""
    return merge([_alone(case) for case in cases])


def merge(summaries: Sequence[Summary]) -> Summary:
    """The summary of all cases of some summaries, at least one; their order changes nothing."""
    total = {name: np.array([s[name] for s in summaries]) for name in FORM}
    cases = total["cases"][:, 0]
    merged: Summary = {"cases": total["cases"].sum(0)}
    for name in ("structures", "overlap", "unlabelled", "channels"):
        merged[name] = total[name].max(0)
    for name in ("spacing", "shape", "extent", "relative_size"):
        merged[name] = np.array([sketch(rows, cases) for rows in total[name].swapaxes(0, 1)])
    columns = [_channel({name: total[name][:, c] for name in FORM if "intensity" in name}) for c in range(CHANNELS)]
    return merged | {name: np.array([column[name] for column in columns]) for name in columns[0]}


def sketch(values: NDArray[Any], weights: NDArray[np.int64]) -> Values:
    """LEVELS order statistics of rows of values, each row of a weight of its own: (K, n), (K,) -> (LEVELS,).

    The j-th is the smallest value up to which at least (j + 1/2) / LEVELS of the weight lies; a lone sketch comes back
    as it is. All in integers, so that no rounding decides.
    """
    order = np.argsort(values, axis=None, kind="stable")
    below = np.cumsum(np.repeat(weights, values.shape[1])[order])
    ranks = (2 * np.arange(LEVELS) + 1) * below[-1]
    found: Values = values.ravel()[order][np.searchsorted(2 * LEVELS * below, ranks)].astype(np.float64)
    return found


def _alone(case: CaseFacts) -> Summary:
    """The summary of one case."""
    sides = np.array([case.spacing, case.shape, np.multiply(case.spacing, case.shape)], np.float64)
    axes = np.repeat(sides[..., None], LEVELS, axis=-1)
    flags = {"structures": case.structures, "overlap": case.overlap, "unlabelled": case.unlabelled}
    summary: Summary = {name: np.array([value], np.int64) for name, value in flags.items()}
    summary |= {"cases": np.array([1]), "channels": np.array([len(case.intensities)])}
    summary |= {"spacing": axes[0], "shape": axes[1], "extent": axes[2]}
    summary["relative_size"] = np.full((1, LEVELS), case.relative_size)
    drawn = np.broadcast_to(case.intensities, (CHANNELS, case.intensities.shape[1]))
    if not drawn.size:
        drawn = np.zeros((CHANNELS, 1))  # of no weight
    of = {"mean": drawn.mean(1), "std": drawn.std(1), "min": drawn.min(1), "max": drawn.max(1)}
    summary |= {f"intensity.{name}": value for name, value in of.items()}
    summary["intensity.count"] = np.full(CHANNELS, case.intensities.shape[1])
    summary["intensity"] = np.array([sketch(row[None], np.ones(1, np.int64)) for row in drawn])
    return summary


def _channel(rows: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """One channel's intensities from those of K summaries; sums are exact, so that no order decides."""
    counts = rows["intensity.count"]
    total = int(counts.sum())
    if not total:
        return {name: row[0] for name, row in rows.items()}
    used, shares = counts > 0, counts / total
    mean = fsum(shares * rows["intensity.mean"])
    spread = rows["intensity.std"] ** 2 + (rows["intensity.mean"] - mean) ** 2
    return {
        "intensity.count": total,
        "intensity.mean": mean,
        "intensity.std": sqrt(fsum(shares * spread)),
        "intensity.min": rows["intensity.min"][used].min(),
        "intensity.max": rows["intensity.max"][used].max(),
        "intensity": sketch(rows["intensity"][used], counts[used]),
    }


def fingerprint(merged: Summary) -> dict[str, Any]:
    """nnU-Net's dataset fingerprint, whose list of cases is LEVELS made-up ones with the sketches' quantiles.

    Spacing and size go together in real cases (the field of view is alike), and nnU-Net's patch follows the median of
    their product: made-up case j has the j-th spacing and the j-th extent in mm, so that this median is right. Whether
    fine spacings go with small extents or with large ones is read from the sketch of the shapes; where spacings differ,
    the median shape in pixels, by which nnU-Net only tells flat volumes from cubes, is right within some per cent.
    """
    spacing, shapes = merged["spacing"], []
    for axis in range(3):
        pairings = [extent / spacing[axis] for extent in (merged["extent"][axis], merged["extent"][axis][::-1])]
        errors = [np.abs(np.sort(sides) - merged["shape"][axis]).sum() for sides in pairings]
        shapes.append(pairings[int(np.argmin(errors))])
    return {
        "spacings": spacing.T.tolist(),
        "shapes_after_crop": np.array(shapes).T.tolist(),
        "median_relative_size_after_cropping": float(_median(merged["relative_size"][0])),
        "foreground_intensity_properties_per_channel": {
            str(c): _properties(merged, c) for c in range(int(merged["channels"][0]))
        },
    }


def _properties(merged: Summary, channel: int) -> dict[str, float]:
    """One channel's intensities under nnU-Net's names."""
    plain = {name: float(merged[f"intensity.{name}"][channel]) for name in ("mean", "std", "min", "max")}
    ranks = merged["intensity"][channel]
    return plain | {
        "median": float(_median(ranks)),
        "percentile_00_5": float(ranks[0]),
        "percentile_99_5": float(ranks[-1]),
    }


def _median(ranks: Values) -> np.float64:
    middle: np.float64 = ranks[LEVELS // 2]
    return middle
