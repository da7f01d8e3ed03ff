"""Masks in every form they leave in, their scores, and the memory that a long series takes."""

from __future__ import annotations

import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from torch import Tensor, nn

from data.scanner import SECRET, write_picture, write_series
from sammit.config import DataConfig, EvaluationConfig, Experiment
from sammit.data.drawings import drawings
from sammit.data.readers import read_channels
from sammit.data.segmentation import Maker
from sammit.data.series import open_series
from sammit.errors import UserError
from sammit.geometry import View
from sammit.predict import Predictor, evaluate, evaluate_masks, load_predictor, predict

SHAPE = (24, 20, 5)
AFFINE = np.array([[-0.7, 0, 0, 9], [0, -0.8, 0, 5], [0, 0, 4, -60], [0, 0, 0, 1]])


class Threshold(nn.Module):
    """Finds what is brighter than a half and than three quarters."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :2] - images.new_tensor([0.5, 0.75])[:, None, None]


def _predictor(size: int = 16) -> Predictor:
    data = DataConfig(window=(-200.0, 200.0), size=size)
    view = View(data.view, data.size, data.scale, data.overlap)
    return Predictor(Threshold(), "global", ("disc", "cup"), data, (), view, "cpu", Maker("threshold", "0"))


def _scan(folder: Path, shape: tuple[int, int, int] = SHAPE) -> Path:
    study = generate_uid()

    def edit(header: Dataset, slice_: int) -> None:
        header.StudyInstanceUID, header.Modality, header.PatientSex = study, "CT", "O"

    values = np.random.default_rng(0).integers(-200, 200, shape, dtype=np.int16)
    write_series(folder, values, AFFINE, edit=edit)
    return folder


def test_all_forms_of_a_series_are_the_same_masks(tmp_path: Path) -> None:
    """Voxel for voxel; PNGs are numbered along the cut axis, from the feet up."""
    image, out = _scan(tmp_path / "scan"), tmp_path / "out"
    written = {form: predict(_predictor(), [image], out / form, form=form) for form in ("nifti", "nrrd", "png", "auto")}
    (seg,) = predict(_predictor(), [image], out, form="dicom-seg")
    assert seg == out / "scan_seg.dcm" and [path.name for path in written["png"]] == ["scan_disc", "scan_cup"]
    assert [path.name for path in written["auto"]] == ["scan_disc.nii.gz", "scan_cup.nii.gz"]
    pieces = list(drawings(seg, image, read_channels(image)))
    assert [piece.name for piece in pieces] == ["disc", "cup"] and pieces[0].draw().any()
    for piece, placed, other, folder in zip(pieces, written["nifti"], written["nrrd"], written["png"], strict=True):
        values = np.asarray(nibabel.load(placed).dataobj)
        assert (nrrd.read(str(other))[0] == values).all() and (piece.draw().transpose(2, 1, 0) == values).all()
        pictures = []
        for path in sorted(folder.iterdir()):
            with Image.open(path) as picture:
                pictures.append(np.asarray(picture))
        assert (np.stack(pictures) == 255 * values.transpose(2, 1, 0)).all() and path.name == "004.png"


def test_an_uneven_series_gets_masks_on_its_own_slices(tmp_path: Path) -> None:
    """The same in a SEG and in NIfTI, and read back by whoever scores them; refused unless asked for."""
    image, out = _scan(tmp_path / "site" / "images" / "scan"), tmp_path / "out"
    sorted(image.iterdir())[2].unlink()
    with pytest.raises(UserError, match="sammit predict: --uneven resample"):
        predict(_predictor(), [image], out)
    predictor = replace(_predictor(), data=replace(_predictor().data, uneven="resample"))
    (seg,) = predict(predictor, [image], out / "seg", form="dicom-seg")
    placed = predict(predictor, [image], out / "nifti", form="nifti")
    series = open_series(image, "resample")
    assert series.shape[2] == 5 and series.own_shape[2] == 4
    pieces = drawings(seg, image, read_channels(image, uneven="resample"), "resample")
    for piece, path in zip(pieces, placed, strict=True):
        values = np.asarray(nibabel.load(path).dataobj)
        assert values.shape == series.own_shape and values.any()
        assert (series.own(piece.draw().transpose(2, 1, 0)) == values).all()
    truth = tmp_path / "site" / "masks" / "scan.dcm"
    truth.parent.mkdir()
    shutil.copy(seg, truth)
    structures = {"disc": "segment disc", "cup": "segment cup"}
    experiment = Experiment(data=DataConfig(uneven="resample", structures=structures))
    rows = evaluate_masks(out / "nifti", tmp_path / "site", experiment)
    assert [row["dice"] for row in rows] == [1.0, 1.0]


def test_a_shorter_series_leaves_no_slices_of_a_longer_one(tmp_path: Path) -> None:
    for slices in (5, 3):
        shutil.rmtree(tmp_path / "scan", ignore_errors=True)
        predict(_predictor(), [_scan(tmp_path / "scan", (24, 20, slices))], tmp_path / "out", form="png")
        assert len(list((tmp_path / "out" / "scan_disc").iterdir())) == slices


def test_forms_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    _scan(tmp_path / "in" / "ascan")
    write_picture(tmp_path / "in" / "xray.dcm", np.full((9, 8), 100, np.uint8))
    Image.new("L", (8, 8)).save(tmp_path / "photo.png")
    for images, form, line in [
        ("in", "dicom-seg", r"xray\.dcm: does not say where in the patient it lies, as a DICOM SEG must"),
        ("in", "nrrd", r"xray\.dcm: does not say where in the patient it lies, as nrrd does; choose auto or png"),
        ("photo.png", "dicom-seg", r"photo\.png: is no DICOM image, and a DICOM SEG belongs to one"),
        ("in", "dicom", "there is no such format: did you mean 'dicom-seg'?"),
    ]:
        with pytest.raises(UserError, match=line) as error:
            predict(_predictor(), [tmp_path / images], tmp_path / "out", form=form)
        assert SECRET not in str(error.value) and not (tmp_path / "out").exists()


def test_masks_score_as_the_model_that_made_them(tmp_path: Path, sites: Path, runs: dict[str, Path]) -> None:
    """Every row is the same but for the model's name; of sites whose cases share names each has its own folder."""
    predict(load_predictor(runs["fedavg"]), [sites / "birch" / "images"], tmp_path / "masks" / "birch")
    with pytest.raises(UserError, match="'p00-0' is a case of aster and of birch; put the masks of each site"):
        evaluate_masks(tmp_path / "masks" / "birch", sites, Experiment())
    shutil.copytree(sites / "birch", tmp_path / "root" / "birch")
    shutil.copy(sites / "dataset.toml", tmp_path / "root")
    rows = evaluate(runs["fedavg"], tmp_path / "root")
    scores = evaluate_masks(tmp_path / "masks", tmp_path / "root", Experiment())
    assert scores == [{**row, "model": "masks"} for row in rows] and len(rows) == 12


