"""Writes small DICOM series and segmentations, as scanners and annotation tools do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage, generate_uid

SECRET = "Rumpelstiltskin"  # stands wherever a header names a person or a study; no message may hold it
Edit = Callable[[Dataset], object]


def _base(kind: str) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = kind
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.PatientName = header.PatientID = header.StudyDescription = SECRET
    return header


def _lps(affine: np.ndarray) -> np.ndarray:
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _numbers(values: Iterable[float]) -> list[str]:
    return [f"{value:.6f}" for value in values]


def _place(header: Dataset, affine: np.ndarray, slice_: int) -> None:
    """Orientation, spacing and position of one slice of a volume (column, row, slice)."""
    world = _lps(affine)
    zooms = np.linalg.norm(world[:3, :3], axis=0)
    header.ImageOrientationPatient = _numbers([*(world[:3, 0] / zooms[0]), *(world[:3, 1] / zooms[1])])
    header.PixelSpacing = _numbers([zooms[1], zooms[0]])
    header.ImagePositionPatient = _numbers(world[:3, 3] + slice_ * world[:3, 2])


def _pixels(header: Dataset, values: np.ndarray) -> None:
    """(rows, columns) or (frames, rows, columns) of uint8, int16, uint16 or bool."""
    if values.ndim == 3:
        header.NumberOfFrames = len(values)
    header.Rows, header.Columns = values.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 1 if values.dtype == bool else 8 * values.dtype.itemsize
    header.BitsAllocated = header.BitsStored = bits
    header.HighBit, header.PixelRepresentation = bits - 1, int(values.dtype.kind == "i")
    data = np.packbits(values.ravel(), bitorder="little") if bits == 1 else values
    header.PixelData = data.tobytes() + b"\0" * (data.nbytes % 2)


def write_series(
    folder: Path,
    values: np.ndarray,
    affine: np.ndarray,
    order: Iterable[int] | None = None,
    edit: Callable[[Dataset, int], object] | None = None,
    suffix: str = ".dcm",
) -> list[Dataset]:
    """A file for each slice of `values` (column, row, slice), voxel to world (RAS) by `affine`.

    The files are numbered in `order`; `edit` may change each header. Returns the headers in the slices' order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, frame = generate_uid(), generate_uid()
    headers = []
    names = list(order) if order is not None else list(range(values.shape[2]))
    for slice_, name in enumerate(names):
        header = _base(CTImageStorage)
        header.SeriesInstanceUID, header.FrameOfReferenceUID = series, frame
        header.RescaleSlope, header.RescaleIntercept, header.SliceThickness = "1", "0", "99"
        _place(header, affine, slice_)
        _pixels(header, np.ascontiguousarray(values[..., slice_].T))
        if edit:
            edit(header, slice_)
        header.save_as(folder / f"IM{name:03d}{suffix}", enforce_file_format=True)
        headers.append(header)
    return headers


def write_picture(path: Path, values: np.ndarray, edit: Edit | None = None) -> Dataset:
    """A DICOM file without a place in the patient, as an X-ray is: (rows, columns)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _base("1.2.840.10008.5.1.4.1.1.1.1")
    header.SeriesInstanceUID = generate_uid()
    _pixels(header, values)
    if edit:
        edit(header)
    header.save_as(path, enforce_file_format=True)
    return header


def _groups(affine: np.ndarray, slice_: int, place: bool = True) -> Dataset:
    """The functional groups of one frame."""
    flat, groups = Dataset(), Dataset()
    _place(flat, affine, slice_)
    if place:
        groups.PlanePositionSequence = [Dataset()]
        groups.PlanePositionSequence[0].ImagePositionPatient = flat.ImagePositionPatient
    groups.PlaneOrientationSequence = [Dataset()]
    groups.PlaneOrientationSequence[0].ImageOrientationPatient = flat.ImageOrientationPatient
    groups.PixelMeasuresSequence = [Dataset()]
    groups.PixelMeasuresSequence[0].PixelSpacing = flat.PixelSpacing
    return groups


def write_enhanced(path: Path, values: np.ndarray, affine: np.ndarray, order: Iterable[int], edit: Edit = id) -> None:
    """One file with all slices of `values` (column, row, slice) as frames, in `order`; slice i has the intercept i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _base("1.2.840.10008.5.1.4.1.1.2.1")
    header.SeriesInstanceUID = header.FrameOfReferenceUID = generate_uid()
    order = list(order)
    _pixels(header, np.stack([values[..., slice_].T for slice_ in order]))
    shared, groups = Dataset(), []
    for slice_ in order:
        group = _groups(affine, slice_)
        shared.PixelMeasuresSequence = group.PixelMeasuresSequence
        del group.PixelMeasuresSequence
        group.PixelValueTransformationSequence = [Dataset()]
        group.PixelValueTransformationSequence[0].RescaleSlope = "1"
        group.PixelValueTransformationSequence[0].RescaleIntercept = str(slice_)
        groups.append(group)
    header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], groups
    edit(header)
    header.save_as(path, enforce_file_format=True)


