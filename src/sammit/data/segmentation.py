"""A series' masks as one DICOM segmentation, which a hospital's viewers and archive take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.codes import Code, Property
from sammit.data.colours import colour_of
from sammit.data.dicom import class_of, read_header, unheard
from sammit.data.formats import is_dicom
from sammit.data.series import Series, open_series
from sammit.data.volumes import cut_of
from sammit.errors import UserError
from sammit.files import write_atomically
from sammit.version import VERSION

if TYPE_CHECKING:
    import numpy as np

SUFFIX = "_seg.dcm"  # never the name of an image, which may lie in the same folder

_MUST = ("FrameOfReferenceUID", "Modality")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID")
# a segmentation must have these too, but they may be empty, and who takes names out may have taken them whole
_MAY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"
)  # fmt: skip
_SERIES_NUMBER = 300  # of segmentations; scanners count from 1


@dataclass(frozen=True)
class Maker:
    """What made the masks.

    Attributes:
        method: how the model was trained.
        fingerprint: of its weights; tells which model it was.
    """

    method: str
    fingerprint: str


def need_series(image: Path) -> Series:
    """The series of an image that a segmentation can be written for; its pixels are not read.

    Raises:
        UserError: no DICOM, no place in the patient, or a header without what a segmentation must repeat.
    """
    if not is_dicom(image):
        raise UserError(f"{image}: is no DICOM image, and a DICOM SEG belongs to one; choose --format nifti or auto")
    series = open_series(image, "resample")
    if series.affine is None:
        raise UserError(f"{image}: does not say where in the patient it lies, as a DICOM SEG must; choose --format png")
    files = {plane.path for plane in series.planes}
    if 1 < len(files) < len(series.planes):
        raise UserError(f"{image}: has several files of several frames, for which no SEG is written; choose nifti")
    header = read_header(series.planes[0].path)
    bare = [keyword for keyword in _MUST if not header.get(keyword)]
    if bare or not (class_of(header) and series.planes[0].instance):
        lost = bare[0] if bare else "SOPInstanceUID or SOPClassUID"
        raise UserError(f"{image}: its header has no {lost}, which a DICOM SEG repeats; choose --format nifti")
    return series


def write_segmentation(
    path: Path, masks: np.ndarray, properties: Mapping[str, Property], image: Path, axis: str, maker: Maker
) -> None:
    """Write the masks of a series as segments 1, 2, ... of one binary segmentation, on the series' own slices.

    Slices without a pixel of a segment have no frame. Where nothing at all was found all frames are there, and empty:
    a segmentation without any is not valid. Patient and study are those of the series, as they must be.

    Args:
        path: the target.
        masks: (D, H, W, C) bool, as the series was cut.
        properties: for each structure, in the order of C, what it is.
        image: the series: its folder or file.
        axis: as the image was read.
        maker: what made the masks.

    Raises:
        UserError: as `need_series`; or headers that a segmentation cannot repeat.
    """
    series = need_series(image)
    straight = cut_of(series.shape, series.zooms, series.affine, axis).undo(masks)
    frames = series.own(straight).transpose(2, 1, 0, 3)  # (column, row, slice, C) turned
    with _told(image):
        frames, sources = _in_the_file_s_order(frames, series)
        made = _segmentation(sources, frames, properties, maker)
        data = BytesIO()
        made.save_as(data, enforce_file_format=True)
    write_atomically(path, data.getvalue())


def _in_the_file_s_order(frames: np.ndarray, series: Series) -> tuple[np.ndarray, list[Any]]:
    """(slice, row, column, C) masks and the headers they belong to: one a slice, or one file with all."""
    import numpy as np

    instances = {plane.path: plane.instance for plane in series.planes}
    headers = [_completed(read_header(file), instance, series.reference) for file, instance in instances.items()]
    if len(headers) == len(series.planes):
        return frames, headers
    return frames[np.argsort([plane.frame for plane in series.planes])], headers


def _completed(header: Any, instance: str, reference: str) -> Any:
    """A header with what a segmentation repeats, also where whoever took the names out took it too.

    Where study or series are gone the segmentation gets one of its own, always the same for the same series.
    """
    from pydicom.uid import generate_uid

    header.SOPClassUID, header.SOPInstanceUID = class_of(header), instance
    for keyword in _UIDS:
        if not header.get(keyword):
            setattr(header, keyword, generate_uid(entropy_srcs=[keyword, reference]))
    for keyword in _MAY:
        header.setdefault(keyword, "")
    if "PerFrameFunctionalGroupsSequence" in header:
        shared, first = header.SharedFunctionalGroupsSequence[0], header.PerFrameFunctionalGroupsSequence[0]
        for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):  # alike in all frames of a `Series`
            if keyword not in shared:
                setattr(shared, keyword, first[keyword].value)
    if not header.get("SpecificCharacterSet", "none"):
        del header.SpecificCharacterSet  # empty, it means the default, but highdicom takes it for a wrong one
    return header


def _segmentation(sources: list[Any], frames: np.ndarray, properties: Mapping[str, Property], maker: Maker) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        f"Sammit {maker.method}", codes.DCM.ArtificialIntelligence, VERSION, source="Sammit"
    )
    segments = [
        hd.seg.SegmentDescription(
            number,
            structure[:64],
            _concept(property_.category),
            _concept(property_.kind),
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm,
            display_color=hd.color.CIELabColor.from_rgb(*colour_of(number - 1)),
        )
        for number, (structure, property_) in enumerate(properties.items(), start=1)
    ]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Sammit",
        manufacturer_model_name=maker.method,
        software_versions=VERSION,
        device_serial_number=maker.fingerprint,
        series_description="Segmentation by Sammit",
    )


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


@contextmanager
def _told(image: Path) -> Iterator[None]:
    """highdicom's complaints quote headers: they become a line that does not."""
    try:
        with unheard():
            yield
    except MemoryError:
        raise
    except Exception as error:  # a header may break any of DICOM's rules
        kind = type(error).__name__
        raise UserError(f"{image}: its header allows no DICOM SEG ({kind}); choose --format nifti") from None
