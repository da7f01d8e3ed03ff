"""What hospitals send beside plain series: each is read, or refused in one line that names the file and the mend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from sammit.config import DataConfig
from sammit.data import discover
from sammit.data.check import check
from sammit.data.loose import is_series
from sammit.data.readers import is_volume, read_channels, read_mask
from sammit.data.settings import Settings
from sammit.data.truth import read_truth
from sammit.data.writers import write_mask
from sammit.errors import UserError
from sammit.vocabulary import Case

from .scanner import (
    message,
    write_enhanced,
    write_label_map,
    write_picture,
    write_segmentation,
    write_series,
    write_structure_set,
)

RNG = np.random.default_rng(0)
SHAPE = (6, 7, 4)
VALUES = RNG.integers(-900, 900, SHAPE, dtype=np.int16)
AFFINE = np.array([[-0.5, 0, 0, 9], [0, -0.8, 0, 5], [0, 0, 4, -60], [0, 0, 0, 1]])  # in-plane spacing differs too
UPRIGHT = VALUES.transpose(2, 1, 0)
Edit = Callable[[Dataset, int], object]


def _refused(path: Path, line: str) -> None:
    with pytest.raises(UserError, match=line) as error:
        is_volume(path)
        read_channels(path)
    message(error)


def _site(root: Path, **channels: Any) -> Any:
    (site,) = discover(DataConfig(root=str(root), size=16, **channels), masks=False)
    return site


def test_nifti_of_four_axes_is_channels_and_many_are_time_points(tmp_path: Path) -> None:
    values = RNG.integers(0, 900, (*SHAPE, 30), dtype=np.int16)
    (tmp_path / "images").mkdir()
    nibabel.save(nibabel.Nifti1Image(values[..., :2], AFFINE), tmp_path / "images" / "two.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "images" / "times.nii.gz")
    times, two = _site(tmp_path).all_cases
    assert read_channels(two.image[0]).array.shape == (4, 7, 6, 2) and _site(tmp_path).load(two).image.shape[0] == 4
    with pytest.raises(UserError, match=r"times\.nii\.gz: has 30 channels \(time points\?\) where .*; choose with"):
        _site(tmp_path).load(times)
    (tmp_path / "dataset.toml").write_text("channels = [1]\n")
    assert _site(tmp_path).load(times).image.shape == (4, 7, 6, 3)
    nibabel.save(nibabel.Nifti1Image(values[..., None, :3], AFFINE), tmp_path / "five.nii.gz")
    _refused(tmp_path / "five.nii.gz", r"five\.nii\.gz: colour or 5-D NIfTI is not read; save it as a 3-D volume")


def test_a_mask_of_several_volumes_is_refused(tmp_path: Path) -> None:
    labels = RNG.integers(0, 3, (*SHAPE, 5), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), tmp_path / "mask.nii.gz")
    with pytest.raises(UserError, match=r"mask\.nii\.gz: holds 5 volumes where a mask is one; save"):
        read_mask(tmp_path / "mask.nii.gz")


def test_enhanced_multi_frame_at_its_positions_and_at_times(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "case.dcm", VALUES, AFFINE, [2, 0, 3, 1])
    pixels = read_channels(tmp_path / "case.dcm")
    assert (pixels.array[..., 0] == UPRIGHT + np.arange(4)[:, None, None]).all()
    assert pixels.affine is not None and np.allclose(pixels.affine, AFFINE, atol=1e-4)
    write_enhanced(tmp_path / "times.dcm", VALUES, AFFINE, [0, 1, 2, 3, 0, 1, 2, 3])
    _refused(tmp_path / "times.dcm", r"times\.dcm \(frame 5\): lies where times\.dcm lies; .* each time point")


def _native(values: np.ndarray) -> bytes:
    return bytes(imagecodecs.ljpeg_encode(values.view(np.uint16), bitspersample=16))


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGLosslessSV1, _native),
        (JPEGLSLossless, lambda values: imagecodecs.jpegls_encode(values.view(np.uint16))),
        (JPEG2000Lossless, imagecodecs.jpeg2k_encode),
        ("1.2.840.10008.1.2.4.201", imagecodecs.htj2k_encode),
        (RLELossless, None),
    ],
    ids=["jpeg-lossless", "jpeg-ls", "jpeg-2000", "htj2k", "rle"],
)
def test_lossless_compressions_give_every_number_back(
    tmp_path: Path, syntax: str, encode: Callable[[np.ndarray], bytes] | None
) -> None:
    values = RNG.integers(-1024, 3000, (32, 40, 3), dtype=np.int16)  # smaller ones JPEG 2000 does not take

    def edit(header: Dataset, slice_: int) -> None:
        if encode is None:
            header.compress(syntax)
            return
        header.PixelData = encapsulate([bytes(encode(np.ascontiguousarray(values[..., slice_].T)))])
        header["PixelData"].is_undefined_length = True
        header.file_meta.TransferSyntaxUID = syntax

    write_series(tmp_path / "a", values, AFFINE, edit=edit)
    assert (read_channels(tmp_path / "a").array[..., 0] == values.transpose(2, 1, 0)).all()


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_compressed_by_others(name: str) -> None:
    """Files of pydicom's own tests: 12-bit JPEG, and two whose uncompressed form lies beside them."""
    import pydicom.data

    def path(of: str) -> Path:
        return Path(str(pydicom.data.get_testdata_file(of, download=False)))

    array = read_channels(path(name)).array
    if name == "JPGExtended.dcm":
        assert array.shape == (1, 1024, 256, 1) and 0 <= array.min() < 14 < array.max() < 4096
    else:
        plain = {"SC_rgb_jpeg_gdcm.dcm": "SC_rgb_rle.dcm", "MR_small_jpeg_ls_lossless.dcm": "MR_small.dcm"}[name]
        assert (array == read_channels(path(plain)).array).all()


