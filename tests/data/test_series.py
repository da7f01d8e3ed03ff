"""DICOM series: the same upright volume whatever the files' names, order and orientation; refusals by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, ornt_transform
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import MPEG2MPML, RLELossless, generate_uid

from sammit.data.loose import is_series, loose_slices
from sammit.data.readers import is_volume, read_channels
from sammit.data.series import open_series
from sammit.data.writers import mask_suffix, write_mask
from sammit.errors import UserError

from .scanner import message, write_enhanced, write_picture, write_series

SHAPE, ZOOMS = (6, 7, 4), (0.7, 0.8, 5.0)
VALUES = np.random.default_rng(0).integers(-900, 900, SHAPE, dtype=np.int16)
AFFINE = np.diag([*ZOOMS, 1.0])
AFFINE[:3, 3] = (-31.5, 12.25, 800.0)
UPRIGHT = VALUES.transpose(2, 1, 0)[:, ::-1, ::-1]  # head up; front on top; right on the left


def _turned(codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The volume as a scanner would give it whose axes run to the given sides."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    image = nibabel.Nifti1Image(VALUES, AFFINE).as_reoriented(turn)
    return np.asarray(image.dataobj), image.affine


SIDES = ["RL", "AP", "SI"]
CODES = st.tuples(st.permutations(SIDES), st.tuples(*[st.integers(0, 1)] * 3)).map(
    lambda drawn: "".join(pair[side] for pair, side in zip(drawn[0], drawn[1], strict=True))
)


@settings(max_examples=25)
@given(CODES, st.data())
def test_any_order_and_orientation_gives_the_same_upright_volume(codes: str, data: st.DataObject) -> None:
    values, affine = _turned(codes)
    order = data.draw(st.permutations(range(values.shape[2])))
    with TemporaryDirectory() as folder:
        write_series(Path(folder), values, affine, order)
        pixels = read_channels(Path(folder))
        assert (pixels.array[..., 0] == UPRIGHT).all() and pixels.array.dtype == np.float32
        assert pixels.spacing == pytest.approx((5.0, 0.8, 0.7))
        written = Path(folder, "out.nii.gz")
        write_mask(written, (pixels.array[..., 0] > 0).astype(np.uint8), Path(folder))
        back = nibabel.as_closest_canonical(nibabel.load(written))
        assert np.allclose(back.affine, AFFINE, atol=1e-4) and (np.asarray(back.dataobj) == (VALUES > 0)).all()


def test_an_oblique_series_keeps_its_place(tmp_path: Path) -> None:
    angle = np.deg2rad(20)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = AFFINE.copy()
    affine[:3, :3] = turn @ AFFINE[:3, :3]
    write_series(tmp_path / "a", VALUES, affine, [3, 1, 0, 2])
    pixels = read_channels(tmp_path / "a")
    assert (pixels.array[..., 0] == UPRIGHT).all() and pixels.spacing == pytest.approx((5.0, 0.8, 0.7), abs=1e-4)
    assert pixels.affine is not None and np.allclose(pixels.affine, affine, atol=1e-4)


def test_a_tilted_gantry_shears_the_affine_and_not_the_spacing(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[1, 2] = 2.0
    write_series(tmp_path / "a", VALUES, affine)
    pixels = read_channels(tmp_path / "a")
    assert pixels.affine is not None and np.allclose(pixels.affine, affine, atol=1e-4)
    assert pixels.spacing == pytest.approx((5.0, 0.8, 0.7), abs=1e-4)


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    def edit(header: Dataset, slice_: int) -> None:
        header.RescaleSlope, header.RescaleIntercept = str(slice_ + 1), "-1024"

    write_series(tmp_path / "a", VALUES, AFFINE, edit=edit)
    wanted = UPRIGHT * np.arange(1.0, 5.0)[:, None, None] - 1024
    assert (read_channels(tmp_path / "a").array[..., 0] == wanted).all()


@pytest.mark.parametrize(("kind", "top"), [("uint16", 4095), ("int16", -1), ("uint8", 255)])
def test_white_is_never_zero(tmp_path: Path, kind: str, top: int) -> None:
    values = (VALUES % 200).astype(kind)

    def edit(header: Dataset, slice_: int) -> None:
        header.PhotometricInterpretation = "MONOCHROME1"
        if kind == "uint16":
            header.BitsStored, header.HighBit = 12, 11

    write_series(tmp_path / "a", values, AFFINE, edit=edit)
    array = read_channels(tmp_path / "a").array
    assert (array[..., 0] == top - values.transpose(2, 1, 0)[:, ::-1, ::-1].astype(int)).all()
    assert array.dtype == (np.uint8 if kind == "uint8" else np.float32)


@pytest.mark.parametrize("suffix", [".dcm", "", ".1.2.840", ".IMA"])
def test_names_of_files(tmp_path: Path, suffix: str) -> None:
    write_series(tmp_path / "case", VALUES, AFFINE, suffix=suffix)
    (tmp_path / "case" / "notes.txt").write_text("not a slice")
    (tmp_path / "case" / "DICOMDIR").write_text("not a slice either")
    (tmp_path / "case" / ".hidden").write_text("nor this")
    assert is_volume(tmp_path / "case") and len(read_channels(tmp_path / "case").array) == 4
    assert is_series(tmp_path / "case") and not is_series(tmp_path)


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "case.dcm", VALUES, AFFINE, [2, 0, 3, 1])
    assert is_volume(tmp_path / "case.dcm")
    pixels = read_channels(tmp_path / "case.dcm")
    assert (pixels.array[..., 0] == UPRIGHT + np.arange(4)[:, None, None]).all()
    assert pixels.affine is not None and np.allclose(pixels.affine, AFFINE, atol=1e-4)


def test_pictures_without_a_place(tmp_path: Path) -> None:
    rows = np.arange(35, dtype=np.uint8).reshape(5, 7)
    write_picture(tmp_path / "a.dcm", rows)
    pixels = read_channels(tmp_path / "a.dcm")
    assert not is_volume(tmp_path / "a.dcm") and not is_series(tmp_path) and pixels.affine is None
    assert (pixels.array[0, ..., 0] == rows).all() and pixels.array.dtype == np.uint8 and pixels.spacing is None
    assert mask_suffix(tmp_path / "a.dcm", 1) == ".png"

    def spaced(header: Dataset) -> None:
        header.PixelSpacing = ["0.2", "0.1"]

    write_picture(tmp_path / "b.dcm", rows, spaced)
    assert read_channels(tmp_path / "b.dcm").spacing == (1.0, 0.2, 0.1)


@pytest.mark.parametrize(
    "name", ["SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPEG2000.dcm", "SC_rgb_small_odd_jpeg.dcm"]
)
def test_compressed_pictures(name: str) -> None:
    import pydicom.data

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(str(pydicom.data.get_testdata_file(name, download=False)))
        array = read_channels(path).array[0]  # first: it brings the decoders along
        wanted = pixel_array(path)
    assert array.shape[:2] == wanted.shape[:2] and sorted(array.ravel()) == sorted(wanted.ravel())


def test_a_compressed_series(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VALUES, AFFINE, edit=lambda header, _: header.compress(RLELossless))
    assert (read_channels(tmp_path / "a").array[..., 0] == UPRIGHT).all()


def _other_series(header: Dataset, slice_: int) -> None:
    if slice_ == 1:
        header.SeriesInstanceUID = generate_uid()


def _moved(where: int, mm: float) -> Callable[[Dataset, int], None]:
    def edit(header: Dataset, slice_: int) -> None:
        if slice_ == where:
            x, y, z = (float(number) for number in header.ImagePositionPatient)
            header.ImagePositionPatient = [x, y, z + mm]

    return edit


def _smaller(header: Dataset, slice_: int) -> None:
    if slice_ == 2:
        header.Rows, header.Columns, header.PixelData = 2, 2, b"\0" * 8


def _localiser(header: Dataset, slice_: int) -> None:
    if slice_ == 2:
        header.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def _placeless(header: Dataset, slice_: int) -> None:
    del header.ImagePositionPatient


def _palette(header: Dataset, slice_: int) -> None:
    header.PhotometricInterpretation = "PALETTE COLOR"


def _film(header: Dataset, slice_: int) -> None:
    header.file_meta.TransferSyntaxUID = MPEG2MPML
    header.PixelData, header["PixelData"].is_undefined_length = b"\xfe\xff\x00\xe0\0\0\0\0", True


def _nonsense(header: Dataset, slice_: int) -> None:
    header.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


def _report(header: Dataset, slice_: int) -> None:
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    del header.Rows, header.PixelData


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (_other_series, r"IM001\.dcm \(CT Image Storage\): belongs to another series than IM000\.dcm; give"),
        (_moved(1, 5.0), r"IM002\.dcm: lies where IM001\.dcm lies; take one out"),
        (_moved(3, 5.0), r"IM003\.dcm: lies 10 mm from IM002\.dcm where slices lie 5 mm apart; add the slices"),
        (_moved(1, 1.0), r"IM00[123]\.dcm: lies [46] mm from IM00[012]\.dcm where slices lie 5 mm apart"),
        (_smaller, r"IM002\.dcm: 2x2x1 .* where IM000\.dcm has 7x6x1; take one kind out"),
        (_localiser, r"IM002\.dcm: has another orientation or pixel spacing than IM000\.dcm; take it out"),
        (_placeless, r"IM000\.dcm: does not say where in the patient it lies \(no position\); export"),
        (_palette, r"IM000\.dcm: its colours are looked up in a palette.*; save it as RGB"),
        (_film, r"IM000\.dcm: is compressed as MPEG2.*; decompress it"),
        (_nonsense, r"IM000\.dcm: its orientation, position or spacing cannot be right; restore"),
        (_report, r"IM000\.dcm: is no image \(Basic Text SR Storage\); take it out"),
    ],
)
def test_what_is_no_series_is_refused_by_name(tmp_path: Path, edit: Callable[[Dataset, int], None], line: str) -> None:
    write_series(tmp_path / "a", VALUES, AFFINE, edit=edit)
    with pytest.raises(UserError, match=line) as error:
        read_channels(tmp_path / "a")
    message(error)


@pytest.mark.parametrize("name", ["IM003.dcm", "IM003"])
@pytest.mark.parametrize("kind", ["rubbish", "empty", "truncated"])
def test_a_broken_slice_is_never_passed_over(tmp_path: Path, name: str, kind: str) -> None:
    write_series(tmp_path / "a", VALUES, AFFINE, suffix=Path(name).suffix)
    whole = (tmp_path / "a" / name).read_bytes()
    broken = {"rubbish": b"Rumpelstiltskin" * 40, "empty": b"", "truncated": whole[:-30]}[kind]
    (tmp_path / "a" / name).write_bytes(broken)
    with pytest.raises(UserError, match=rf"{name}: (is no DICOM file|cannot be read as DICOM .*); restore") as error:
        read_channels(tmp_path / "a")
    message(error)


def test_no_frames_without_a_place(tmp_path: Path) -> None:
    write_picture(tmp_path / "clip.dcm", np.zeros((5, 6, 7), np.uint8))
    with pytest.raises(UserError, match=r"clip\.dcm: has 5 frames without a place each"):
        read_channels(tmp_path / "clip.dcm")

    def lost(header: Dataset) -> None:
        header.PerFrameFunctionalGroupsSequence = header.PerFrameFunctionalGroupsSequence[:2]

    write_enhanced(tmp_path / "case.dcm", VALUES, AFFINE, range(4), lost)
    with pytest.raises(UserError, match=r"case\.dcm: describes 2 frames and holds 4; restore"):
        read_channels(tmp_path / "case.dcm")


def test_loose_slices_of_one_series(tmp_path: Path) -> None:
    write_series(tmp_path, VALUES, AFFINE)
    (problem,) = loose_slices(sorted(tmp_path.iterdir()))
    assert "slice of the series that IM000.dcm belongs to; put" in problem


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=r"without DICOM files|no known image format"):
            read_channels(path)
    with pytest.raises(UserError, match="holds no DICOM file"):
        open_series(tmp_path)