def test_masks_that_are_missing_are_named_and_count(tmp_path: Path, sites: Path) -> None:
    """As empty; where there is none at all, the folder is wrong."""
    root, out, told = tmp_path / "root", tmp_path / "masks", list[str]()
    shutil.copytree(sites / "aster", root / "aster")
    shutil.copy(sites / "dataset.toml", root)
    shutil.copytree(sites / "aster" / "masks", out)
    (out / "p00-0.png").unlink()
    strict = Experiment(evaluation=EvaluationConfig(tolerance=0.0))
    rows = evaluate_masks(out, root, strict, told.append)
    first, *rest = [row for row in rows if row["structure"] == "disc"]
    assert told == ["aster p00-0: has no mask of disc, cup; counts as empty"]
    assert (first["case"], first["dice"], first["hd95"], first["nsd"]) == ("p00-0", 0.0, None, 0.0)
    assert len(rest) == 7 and all(row["dice"] == row["nsd"] == 1.0 and row["hd95"] == 0.0 for row in rest)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none: holds no mask of site 'aster'"):
        evaluate_masks(tmp_path / "none", root, strict)


def test_a_long_series_takes_little_more_than_itself(tmp_path: Path) -> None:
    """At most 4 bytes a voxel as read and 2 as shown, or then the masks in one each; at the model's size, a slice."""
    shape = (256, 256, 12)
    image, voxels = _scan(tmp_path / "scan", shape), float(np.prod(shape))
    predict(_predictor(), [_scan(tmp_path / "first")], tmp_path / "out")  # what is imported does not count
    tracemalloc.start()
    predict(_predictor(64), [image], tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 6 * voxels < peak < 9 * voxels, peak / voxels
