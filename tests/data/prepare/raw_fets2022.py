"""FeTS 2022 in its own layout and in FedFMS's, a few tiny subjects each."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

SHAPE = (8, 9, 5)
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1.0, 0, 239], [0, 0, 1.0, 0], [0, 0, 0, 1]])  # as in the release
PARTITION = {1: (1, 3, 5), 6: (7, 8, 9), 18: (11, 12, 13, 14), 2: (20,)}
MODALITIES = ("flair", "t1", "t1ce", "t2")


def subject(number: int) -> str:
    """The name of a subject."""
    return f"FeTS2022_{number:05d}"


def image(number: int, modality: str) -> np.ndarray:
    """(X, Y, Z) int16; modalities differ in level by far."""
    level = 10 ** (1 + MODALITIES.index(modality))
    return np.random.default_rng([number, level]).integers(0, level, SHAPE).astype(np.int16)


def labels() -> np.ndarray:
    """(X, Y, Z) uint8 with all three labels."""
    result = np.zeros(SHAPE, np.uint8)
    result[1:7, 1:7, 1:4] = 2
    result[2:5, 2:6, 1:4] = 4
    result[3, 3:5, 2] = 1
    return result


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def release(raw: Path) -> None:
    """The challenge's training data with its two tables; subject 20's institution is not among the default ones."""
    top = raw / "MICCAI_FeTS2022_TrainingData"
    for number in (number for numbers in PARTITION.values() for number in numbers):
        name = subject(number)
        for modality in MODALITIES:
            save(top / name / f"{name}_{modality}.nii.gz", image(number, modality))
        save(top / name / f"{name}_seg.nii.gz", labels())
    rows = [f"{site},{subject(number)}" for site, numbers in PARTITION.items() for number in numbers]
    (top / "partitioning_1.csv").write_text("\n".join(["Partition_ID,Subject_ID", *rows]) + "\n")
    turned = [f"{subject(number)},{site + number % 2:02d}" for site, ns in PARTITION.items() for number in ns]
    (top / "partitioning_2.csv").write_text("\n".join(["Subject_ID,Partition_ID", *turned]) + "\n")


def regrouped(raw: Path) -> None:
    """FedFMS's folders of institutions, T1ce alone."""
    for site in (6, 18):
        for number in PARTITION[site]:
            save(raw / str(site) / "images" / f"{subject(number)}.nii.gz", image(number, "t1ce"))
            save(raw / str(site) / "labels" / f"{subject(number)}.nii.gz", labels())
