"""Segmentations for viewers: what is written is read back by highdicom, by pydicom and by Sammit, voxel for voxel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from sammit import __version__
from sammit.config import DataConfig
from sammit.data.codes import properties_of
from sammit.data.drawings import drawings
from sammit.data.readers import read_channels
from sammit.data.segmentation import Maker, need_series, write_segmentation
from sammit.data.segments import labels_of
from sammit.data.settings import settings_for
from sammit.data.site import Site
from sammit.errors import UserError

from .scanner import SECRET, message, write_enhanced, write_picture, write_series

SHAPE = (6, 5, 5)  # a frame of 30 bits begins within a byte
RNG = np.random.default_rng(7)
VALUES = RNG.integers(-900, 900, SHAPE, dtype=np.int16)
UPRIGHT = np.array([[-0.7, 0, 0, 9], [0, -0.8, 0, 5], [0, 0, 4, -60], [0, 0, 0, 1]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr(RNG.normal(size=(3, 3)))[0] * [0.7, 0.8, 3.0]
TILTED = UPRIGHT.copy()
TILTED[1, 2] = 1.5  # a gantry at an angle shears the stack
MAKER = Maker("fedavg", "0123456789abcdef")
PLAIN = properties_of({}, ("disc", "cup"))
Edit = Callable[[Dataset, int], object]


def _scanned(folder: Path, affine: np.ndarray = UPRIGHT, edit: Edit = lambda header, slice_: None) -> Path:
    """A series as a scanner writes it, its files in disorder."""
    study = generate_uid()

    def complete(header: Dataset, slice_: int) -> None:
        header.StudyInstanceUID, header.Modality, header.PatientSex = study, "CT", "F"
        edit(header, slice_)

    write_series(folder, VALUES, affine, [3, 1, 4, 0, 2], complete)
    return folder


def _masks(image: Path) -> np.ndarray:
    """(D, H, W, 2) that overlap; the first is nowhere in one slice."""
    shape = read_channels(image).array.shape[:3]
    masks = np.random.default_rng(5).random((*shape, 2)) < 0.4
    masks[2, ..., 0] = False
    return masks


def _read_back(path: Path, image: Path) -> np.ndarray:
    """(D, H, W, C) by Sammit's own reader."""
    return np.stack([piece.draw() for piece in drawings(path, image, read_channels(image))], axis=-1)


