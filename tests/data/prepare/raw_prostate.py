"""Prostate MRI in the three layouts that it is passed around in, a few tiny volumes each."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (9, 8, 4)
AFFINE = np.array([[-0.6, 0, 0, 30.0], [0, -0.6, 0, 20.0], [0, 0, 3.6, -10.0], [0, 0, 0, 1]])


def image(seed: int) -> np.ndarray:
    """(X, Y, Z) int16, as a scanner would write it."""
    return np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)


def labels(zones: bool) -> np.ndarray:
    """(X, Y, Z) uint8: a gland in the middle slices, of one label or of two."""
    result = np.zeros(SHAPE, np.uint8)
    result[2:7, 2:6, 1:3] = 1
    if zones:
        result[4:7, 2:6, 1:3] = 2
    return result


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def collection(raw: Path) -> None:
    """The multi-site collection: BIDMC with one label, RUNMC with two and with capitals in some names."""
    for number in (0, 2, 3):
        save(raw / "BIDMC" / f"Case{number:02d}.nii.gz", image(number))
        save(raw / "BIDMC" / f"Case{number:02d}_segmentation.nii.gz", labels(zones=False))
    for number in range(3):
        save(raw / "RUNMC" / f"Case{number:02d}.nii.gz", image(number))
        save(raw / "RUNMC" / f"Case{number:02d}_Segmentation.nii.gz", labels(zones=True))


def regrouped(raw: Path) -> None:
    """FedFMS's regrouping: images and labels of the same name."""
    for site in ("HK", "ISBI_1.5"):
        for number in range(3):
            save(raw / site / "images" / f"Case{number:02d}.nii.gz", image(number))
            save(raw / site / "labels" / f"Case{number:02d}.nii.gz", labels(zones=site == "ISBI_1.5"))


def promise12(raw: Path) -> None:
    """PROMISE12: two parts of the training data, and a test set of the same names without masks."""
    for number in (0, 1, 2, 3, 26, 27, 38, 39, 40):
        folder = raw / f"TrainingData_Part{1 if number < 20 else 2}"
        metaimage(folder / f"Case{number:02d}.mhd", image(number), packed=number == 38)
        metaimage(folder / f"Case{number:02d}_segmentation.mhd", labels(zones=False).astype(np.int8))
    metaimage(raw / "TestData" / "Case00.mhd", image(99))


def metaimage(path: Path, values: np.ndarray, packed: bool = False) -> None:
    """Write a MetaImage header and its data."""
    data = path.with_suffix(".zraw" if packed else ".raw")
    kind = {"int16": "MET_SHORT", "int8": "MET_CHAR"}[str(values.dtype)]
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": packed,
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "-30 -20 -10",
        "ElementSpacing": "0.6 0.6 3.6",
        "DimSize": " ".join(map(str, values.shape)),
        "ElementType": kind,
        "ElementDataFile": data.name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key} = {value}\n" for key, value in header.items()))
    content = values.tobytes(order="F")
    data.write_bytes(zlib.compress(content) if packed else content)
