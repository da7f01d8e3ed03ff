"""Images meet their masks by name."""

from __future__ import annotations

from pathlib import Path

from sammit.data.formats import stem_of

Pairs = list[tuple[Path, Path | None]]


def pair(images: list[Path], masks: list[Path]) -> tuple[Pairs, list[str]]:
    """Each image with its mask, and what is wrong with the rest.

    A mask belongs to the image of the same stem, else to the one whose stem its own continues after a separator
    (`Image_01L_1stHO` continues `Image_01L`; `img10_x` does not continue `img1`); the longest such stem wins.

    Returns:
        The pairs in the images' order, None for an image without mask; and a line for each stray or doubled file.
    """
    problems: list[str] = []
    by_stem: dict[str, Path] = {}
    for image in images:
        if stem_of(image) in by_stem:
            problems.append(f"{image}: has the same stem as {by_stem[stem_of(image)].name}; rename or remove one")
        else:
            by_stem[stem_of(image)] = image
    found: dict[str, Path] = {}
    for mask in sorted(masks, key=lambda path: (stem_of(path) not in by_stem, path.name)):  # equal stems first
        stem = owner(stem_of(mask), by_stem)
        if stem is None:
            problems.append(f"{mask}: there is no image for this mask; add the image or remove the mask")
        elif stem in found:
            problems.append(f"{mask}: {by_stem[stem].name} has a mask already ({found[stem].name}); remove one")
        else:
            found[stem] = mask
    return [(image, found.get(stem)) for stem, image in by_stem.items()], problems


def owner(stem: str, known: dict[str, Path]) -> str | None:
    """The stem of the image that a mask's stem belongs to, or None."""
    if stem in known:
        return stem
    for end in range(len(stem) - 1, 0, -1):
        if not stem[end].isalnum() and stem[:end] in known:
            return stem[:end]
    return None