@pytest.mark.parametrize("affine", [UPRIGHT, OBLIQUE, TILTED], ids=["upright", "oblique", "tilted"])
def test_three_readers_agree(tmp_path: Path, affine: np.ndarray) -> None:
    image, path = _scanned(tmp_path / "scan", affine), tmp_path / "out" / "scan_seg.dcm"
    masks = _masks(image)
    write_segmentation(path, masks, PLAIN, image, "auto", MAKER)
    assert (_read_back(path, image) == masks).all()
    series = need_series(image)
    lps = np.diag([-1.0, -1, 1, 1]) @ series.affine
    straight = read_channels(image).cut.undo(masks)  # type: ignore[union-attr]
    file, seg = pydicom.dcmread(path), hd.seg.segread(path)
    assert file.NumberOfFrames == (masks.any(axis=(1, 2)).sum()) == 9  # empty frames are left out
    found = np.zeros_like(straight)
    for pixels, groups in zip(file.pixel_array, file.PerFrameFunctionalGroupsSequence, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        place = np.array([*groups.PlanePositionSequence[0].ImagePositionPatient, 1], float)
        found[:, :, round((np.linalg.inv(lps) @ place)[2]), number - 1] |= pixels.T.astype(bool)
    assert (found == straight).all()
    sources = [plane.instance for plane in series.planes]
    theirs = seg.get_pixels_by_source_instance(sources, assert_missing_frames_are_empty=True)
    assert (theirs.transpose(2, 1, 0, 3).astype(bool) == straight).all()


def test_what_a_viewer_is_told(tmp_path: Path) -> None:
    """Codes, algorithm, sources and colours; patient and study are the series' own."""
    image, path = _scanned(tmp_path / "scan"), tmp_path / "seg.dcm"
    cup = ["SCT 49755003 Morphologically Abnormal Structure", "SCT 108369006 Neoplasm"]
    known = properties_of({"disc": "SCT 81016008 Optic nerve head", "cup": cup}, ("disc", "cup", "vessel"))
    write_segmentation(path, np.ones((5, 5, 6, 3), bool), known, image, "auto", MAKER)
    seg, source = hd.seg.segread(path), pydicom.dcmread(next(image.iterdir()))
    told = [seg.get_segment_description(number) for number in seg.segment_numbers]
    assert [segment.segment_label for segment in told] == ["disc", "cup", "vessel"] and labels_of(path) >= {"vessel"}
    assert [segment.segmented_property_category.value for segment in told] == ["91723000", "49755003", "85756007"]
    assert [segment.segmented_property_type.meaning for segment in told] == ["Optic nerve head", "Neoplasm", "Tissue"]
    assert {segment.algorithm_type.value for segment in told} == {"AUTOMATIC"}
    (algorithm,) = told[0].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Sammit fedavg", __version__)
    assert seg.segmentation_type.value == "BINARY" and seg.DeviceSerialNumber == MAKER.fingerprint
    assert len({tuple(segment.RecommendedDisplayCIELabValue) for segment in told}) == 3
    (referenced,) = seg.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID and len(referenced.ReferencedInstanceSequence) == 5
    assert (seg.PatientName, seg.StudyInstanceUID) == (SECRET, source.StudyInstanceUID)
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID and seg.FrameOfReferenceUID == source.FrameOfReferenceUID


@pytest.mark.parametrize("found", [(), (1,)], ids=["nothing", "one of two"])
def test_a_structure_that_was_never_found(tmp_path: Path, found: tuple[int, ...]) -> None:
    """Its segment is there, and empty."""
    image, path = _scanned(tmp_path / "scan"), tmp_path / "seg.dcm"
    masks = np.zeros((5, 5, 6, 2), bool)
    for index in found:
        masks[1, 2:4, 2:5, index] = True
    write_segmentation(path, masks, PLAIN, image, "auto", MAKER)
    assert (_read_back(path, image) == masks).all() and labels_of(path) == {"disc", "cup"}
    assert hd.seg.segread(path).number_of_segments == 2


def test_one_file_of_many_frames(tmp_path: Path) -> None:
    """Its frames lie in any order."""

    def complete(header: Dataset) -> None:
        header.StudyInstanceUID, header.Modality = generate_uid(), "CT"

    image, path = tmp_path / "scan.dcm", tmp_path / "scan_seg.dcm"
    write_enhanced(image, VALUES, UPRIGHT, [2, 0, 4, 1, 3], complete)
    masks = _masks(image)
    write_segmentation(path, masks, PLAIN, image, "auto", MAKER)
    assert (_read_back(path, image) == masks).all()


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_nothing_of_a_patient_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """highdicom warns of names that are no proper ones, and quotes them."""
    caplog.set_level(logging.DEBUG)
    image = _scanned(tmp_path / "scan")
    write_segmentation(tmp_path / "seg.dcm", _masks(image), PLAIN, image, "auto", MAKER)

    def wrong(header: Dataset, slice_: int) -> None:
        header.PatientSex = SECRET

    other = _scanned(tmp_path / "b", edit=wrong)
    caplog.clear()  # pydicom logs what is written here
    with pytest.raises(UserError) as error:
        write_segmentation(tmp_path / "b.dcm", _masks(image), PLAIN, other, "auto", MAKER)
    assert "its header allows no DICOM SEG (ValueError); choose --format nifti" in message(error)
    said = caplog.text + "".join(capfd.readouterr())
    assert SECRET not in said and "1.2.826" not in said
    assert not (tmp_path / "b.dcm").exists()


def test_a_series_whose_names_were_taken_out(tmp_path: Path) -> None:
    """Empty or missing words are no obstacle; two segmentations of it belong to one study."""

    def strip(header: Dataset, slice_: int) -> None:
        header.SpecificCharacterSet = ""
        header.StudyInstanceUID = header.SeriesInstanceUID = header.SOPClassUID = header.SOPInstanceUID = ""
        del header.PatientName, header.PatientID

    image = _scanned(tmp_path / "scan", edit=strip)
    files = []
    for name in ("a.dcm", "b.dcm"):
        write_segmentation(tmp_path / name, _masks(image), PLAIN, image, "auto", MAKER)
        assert (_read_back(tmp_path / name, image) == _masks(image)).all()
        files.append(pydicom.dcmread(tmp_path / name))
    assert files[0].StudyInstanceUID == files[1].StudyInstanceUID and files[0].PatientName == ""
    assert files[0].SOPInstanceUID != files[1].SOPInstanceUID


def test_letters_beyond_ascii(tmp_path: Path) -> None:
    def name(header: Dataset, slice_: int) -> None:
        header.SpecificCharacterSet, header.PatientName = "ISO_IR 100", "Müller^Jürgen"

    image = _scanned(tmp_path / "scan", edit=name)
    write_segmentation(tmp_path / "seg.dcm", _masks(image), PLAIN, image, "auto", MAKER)
    assert pydicom.dcmread(tmp_path / "seg.dcm").PatientName == "Müller^Jürgen"


def test_images_that_have_no_segmentation(tmp_path: Path) -> None:
    write_picture(tmp_path / "xray.dcm", np.zeros((8, 6), np.uint8))
    with pytest.raises(UserError) as error:
        need_series(tmp_path / "xray.dcm")
    assert "does not say where in the patient it lies, as a DICOM SEG must; choose --format png" in message(error)

    def strip(header: Dataset, slice_: int) -> None:
        del header.FrameOfReferenceUID

    with pytest.raises(UserError) as error:
        need_series(_scanned(tmp_path / "bare", edit=strip))
    assert "its header has no FrameOfReferenceUID, which a DICOM SEG repeats" in message(error)


@pytest.mark.parametrize(
    ("codes", "line"),
    [
        ('disk = "SCT 1 x"', "there is no structure 'disk': did you mean 'disc'?"),
        ('disc = "Optic disc"', "is not understood; write"),
        ("disc = 81016008", "is not understood; write"),
        ('disc = ["SCT 1 a", "SCT 2 b", "SCT 3 c"]', "is not understood; write"),
        ('disc = ["SCT 1 a", 2]', "is not understood; write"),
    ],
)
def test_codes_that_are_none(tmp_path: Path, codes: str, line: str) -> None:
    """Said when the site is opened, not after the training."""
    from sammit.data.cache import Cache
    from sammit.data.layouts import Found

    (tmp_path / "dataset.toml").write_text(f"[structures]\ndisc = 1\n\n[codes]\n{codes}\n")
    settings = settings_for(DataConfig(), tmp_path)
    with pytest.raises(UserError, match=r"data\.codes: ") as error:
        Site("a", Found([]), settings, Cache(tmp_path))
    assert line in message(error)


def test_codes_go_with_a_run(tmp_path: Path) -> None:
    """What a site's file says is part of how its images are read."""
    from sammit.data.cache import Cache
    from sammit.data.layouts import Found

    (tmp_path / "dataset.toml").write_text(
        '[structures]\ndisc = 1\n\n[codes]\ndisc = "SCT 81016008 Optic nerve head"\n'
    )
    reading: dict[str, Any] = Site("a", Found([]), settings_for(DataConfig(), tmp_path), Cache(tmp_path)).reading()
    assert reading["data"]["codes"] == {"disc": "SCT 81016008 Optic nerve head"}
