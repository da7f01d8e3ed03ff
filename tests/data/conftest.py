"""Small sites made on the fly, and a cache of each test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeSite = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads what another decoded."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SAMMIT_CACHE", str(folder))
    return folder


@pytest.fixture
def make_site(tmp_path: Path) -> MakeSite:
    """Makes a site of RGB images with a bright disc each, and its mask of 0 and 255; returns its folder."""

    def make(name: str = "a", count: int = 6, shape: tuple[int, int] = (40, 50), root: str = "root") -> Path:
        folder = tmp_path / root / name
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        for index in range(count):
            rng = np.random.default_rng(index)
            image = rng.integers(0, 120, (*shape, 3), dtype=np.uint8)
            rows, columns = np.mgrid[: shape[0], : shape[1]]
            disc = (rows - 12 - index) ** 2 + (columns - 15 - index) ** 2 < 60
            image[disc] += 100
            Image.fromarray(image).save(folder / "images" / f"case{index}.png")
            Image.fromarray(disc.astype(np.uint8) * 255).save(folder / "masks" / f"case{index}.png")
        return folder

    return make


@pytest.fixture
def real() -> Path:
    """The folder of real images; the test is skipped where it is absent."""
    folder = Path(__file__).parents[2] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real images (../shared/data) are not here")
    return folder.resolve()
