"""Nuclei in the layouts of PanNuke, MoNuSAC 2020, MoNuSeg 2018 and TNBC, a few tiny tiles each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from tifffile import imwrite

SIDE = 32
ORGANS = {
    2: ("Adrenal_gland", "Breast", "Esophagus", "Adrenal_gland", "Adrenal_gland", "Esophagus", "Esophagus"),
    3: ("Bile-duct", "Uterus", "Bile-duct", "HeadNeck", "Bile-duct", "Uterus", "Uterus"),
}
SQUARES = ((3, 4, 9, 11), (14, 15, 20, 27), (22, 3, 29, 8))
"""Nuclei as top, left, bottom, right: the last row and column count."""


def image(seed: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def instances() -> np.ndarray:
    """(H, W) uint8, 1 to n."""
    result = np.zeros((SIDE, SIDE), np.uint8)
    for number, (top, left, bottom, right) in enumerate(SQUARES, 1):
        result[top : bottom + 1, left : right + 1] = number
    return result


def pannuke(raw: Path, flat: bool = False) -> None:
    """Folds 2 and 3 of the release, or as FedFMS lays them out."""
    for fold, organs in ORGANS.items():
        top = raw / f"PanNuke{fold}" if flat else raw / f"Fold {fold}"
        images = top / "Images" if flat else top / "images" / f"fold{fold}"
        masks = top / "Masks" if flat else top / "masks" / f"fold{fold}"
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        np.save(images / "images.npy", np.stack([image(index) for index in range(len(organs))]).astype(np.float64))
        np.save(images / "types.npy", np.array(organs))
        np.save(masks / "masks.npy", np.stack([kinds()] * len(organs)))


def kinds() -> np.ndarray:
    """(H, W, 6) float64: the first two nuclei of one kind, the last of another with the number 1 again, background."""
    truth = instances()
    result = np.zeros((SIDE, SIDE, 6))
    result[..., 0] = np.where(truth < 3, truth, 0) * 300.0  # numbers need not be small or without gaps
    result[..., 3] = truth == 3
    result[..., 5] = truth == 0
    return result


def outlines(path: Path, *annotations: tuple[str, list[tuple[float, float, float, float]]]) -> None:
    """Write an Aperio file: for each class the corners of its squares."""
    text = ['<?xml version="1.0" encoding="UTF-8"?>', '<Annotations MicronsPerPixel="0.252000">']
    for number, (kind, squares) in enumerate(annotations, 1):
        text.append(f'<Annotation Id="{number}" Name="" ReadOnly="0" LineColor="65280">')
        text.append(f'<Attributes><Attribute Name="{kind}" Id="0" Value=""/></Attributes><Regions>')
        text.append('<RegionAttributeHeaders><AttributeHeader Id="9999" Name="Region"/></RegionAttributeHeaders>')
        for index, (top, left, bottom, right) in enumerate(squares, 1):
            corners = ((left, top), (right, top), (right, bottom), (left, bottom))
            vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
            text.append(f'<Region Id="{index}" Type="0"><Attributes/><Vertices>{vertices}</Vertices></Region>')
        text.append("</Regions><Plots/></Annotation>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*text, "</Annotations>"]))


def monusac(raw: Path) -> None:
    """Two training patients and a test patient; one image as scan and TIFF, one as scan alone; an ambiguous region."""
    top = raw / "MoNuSAC_images_and_annotations"
    for patient, number in (("TCGA-5P-A9K0", 1), ("TCGA-5P-A9K0", 2), ("TCGA-55-1594", 1)):
        stem = f"{patient}-01Z-00-DX1"
        path = top / stem / f"{stem}_{number}"
        outlines(path.with_suffix(".xml"), ("Epithelial", list(SQUARES[:2])), ("Lymphocyte", [SQUARES[2]]))
        scan(path.with_suffix(".svs"))
        if number == 1:
            imwrite(path.with_suffix(".tif"), image(0))
    stem = "TCGA-2Z-A9JG-01Z-00-DX1"
    path = raw / "MoNuSAC Testing Data and Annotations" / stem / f"{stem}_1"
    outlines(path.with_suffix(".xml"), ("Neutrophil", list(SQUARES)), ("Ambiguous", [(0, 0, 5, 31)]))
    imwrite(path.with_suffix(".tif"), image(0))


def scan(path: Path) -> None:
    """A small Aperio scan: a tiled, JPEG-compressed TIFF with a description and a thumbnail."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    imwrite(path, image(0), tile=(16, 16), description="Aperio Image Library v11.2.1\n32x32 (16x16) JPEG", **options)
    imwrite(path, image(0)[::4, ::4], append=True, **options)


def monuseg(raw: Path) -> None:
    """Training data in two folders, test data in one."""
    top = raw / "MoNuSeg 2018 Training Data"
    for patient in ("TCGA-18-5592", "TCGA-38-6178"):
        imwrite(folder(top / "Tissue Images") / f"{patient}-01Z-00-DX1.tif", image(0))
        outlines(top / "Annotations" / f"{patient}-01Z-00-DX1.xml", ("Description", list(SQUARES)))
    imwrite(folder(raw / "MoNuSegTestData") / "TCGA-2Z-A9J9-01A-01-TS1.tif", image(0))
    outlines(raw / "MoNuSegTestData" / "TCGA-2Z-A9J9-01A-01-TS1.xml", ("Description", list(SQUARES)))


def folder(path: Path) -> Path:
    """The folder, made if it is missing."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def tnbc(raw: Path) -> None:
    """Three slides, the first with two images; RGBA images, truth of 0 and 255."""
    top = raw / "TNBC_NucleiSegmentation"
    for slide, number in ((1, 1), (1, 2), (2, 1), (11, 1)):
        pixels = np.concatenate([image(slide), np.full((SIDE, SIDE, 1), 255, np.uint8)], axis=-1)
        name = f"{slide:02d}_{number}.png"
        Image.fromarray(pixels).save(folder(top / f"Slide_{slide:02d}") / name)
        Image.fromarray((instances() > 0).astype(np.uint8) * 255).save(folder(top / f"GT_{slide:02d}") / name)


def everything(raw: Path) -> None:
    """All four, and what archivers leave behind."""
    for make in (pannuke, monusac, monuseg, tnbc):
        make(raw)
    (folder(raw / "__MACOSX" / "Slide_01") / "01_1.png").write_bytes(b"a resource fork")
    (raw / "TNBC_NucleiSegmentation" / ".DS_Store").write_bytes(b"")