def write_segmentation(
    path: Path,
    series: list[Dataset],
    affine: np.ndarray,
    masks: dict[str, np.ndarray],
    frames: Iterable[tuple[int, int]] | None = None,
    fractional: int = 0,
    place: bool = True,
    edit: Edit = id,
) -> None:
    """A DICOM SEG on a series: `masks` by label, (column, row, slice), bool, or shares of `fractional`.

    `frames` are (segment from 0, slice), in the file's order; by default all slices that are not empty, segment by
    segment. Without `place` a frame only refers to its slice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _base(SegmentationStorage)
    header.SeriesInstanceUID, header.FrameOfReferenceUID = generate_uid(), series[0].FrameOfReferenceUID
    header.SegmentationType = "FRACTIONAL" if fractional else "BINARY"
    header.SegmentSequence = [_segment(number, label) for number, label in enumerate(masks, start=1)]
    arrays = list(masks.values())
    default = [(s, z) for s, array in enumerate(arrays) for z in range(array.shape[2]) if array[..., z].any()]
    chosen = list(frames) if frames is not None else default
    _pixels(header, np.stack([arrays[s][..., z].T for s, z in chosen]))
    if fractional:
        header.MaximumFractionalValue = fractional
    groups = []
    for s, z in chosen:
        group = _groups(affine, z, place)
        group.SegmentIdentificationSequence = [Dataset()]
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = s + 1
        if not place:
            group.DerivationImageSequence = [Dataset()]
            group.DerivationImageSequence[0].SourceImageSequence = [Dataset()]
            group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = series[z].SOPInstanceUID
        groups.append(group)
    header.PerFrameFunctionalGroupsSequence = groups
    edit(header)
    header.save_as(path, enforce_file_format=True)


def write_label_map(
    path: Path, series: list[Dataset], affine: np.ndarray, labels: np.ndarray, names: dict[int, str], edit: Edit = id
) -> None:
    """A DICOM SEG whose pixels are the segments' numbers: `labels` (column, row, slice) uint8 or uint16, 0 outside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _base("1.2.840.10008.5.1.4.1.1.66.7")
    header.SeriesInstanceUID, header.FrameOfReferenceUID = generate_uid(), series[0].FrameOfReferenceUID
    header.SegmentationType, header.PixelPaddingValue = "LABELMAP", 0
    header.SegmentSequence = [_segment(number, label) for number, label in names.items()]
    some = [z for z in range(labels.shape[2]) if labels[..., z].any()]
    _pixels(header, np.stack([labels[..., z].T for z in some]))
    header.PerFrameFunctionalGroupsSequence = [_groups(affine, z) for z in some]
    edit(header)
    header.save_as(path, enforce_file_format=True)


Outlines = dict[str, list[tuple[int, np.ndarray]]]
"""Regions by name: for each contour its slice, and its (n, 2) columns and rows."""


def write_structure_set(
    path: Path, series: list[Dataset], affine: np.ndarray, regions: Outlines, edit: Edit = id
) -> None:
    """An RT structure set on a series; slices may lie between those of the series (1.5)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _base("1.2.840.10008.5.1.4.1.1.481.3")
    header.SeriesInstanceUID = generate_uid()
    header.ReferencedFrameOfReferenceSequence = [Dataset()]
    header.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = series[0].FrameOfReferenceUID
    header.StructureSetROISequence, header.ROIContourSequence = [], []
    for number, (name, outlines) in enumerate(regions.items(), start=1):
        said, drawn = Dataset(), Dataset()
        said.ROINumber, said.ROIName = number, name
        said.ReferencedFrameOfReferenceUID = series[0].FrameOfReferenceUID
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = [_contour(affine, slice_, outline) for slice_, outline in outlines]
        header.StructureSetROISequence.append(said)
        header.ROIContourSequence.append(drawn)
    edit(header)
    header.save_as(path, enforce_file_format=True)


def _contour(affine: np.ndarray, slice_: float, outline: np.ndarray) -> Dataset:
    item, points = Dataset(), np.ones((len(outline), 4))
    points[:, :2], points[:, 2] = outline, slice_
    item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(outline)
    item.ContourData = _numbers((points @ _lps(affine).T)[:, :3].ravel())
    return item


def _segment(number: int, label: str) -> Dataset:
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel = number, label
    return item


def message(error: Any) -> str:
    """The text of a refusal: one line, and nothing in it that identifies anybody."""
    text = str(error.value)
    assert "\n" not in text and SECRET not in text and "1.2.826" not in text
    return text