def _without(*names: str) -> Edit:
    def edit(header: Dataset, slice_: int = 0) -> None:
        for name in names:
            del header[name]

    return edit


def test_missing_pixel_spacing(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VALUES, AFFINE, edit=_without("PixelSpacing"))
    _refused(tmp_path / "a", r"IM000\.dcm: does not say where .* lies \(no pixel spacing\); export it again with that")


def test_in_plane_spacing_that_differs(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VALUES, AFFINE)
    assert read_channels(tmp_path / "a").spacing == (4.0, 0.8, 0.5)  # slice, row, column
    write_mask(tmp_path / "a.nii.gz", UPRIGHT > 0, tmp_path / "a")
    assert nibabel.load(tmp_path / "a.nii.gz").header.get_zooms() == pytest.approx((0.5, 0.8, 4.0))


def test_an_oblique_mask_lies_where_the_headers_say(tmp_path: Path) -> None:
    """World by DICOM's own equation, from two files' headers alone: position + column and row along the directions."""
    turn = np.linalg.qr(np.random.default_rng(8).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * np.sign(np.linalg.det(turn)) @ np.diag([0.5, 0.8, 4.0])
    affine[:3, 3] = (-31.5, 12.25, 800.0)
    headers = write_series(tmp_path / "a", VALUES, affine, [3, 1, 0, 2])
    pixels = read_channels(tmp_path / "a")
    mask = np.zeros(SHAPE, bool)
    mask[4, 2, 3] = True
    assert pixels.cut is not None
    write_mask(tmp_path / "a.nii.gz", pixels.cut.apply(mask), tmp_path / "a")
    written = nibabel.load(tmp_path / "a.nii.gz")
    (voxel,) = np.argwhere(np.asarray(written.dataobj))
    header = headers[3]
    along, down = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    row, column = (float(number) for number in header.PixelSpacing)
    wanted = np.array(header.ImagePositionPatient, float) + 4 * column * along + 2 * row * down
    assert np.allclose((written.affine @ [*voxel, 1])[:3] * [-1, -1, 1], wanted, atol=1e-3)


def test_monochrome1_is_turned(tmp_path: Path) -> None:
    values = (VALUES % 200).astype(np.uint8)
    white = write_picture(tmp_path / "a.dcm", values[..., 0].T)
    white.PhotometricInterpretation = "MONOCHROME1"
    white.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    plain, turned = (read_channels(tmp_path / name).array.astype(int) for name in ("a.dcm", "b.dcm"))
    assert (plain + turned == 255).all()


def _ultrasound(frames: np.ndarray) -> Callable[[Dataset], None]:
    """(frames, rows, columns, 3) uint8 RGB."""

    def edit(header: Dataset) -> None:
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
        header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "RGB", 0
        header.Rows, header.Columns = frames.shape[1:3]
        header.PixelData = frames.tobytes()
        if len(frames) > 1:
            header.NumberOfFrames = len(frames)

    return edit


def test_ultrasound_in_colour_and_as_a_film(tmp_path: Path) -> None:
    frames = RNG.integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)
    grey = np.zeros((8, 10), np.uint8)
    write_picture(tmp_path / "a.dcm", grey, _ultrasound(frames[:1]))
    pixels = read_channels(tmp_path / "a.dcm")
    assert (pixels.array == frames[:1]).all() and pixels.array.dtype == np.uint8 and not is_volume(tmp_path / "a.dcm")
    write_picture(tmp_path / "film.dcm", grey, _ultrasound(frames))
    _refused(tmp_path / "film.dcm", r"film\.dcm: has 6 frames without a place each, as a film; save those that are")


