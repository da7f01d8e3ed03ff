"""From a file's own unit to the full range of uint8 or uint16: the one place where intensities are decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def to_full_range(values: np.ndarray, window: tuple[float, ...], intensity: str) -> np.ndarray:
    """Intensities stretched to the range of uint8 or uint16.

    - a `window` (low, high), in the file's own unit, maps to black and white, for any type;
    - "percentile" does so with the 1st and 99th percentile of the file;
    - "local" then measures each pixel against the mean and deviation of its surroundings (see `locally`);
    - "fedfms" does as FedFMS's code: a volume's least value is black and its 99th percentile white; 2-D images are
      taken as with "range", those in floats as 0 to 255;
    - "range" leaves uint8 and uint16 as they are; other types have no range of their own: percentiles.

    Args:
        values: (D, H, W, n) uint8, uint16 or float32; NaN counts as black.
        window: two numbers, or empty.
        intensity: "range", "percentile", "local" or "fedfms".

    Returns:
        (D, H, W, n) uint8 where uint8 stays as it is, else uint16; an image of one value becomes black.
    """
    import numpy as np

    if intensity == "local":
        return locally(to_full_range(values, window, "range"))
    whole = intensity == "range" or (intensity == "fedfms" and len(values) == 1)
    if not window and whole and values.dtype in (np.uint8, np.uint16):
        return values
    low, high = window or (fedfms_limits(values) if intensity == "fedfms" else percentiles(values))
    if not high > low:
        return np.zeros(values.shape, np.uint16)
    result = np.empty(values.shape, np.uint16)
    for place, piece in enumerate(values):  # a slice at a time: a long volume fits once in floats, not four times
        scaled = np.nan_to_num((piece.astype(np.float32) - low) * (65535.0 / (high - low)), nan=0.0)
        result[place] = np.rint(np.clip(scaled, 0, 65535))
    return result


def locally(values: np.ndarray) -> np.ndarray:
    """Each pixel as its distance, in deviations, from the mean of a square around it.

    The square's side is a sixteenth of the image's longer side; three deviations below and above the mean become black
    and white. It takes away uneven light, as over a fundus, and makes faint, thin structures as plain as bold ones. All
    channels share one deviation, so that one without signal stays dim, with a floor of 2 % of the range, so that flat
    regions do not turn into noise.

    Args:
        values: (D, H, W, n) uint8 or uint16, full range.

    Returns:
        (D, H, W, n) uint8.
    """
    import numpy as np
    from scipy.ndimage import uniform_filter

    side = max(3, round(max(values.shape[1:3]) / 16))
    result = np.empty(values.shape, np.uint8)
    for index, piece in enumerate(values):
        picture = piece.astype(np.float32) / np.iinfo(values.dtype).max
        mean = uniform_filter(picture, (side, side, 0), mode="reflect")
        variance = uniform_filter((picture - mean) ** 2, (side, side, 0), mode="reflect").mean(axis=-1, keepdims=True)
        distance = (picture - mean) / (3 * np.sqrt(np.maximum(variance, 0.02**2)))
        result[index] = np.rint((0.5 + 0.5 * np.clip(distance, -1, 1)) * 255)
    return result


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """The 1st and 99th percentile of the finite values; (0, 0) where there are none.

    A large file is thinned out evenly first: a million values place a percentile well enough.
    """
    import numpy as np

    whole = values.dtype.kind != "f" or bool(np.isfinite(values).all())
    finite = values.flat if whole else values[np.isfinite(values)].flat  # neither copies a volume without need
    thinned: np.ndarray = finite[:: max(1, len(finite) // 1_000_000)]
    if thinned.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(thinned, (1, 99))
    return float(low), float(high)


def fedfms_limits(values: np.ndarray) -> tuple[float, float]:
    """What FedFMS shows black and white: least value and 99th percentile of a volume (D, H, W, n); 0, 255 of an image.

    All values count, for a sample's percentile would not be theirs; (0, 0) where none is finite.
    """
    import numpy as np

    if len(values) == 1:
        return 0.0, 255.0
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(np.percentile(finite, 99))) if finite.size else (0.0, 0.0)


def without_copies(values: np.ndarray) -> np.ndarray:
    """(D, H, W, n) -> (D, H, W, 1) where all channels are equal: a grey image saved in colour."""
    alike = values.shape[-1] > 1 and all(bool((piece == piece[..., :1]).all()) for piece in values)
    return values[..., :1] if alike else values
