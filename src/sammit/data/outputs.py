"""The forms in which masks leave: a file for each structure, or one segmentation for a DICOM series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.data import segmentation
from sammit.data.codes import Property
from sammit.data.segmentation import Maker
from sammit.data.writers import mask_suffix, write_mask
from sammit.errors import UserError, nearest
from sammit.vocabulary import Case

if TYPE_CHECKING:
    import numpy as np

SEGMENTATION = "dicom-seg"
FORMATS = ("auto", SEGMENTATION, "nifti", "nrrd", "png")


@dataclass(frozen=True)
class Output:
    """How masks are written.

    Attributes:
        form: one of `FORMATS`; "auto": by the image's own kind, see `writers.mask_suffix`.
        properties: for each structure, in the order of C, what it is in a DICOM segmentation.
        axis: as the images are read.
        maker: what made the masks; only a DICOM segmentation says so.
    """

    form: str
    properties: Mapping[str, Property]
    axis: str
    maker: Maker

    def check(self, cases: Iterable[Case]) -> None:
        """Raise UserError where the form is unknown or does not fit an image, before anything is computed."""
        if self.form not in FORMATS:
            raise UserError(f"--format {self.form}: there is no such format: {nearest(self.form, list(FORMATS))}")
        for case in cases:
            if self.form == SEGMENTATION:
                segmentation.need_series(case.image[0])
            else:
                self._suffix(case)

    def write(self, folder: Path, case: Case, found: np.ndarray) -> Iterator[Path]:
        """Write the (D, H, W, C) bool masks of a case, STEM_STRUCTURE or STEM_seg.dcm; gives each file's path."""
        image = case.image[0]
        if self.form == SEGMENTATION:
            path = folder / f"{case.name}{segmentation.SUFFIX}"
            segmentation.write_segmentation(path, found, self.properties, image, self.axis, self.maker)
            yield path
            return
        for index, structure in enumerate(self.properties):
            path = folder / f"{case.name}_{structure}{self._suffix(case)}"
            write_mask(path, found[..., index], image, self.axis)
            yield path

    def _suffix(self, case: Case) -> str:
        return mask_suffix(case.image[0], 2 if case.volume else 1, self.form)