def _coronal(header: Dataset, slice_: int) -> None:
    if slice_ == 2:
        header.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def test_mixed_orientations_and_doubled_slices(tmp_path: Path) -> None:
    write_series(tmp_path / "mixed", VALUES, AFFINE, edit=_coronal)
    _refused(tmp_path / "mixed", r"IM002\.dcm: has another orientation or pixel spacing than IM000\.dcm; take it out")
    write_series(tmp_path / "twice", VALUES, AFFINE)
    again = dcmread(tmp_path / "twice" / "IM001.dcm")
    again.SOPInstanceUID = generate_uid()
    again.save_as(tmp_path / "twice" / "IM900.dcm")
    _refused(tmp_path / "twice", r"IM900\.dcm: lies where IM001\.dcm lies; take one out \(data\.uneven")
    assert (read_channels(tmp_path / "twice", uneven="resample").array[..., 0] == UPRIGHT).all()


def test_a_series_without_pixels(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VALUES, AFFINE, edit=_without("PixelData"))
    _refused(tmp_path / "a", r"IM000\.dcm: has a header and no pixels; export it again with them")


def test_check_names_folders_without_a_series(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in ("a", "b", "c"):
        write_series(images / name, VALUES, AFFINE)
    (images / "empty").mkdir()
    (images / "disc").mkdir()
    (images / "disc" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (images / "__MACOSX").mkdir()
    (report,) = check(DataConfig(root=str(tmp_path), size=16), masks=False)
    disc, empty = report.problems
    assert report.cases == 3 and "images/disc: is a folder without DICOM files; put the slices" in disc
    assert "images/empty: is a folder without DICOM files; put the slices" in empty


def test_a_tiff_stack_of_16_bits_however_it_is_written(tmp_path: Path) -> None:
    stack = RNG.integers(0, 65536, (6, 9, 8), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "whole.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "imagej.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for page in stack:
            writer.write(page, photometric="minisblack", contiguous=False)
    for name in ("whole.tif", "imagej.tif", "pages.tif"):
        array = read_channels(tmp_path / name).array
        assert is_volume(tmp_path / name) and array.dtype == np.uint16 and (array[..., 0] == stack).all(), name
    with tifffile.TiffWriter(tmp_path / "slide.tif") as writer:
        writer.write(stack[0], photometric="minisblack")
        writer.write(stack[0, ::2, ::2], photometric="minisblack")
    assert (read_channels(tmp_path / "slide.tif").array[0, ..., 0] == stack[0]).all()
    tifffile.imwrite(tmp_path / "times.tif", stack.reshape(2, 3, 9, 8), imagej=True, metadata={"axes": "TZYX"})
    _refused(tmp_path / "times.tif", r"times\.tif: has the axes TZYX, several volumes in one file; save each")


def _label_site(folder: Path, labels: np.ndarray, edit: Callable[[Dataset], object] = id) -> Case:
    series = write_series(folder / "image", VALUES, AFFINE)
    write_label_map(folder / "mask.dcm", series, AFFINE, labels, {1: "Liver", 300: "Lesion"}, edit)
    return Case("a", "case", "case", (folder / "image",), (folder / "mask.dcm",), True)


def test_a_segmentation_as_a_label_map(tmp_path: Path) -> None:
    labels = RNG.choice(np.array([0, 1, 300], np.uint16), SHAPE)
    labels[..., 1] = 0  # a slice without a frame

    def backwards(header: Dataset) -> None:
        header.PerFrameFunctionalGroupsSequence = list(reversed(header.PerFrameFunctionalGroupsSequence))
        header.PixelData = np.stack([labels[..., z].T for z in (3, 2, 0)]).tobytes()

    case = _label_site(tmp_path, labels, backwards)
    rules = {"liver": "segment Liver", "lesion": 300, "any": "> 0"}
    truth = read_truth(case, read_channels(case.image[0]), Settings(DataConfig(structures=rules)))
    upright = labels.transpose(2, 1, 0)
    for layer, wanted in zip(truth.layers, (upright == 1, upright == 300, upright > 0), strict=True):
        assert (layer == wanted).all()


@pytest.mark.parametrize("kind", ["no preamble", "no meta"])
@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_dicom_without_the_preamble(tmp_path: Path, kind: str, suffix: str) -> None:
    write_series(tmp_path / "a", VALUES, AFFINE)
    for path in sorted((tmp_path / "a").iterdir()):
        header = dcmread(path)
        data = path.read_bytes()[132:]
        path.unlink()
        path.with_suffix(suffix).write_bytes(data if kind == "no preamble" else _bare(header, tmp_path / "bare"))
    assert is_series(tmp_path / "a") and is_volume(tmp_path / "a")
    assert (read_channels(tmp_path / "a").array[..., 0] == UPRIGHT).all()


def _bare(header: Dataset, path: Path) -> bytes:
    """A data set alone, as old devices wrote it: implicit, little-endian, nothing before it."""
    del header.file_meta
    header.preamble = None
    header.save_as(path, implicit_vr=True, little_endian=True)
    return path.read_bytes()


def test_segmentations_and_structure_sets_are_no_images(tmp_path: Path) -> None:
    series = write_series(tmp_path / "a", VALUES, AFFINE)
    write_segmentation(tmp_path / "seg.dcm", series, AFFINE, {"a": VALUES > 0})
    write_label_map(tmp_path / "map.dcm", series, AFFINE, (VALUES > 0).astype(np.uint8), {1: "a"})
    write_structure_set(tmp_path / "a" / "set.dcm", series, AFFINE, {})
    _refused(tmp_path / "seg.dcm", r"seg\.dcm: is no image \(Segmentation Storage\); take it out of the images")
    _refused(tmp_path / "map.dcm", r"map\.dcm: is no image \(Label Map Segmentation Storage\); take it out")
    _refused(tmp_path / "a", r"set\.dcm: is no image \(RT Structure Set Storage\); take it out of the images")


@pytest.mark.parametrize("same", [True, False], ids=["same series", "own series"])
def test_a_screenshot_in_the_series(tmp_path: Path, same: bool) -> None:
    series = write_series(tmp_path / "a", VALUES, AFFINE)

    def screenshot(header: Dataset) -> None:
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        header.SeriesInstanceUID = series[0].SeriesInstanceUID if same else header.SeriesInstanceUID

    write_picture(tmp_path / "a" / "shot.dcm", VALUES[..., 0].T, screenshot)
    nowhere = r"shot\.dcm: does not say where .* \(no position, orientation, pixel spacing\); export it again"
    other = r"shot\.dcm \(Secondary Capture Image Storage\): belongs to another series than IM000\.dcm; give each"
    _refused(tmp_path / "a", nowhere if same else other)


@pytest.mark.parametrize(
    ("colours", "line"),
    [
        ("PALETTE COLOR", r"a\.dcm: its colours are looked up in a palette, which is not read; save it as RGB"),
        ("YBR_PARTIAL_420", r"a\.dcm: its colours are of a kind that is not read; save it in grey or as RGB"),
    ],
)
def test_colours_that_are_not_read(tmp_path: Path, colours: str, line: str) -> None:
    def edit(header: Dataset) -> None:
        header.PhotometricInterpretation = colours

    write_picture(tmp_path / "a.dcm", VALUES[..., 0].T.astype(np.uint8), edit)
    _refused(tmp_path / "a.dcm", line)
