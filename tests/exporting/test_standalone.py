"""What runs without Sammit sees an image as Sammit sees it, and draws the same masks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from sammit.config import DataConfig
from sammit.data.images import site_of_images
from sammit.data.volumes import cut_of, header_of
from sammit.data.writers import write_mask
from sammit.exporting.copying import STANDALONE
from sammit.geometry import View
from sammit.learning.inference import segment

HOW: dict[str, Any] = {"channels": [], "window": [], "intensity": "range", "axis": "auto", "slices": "2d"}
VIEWS = [
    View("whole", 32),
    View("whole", 32, resampling="fedfms"),
    View("tile", 32, 1.0, 0.25),
    View("tile", 32, 2.7, 0.5),
    View("tile", 32, 0.6, 0.25),
    View("tile", 48, 1.0, 0.25, 96),
]


class Stub(torch.nn.Module):
    """Logits at half the resolution, with both signs, from what the model is shown."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 2, H / 2, W / 2)."""
        pooled = torch.nn.functional.avg_pool2d(images, 2)
        return torch.stack([pooled[:, 0] - pooled[:, 1], pooled[:, 2] - 0.5], dim=1)


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("shape", [(70, 101), (20, 17), (32, 32)])
def test_masks_are_equal(standalone: ModuleType, view: View, shape: tuple[int, int]) -> None:
    """Whole and tiled, larger and smaller than a tile, shrunk and enlarged; a stray pixel may lie on the threshold."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 65536, (1, *shape, 3), dtype=np.uint16)
    native = segment(Stub(), image, view)[0].transpose(2, 0, 1)
    stub = lambda batch: Stub()(torch.from_numpy(batch)).numpy()  # noqa: E731
    found = standalone.segment(stub, image[0], vars(view))
    assert found.shape == native.shape and 0.05 < native.mean() < 0.95
    assert (found != native).sum() <= 1


PICTURES = {
    "grey": ("L", np.uint8, ()),
    "deep": ("I;16", np.uint16, ()),
    "colour": ("RGB", np.uint8, (3,)),
    "transparent": ("RGBA", np.uint8, (4,)),
    "veiled": ("LA", np.uint8, (2,)),
}


@pytest.mark.parametrize("intensity", ["range", "percentile", "local", "fedfms"])
@pytest.mark.parametrize("kind", [*PICTURES, "two-valued", "palette"])
def test_pictures_are_read_alike(standalone: ModuleType, kind: str, intensity: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    if kind in PICTURES:
        mode, dtype, rest = PICTURES[kind]
        picture = Image.fromarray(rng.integers(0, np.iinfo(dtype).max, (40, 55, *rest), dtype=dtype), mode=None)
        assert picture.mode == mode
    else:
        grey = Image.fromarray(rng.integers(0, 255, (40, 55, 3), dtype=np.uint8))
        picture = grey.convert("1") if kind == "two-valued" else grey.quantize(16)
    picture.save(tmp_path / "a.png")
    assert_alike(standalone, tmp_path / "a.png", {**HOW, "intensity": intensity})


@pytest.mark.parametrize("change", [{"channels": [1]}, {"channels": [2, 0]}, {"window": [20.0, 180.0]}])
def test_channels_and_window_are_kept(standalone: ModuleType, change: dict[str, Any], tmp_path: Path) -> None:
    picture = np.random.default_rng(3).integers(0, 255, (30, 31, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert_alike(standalone, tmp_path / "a.png", {**HOW, **change})


AFFINES = {
    "axial": np.diag([-1.1, 1.2, 5.0, 1.0]),
    "sagittal": np.array([[0, 0, 4.0, 3], [1.2, 0, 0, 1], [0, -1.1, 0, 2], [0, 0, 0, 1]]),
    "isotropic": np.diag([1.0, 1.0, 1.0, 1.0]),
}


@pytest.mark.parametrize("place", AFFINES)
@pytest.mark.parametrize("change", [{}, {"slices": "2.5d"}, {"axis": "0"}, {"intensity": "fedfms"}], ids=str)
def test_volumes_are_read_and_written_alike(
    standalone: ModuleType, place: str, change: dict[str, Any], tmp_path: Path
) -> None:
    values = np.random.default_rng(4).integers(-1000, 1000, (9, 8, 5)).astype(np.int16)
    path = tmp_path / "v.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, AFFINES[place]), path)
    image, volume = assert_alike(standalone, path, {**HOW, **change})
    mask = image[..., 0] > np.median(image)
    axis = {**HOW, **change}["axis"]
    standalone.write(tmp_path / "ours.nii.gz", mask, volume, axis)
    write_mask(tmp_path / "native.nii.gz", mask, path, axis)
    ours, native = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("ours", "native"))
    assert (np.asarray(ours.dataobj) == np.asarray(native.dataobj)).all() and (ours.affine == native.affine).all()
    assert cut_of(*header_of(volume), volume.affine, axis).undo(mask).shape == ours.shape


def assert_alike(standalone: ModuleType, path: Path, how: dict[str, Any]) -> Any:
    """Read both ways; returns what the standalone one gave."""
    config = DataConfig(window=tuple(how["window"]), intensity=how["intensity"], axis=how["axis"], slices=how["slices"])
    with site_of_images([path], config, channels=tuple(how["channels"])) as site:
        native = site.load(site.cases("test")[0]).image
    found = standalone.read(path, how)
    assert found[0].dtype == native.dtype and found[0].shape == native.shape
    assert (found[0] == native).all()
    return found


@pytest.mark.parametrize("script", sorted(STANDALONE.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_are_small_and_know_nothing_of_sammit(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    assert "import sammit" not in text and "from sammit" not in text
