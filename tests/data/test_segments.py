"""DICOM segmentations land on their slices whatever the order of frames; structures pick segments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from sammit.config import DataConfig
from sammit.data.drawings import drawings
from sammit.data.readers import read_channels
from sammit.data.settings import Settings
from sammit.data.truth import Truth, read_truth
from sammit.errors import UserError
from sammit.vocabulary import Case

from .scanner import message, write_picture, write_segmentation, write_series

SHAPE = (6, 7, 5)
RNG = np.random.default_rng(3)
VALUES = RNG.integers(-900, 900, SHAPE, dtype=np.int16)
MASKS = {"Liver": RNG.random(SHAPE) < 0.5, "Lesion ": RNG.random(SHAPE) < 0.4}  # they overlap
MASKS["Lesion "][..., 2] = False
AFFINE = np.array([[-0.7, 0, 0, 9], [0, -0.8, 0, 5], [0, 0, 4, -60], [0, 0, 0, 1]])  # as most scanners lie: upright
OBLIQUE = np.linalg.qr(RNG.normal(size=(3, 3)))[0]


def _truth(image: Path, mask: Path, **structures: object) -> Truth:
    case = Case("a", "case", "case", (image,), (mask,), True)
    return read_truth(case, read_channels(image), Settings(DataConfig(structures=structures)))


def _upright(mask: np.ndarray) -> np.ndarray:
    return mask.transpose(2, 1, 0)


def _all_frames(shuffle: st.DataObject) -> list[tuple[int, int]]:
    frames = [(segment, slice_) for segment in (0, 1) for slice_ in range(5)]
    return list(shuffle.draw(st.permutations(frames)))


@settings(max_examples=25)
@given(st.data(), st.booleans(), st.sampled_from([0, 255, 100]))
def test_frames_in_any_order_of_any_kind(data: st.DataObject, place: bool, top: int) -> None:
    order = data.draw(st.permutations(range(5)))
    masks = {name: (mask * np.uint8(top)) for name, mask in MASKS.items()} if top else MASKS
    with TemporaryDirectory() as folder:
        image, mask = Path(folder, "image"), Path(folder, "mask.dcm")
        series = write_series(image, VALUES, AFFINE, order)
        write_segmentation(mask, series, AFFINE, masks, _all_frames(data), fractional=top, place=place)
        liver, lesion = _truth(image, mask, liver=1, lesion=2).layers
    assert (liver == _upright(MASKS["Liver"])).all() and (lesion == _upright(MASKS["Lesion "])).all()


@pytest.mark.parametrize("hand", [1.0, -1.0])
def test_oblique_sparse_and_cut_along_another_axis(tmp_path: Path, hand: float) -> None:
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * np.sign(np.linalg.det(OBLIQUE)) * hand @ np.diag([3.0, 0.5, 1.0])  # coarsest: columns
    series = write_series(tmp_path / "image", VALUES, affine)
    write_segmentation(tmp_path / "mask.dcm", series, affine, MASKS)
    like = read_channels(tmp_path / "image")
    assert like.cut is not None and len(like.array) == 6
    way = slice(None, None, int(hand))  # slices are read along row direction x column direction
    assert (like.cut.undo(like.array[..., 0]) == VALUES[..., way]).all()
    for piece, mask in zip(drawings(tmp_path / "mask.dcm", tmp_path / "image", like), MASKS.values(), strict=True):
        assert (like.cut.undo(piece.draw()) == mask[..., way]).all()


def test_fractions_count_from_one_half(tmp_path: Path) -> None:
    shares = {"a": RNG.integers(0, 101, SHAPE, dtype=np.uint8)}
    series = write_series(tmp_path / "image", VALUES, AFFINE)
    write_segmentation(tmp_path / "mask.dcm", series, AFFINE, shares, fractional=100)
    (layer,) = _truth(tmp_path / "image", tmp_path / "mask.dcm").layers
    assert (layer == _upright(shares["a"] >= 50)).all()


def test_structures_pick_segments_by_label_and_number(tmp_path: Path) -> None:
    series = write_series(tmp_path / "image", VALUES, AFFINE)
    write_segmentation(tmp_path / "mask.dcm", series, AFFINE, MASKS)
    rules = {"lesion": "segment lesion", "both": [1, "segment Lesion"], "any": "> 0", "kidney": "segment Kidney"}
    truth = _truth(tmp_path / "image", tmp_path / "mask.dcm", **rules)
    liver, lesion = _upright(MASKS["Liver"]), _upright(MASKS["Lesion "])
    assert (truth.layers[0] == lesion).all() and (truth.layers[1] == liver | lesion).all()
    assert (truth.layers[2] == liver | lesion).all() and not truth.layers[3].any() and truth.labelled.all()
    with pytest.raises(UserError, match=r"has no segment of any structure, but 1 'Liver', 2 'Lesion'; mend"):
        _truth(tmp_path / "image", tmp_path / "mask.dcm", kidney="segment Kidney")


def test_a_segment_may_say_what_nobody_labelled(tmp_path: Path) -> None:
    series = write_series(tmp_path / "image", VALUES, AFFINE)
    write_segmentation(tmp_path / "mask.dcm", series, AFFINE, MASKS)
    case = Case("a", "case", "case", (tmp_path / "image",), (tmp_path / "mask.dcm",), True)
    known = Settings(DataConfig(structures={"liver": 1}), ignore=2)
    truth = read_truth(case, read_channels(tmp_path / "image"), known)
    assert (truth.labelled == ~_upright(MASKS["Lesion "])).all()
    assert (truth.layers[0] == _upright(MASKS["Liver"] & ~MASKS["Lesion "])).all()


def test_an_x_ray_and_its_segmentation(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "image.dcm", VALUES[..., 0].T.astype(np.uint8))
    picture.FrameOfReferenceUID = ""

    def bare(header: Dataset) -> None:
        for groups in header.PerFrameFunctionalGroupsSequence:
            del groups.PlaneOrientationSequence, groups.PixelMeasuresSequence

    masks = {name: mask[..., :1] for name, mask in MASKS.items()}
    write_segmentation(tmp_path / "mask.dcm", [picture], AFFINE, masks, place=False, edit=bare)
    layers = _truth(tmp_path / "image.dcm", tmp_path / "mask.dcm", liver=1, lesion=2).layers
    assert (np.array(layers) == [_upright(mask) for mask in masks.values()]).all()


def _other_frame(header: Dataset) -> None:
    header.FrameOfReferenceUID = generate_uid()


def _unknown_type(header: Dataset) -> None:
    header.SegmentationType = "SKETCH"


def _twice(header: Dataset) -> None:
    header.SegmentationType = "LABELMAP"


def _dose(header: Dataset) -> None:
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.2"


def _volume_of(name: str) -> Callable[[Dataset], None]:
    def edit(header: Dataset) -> None:
        del header[name]

    return edit


@pytest.mark.parametrize(
    ("move", "edit", "line"),
    [
        ((0, 0, 0), _other_frame, r"mask\.dcm: lies in another frame of reference than image; draw it"),
        ((0, 0, 0), _unknown_type, r"mask\.dcm: is a segmentation of no known type; save it as BINARY"),
        ((0, 0, 0), _twice, r"mask\.dcm: has two frames on one slice, which a label map cannot have; save it"),
        ((0, 0, 0), _dose, r"mask\.dcm: is no DICOM segmentation \(RT Dose Storage\); give a SEG, RTSTRUCT or NIfTI"),
        ((0, 0, 0), _volume_of("SegmentSequence"), r"mask\.dcm: cannot be read as DICOM \(AttributeError\)"),
        ((0, 0, 1.0), id, r"mask\.dcm: does not lie on the pixels of its image; resample it"),
        ((0.5, 0, 0), id, r"mask\.dcm: does not lie on the pixels of its image; resample it"),
        ((0, 0, 40), id, r"mask\.dcm: lies outside its image; add the slices"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, move: tuple[float, ...], edit: Callable[[Dataset], None], line: str
) -> None:
    series = write_series(tmp_path / "image", VALUES, AFFINE)
    moved = AFFINE.copy()
    moved[:3, 3] += move
    write_segmentation(tmp_path / "mask.dcm", series, moved, MASKS, edit=edit)
    with pytest.raises(UserError, match=line) as error:
        _truth(tmp_path / "image", tmp_path / "mask.dcm")
    message(error)


def test_other_grids_images_and_files_are_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path / "image", VALUES, AFFINE)
    write_segmentation(tmp_path / "small.dcm", series, AFFINE, {"a": MASKS["Liver"][:-1]})
    with pytest.raises(UserError, match=r"small\.dcm: does not lie on the pixels of its image"):
        _truth(tmp_path / "image", tmp_path / "small.dcm")
    with pytest.raises(UserError, match=r"IM000\.dcm: is no DICOM segmentation \(CT Image Storage\); give a SEG"):
        _truth(tmp_path / "image", tmp_path / "image" / "IM000.dcm")
    with pytest.raises(UserError, match=r"image: holds 5 files where a mask is one DICOM file; keep one"):
        _truth(tmp_path / "image", tmp_path / "image")
    other = write_series(tmp_path / "b", VALUES, AFFINE)
    other[0].FrameOfReferenceUID = series[0].FrameOfReferenceUID
    write_segmentation(tmp_path / "strange.dcm", other, AFFINE, MASKS, place=False)
    with pytest.raises(UserError, match=r"strange\.dcm: refers to no slice of its image; draw it on that series"):
        _truth(tmp_path / "image", tmp_path / "strange.dcm")
