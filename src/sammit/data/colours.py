"""The colours of structures, the same in pictures and in segmentations."""

from __future__ import annotations

# Okabe and Ito's, told apart by colour-blind readers; black and white are left to the image
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


def colour_of(structure: int) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a structure, counted from 0; the eighth has the first one's again."""
    return COLOURS[structure % len(COLOURS)]
