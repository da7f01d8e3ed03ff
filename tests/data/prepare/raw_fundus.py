"""Fundus photographs of four collections in their own layouts, three tiny eyes each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SHAPE = (24, 30)


def image(seed: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)


def disc() -> np.ndarray:
    """(H, W) bool, the disc with its cup."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    result: np.ndarray = (rows - 12) ** 2 + (columns - 15) ** 2 < 64
    return result


def cup() -> np.ndarray:
    """(H, W) bool, inside the disc."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    result: np.ndarray = (rows - 12) ** 2 + (columns - 14) ** 2 < 16
    return result


def labels() -> np.ndarray:
    """(H, W) uint8: 0 background, 1 rim, 2 cup."""
    return (disc().astype(np.uint8) + cup()).astype(np.uint8)


def refuge_labels() -> np.ndarray:
    """(H, W) uint8: 255 background, 128 rim, 0 cup."""
    return np.array([255, 128, 0], np.uint8)[labels()]


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a picture in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def refuge(raw: Path) -> None:
    """The unpacked archives, side by side."""
    for stem, folder in {"g0001": "Training400/Glaucoma", "n0001": "Training400/Non-Glaucoma"}.items():
        save(raw / folder / f"{stem}.jpg", image(1))
        mask = raw / "Annotation-Training400" / "Disc_Cup_Masks" / Path(folder).name / f"{stem}.bmp"
        save(mask, refuge_labels())
    save(raw / "REFUGE-Validation400" / "V0001.jpg", image(2))
    save(raw / "REFUGE-Validation400-GT" / "Disc_Cup_Masks" / "V0001.bmp", refuge_labels())
    (raw / "REFUGE-Validation400-GT" / "Fovea_locations.xlsx").write_bytes(b"a table")
    save(raw / "Test400" / "T0001.jpg", image(3))
    save(raw / "REFUGE-Test-GT" / "Disc_Cup_Masks" / "N" / "T0001.bmp", refuge_labels())


def origa(raw: Path) -> None:
    """The copy that goes round, with cropped variants, MATLAB files and tables beside the originals."""
    for number in range(1, 4):
        save(raw / "ORIGA" / "ORIGA" / "Images" / f"{number:03d}.jpg", image(number))
        save(raw / "ORIGA" / "ORIGA" / "Masks" / f"{number:03d}.png", labels())
        save(raw / "ORIGA" / "ORIGA" / "Images_Square" / f"{number:03d}.jpg", image(number)[:20, :20])
        save(raw / "ORIGA" / "ORIGA" / "Masks_Square" / f"{number:03d}.png", labels()[:20, :20])
        matlab(raw / "ORIGA" / "ORIGA" / "Semi-automatic-annotations" / f"{number:03d}.mat", {"mask": labels()})
    save(raw / "ORIGA" / "ORIGA" / "Semi-automatic-annotations" / "013.tif", image(0))
    (raw / "ORIGA" / "ORIGA" / "OrigaList.csv").write_text("Eye,Filename,ExpCDR,Set,Glaucoma\n")


def matlab(path: Path, table: dict[str, np.ndarray]) -> None:
    """Write a MATLAB file."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, table)


def g1020(raw: Path) -> None:
    """Images with a JSON file beside each."""
    for number in (0, 3, 10):
        save(raw / "G1020" / "Images" / f"image_{number}.jpg", image(number))
        (raw / "G1020" / "Images" / f"image_{number}.json").write_text("{}")
        save(raw / "G1020" / "Masks" / f"image_{number}.png", labels())


def drishti(raw: Path) -> None:
    """Training and test set, whose truth lies in folders of different names, with soft maps of four experts."""
    top = raw / "Drishti-GS1_files" / "Drishti-GS1_files"
    for number, part, truth in ((2, "Training", "GT"), (4, "Training", "GT"), (1, "Test", "Test_GT")):
        stem = f"drishtiGS_{number:03d}"
        save(top / part / "Images" / f"{stem}.png", image(number))
        save(top / part / truth / stem / "SoftMap" / f"{stem}_ODsegSoftmap.png", soft(disc()))
        save(top / part / truth / stem / "SoftMap" / f"{stem}_cupsegSoftmap.png", soft(cup()))
        (top / part / truth / stem / "AvgBoundary").mkdir()
        (top / part / truth / stem / "AvgBoundary" / f"{stem}_diskCenter.txt").write_text("12 15")


def soft(majority: np.ndarray) -> np.ndarray:
    """(H, W) uint8 soft map whose half and more is `majority`; one expert is wider by a pixel."""
    from scipy.ndimage import binary_dilation, binary_erosion

    result = np.where(binary_dilation(majority), 64, 0)
    result[majority] = 128
    result[binary_erosion(majority)] = 191
    result[binary_erosion(majority, iterations=2)] = 255
    return result.astype(np.uint8)


def everything(raw: Path) -> None:
    """All four."""
    for make in (refuge, origa, g1020, drishti):
        make(raw)
