"""Which DICOM files make up an image: refusals, each with the file's name and the mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sammit.data.dicom import DRAWN, Plane, class_of, guarded, kind_of
from sammit.data.stored import need_decoder
from sammit.errors import UserError

_SHOWN = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def need_image(header: Any, path: Path) -> None:
    """Raise UserError where a file holds no image, or one whose numbers cannot be shown."""
    with guarded(path):
        if class_of(header) in DRAWN or "Rows" not in header:
            raise UserError(f"{path}: is no image ({kind_of(header)}); take it out of the images")
        colours = header.get("PhotometricInterpretation") or "not said"
        if colours == "PALETTE COLOR":
            raise UserError(f"{path}: its colours are looked up in a palette, which is not read; save it as RGB")
        if colours not in _SHOWN:
            raise UserError(f"{path}: its colours are of a kind that is not read; save it in grey or as RGB")
        if "ModalityLUTSequence" in header:
            raise UserError(f"{path}: its numbers are looked up in a table, which is not read; save it with a slope")
    need_decoder(header, path)


def need_one_series(series: list[list[tuple[Path, str]]]) -> None:
    """Raise UserError where files belong to several series; `series` holds, for each, its files and their kinds."""
    if len(series) > 1:
        (odd, *_), *_, (usual, *_) = sorted(series, key=len)
        raise UserError(
            f"{odd[0]} ({odd[1]}): belongs to another series than {usual[0].name}; "
            "give each series a folder of its own, or take it out"
        )


def need_alike(planes: list[Plane]) -> None:
    """Raise UserError where slices of one series differ in size, direction or spacing, or have no place."""
    import numpy as np

    first = planes[0]
    for plane in planes:
        if plane.grid is None or first.grid is None:
            bare = plane if plane.grid is None else first
            raise UserError(
                f"{bare}: does not say where in the patient it lies (no {bare.lacks}); "
                "export it again with that, or give each picture a folder of its own"
            )
        if plane.shape != first.shape:
            ours, theirs = ("x".join(map(str, shape)) for shape in (plane.shape, first.shape))
            raise UserError(
                f"{plane}: {ours} (rows x columns x samples) where {first.path.name} has {theirs}; take one kind out"
            )
        if np.abs(plane.grid[:3, :3] - first.grid[:3, :3]).max() > 1e-3:
            raise UserError(
                f"{plane}: has another orientation or pixel spacing than {first.path.name}; "
                "take it out (a localiser?), or give it a folder of its own"
            )
