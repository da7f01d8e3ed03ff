"""The quirks of files, met one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from imagecodecs import png_encode
from PIL import Image

from sammit.data.readers import is_volume, read_channels, read_image, read_mask, three_channels
from sammit.errors import UserError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
LABELS = np.array([[0, 1, 2], [300, 0, 40000]], np.uint16)


def _save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_rgba_loses_its_transparency(tmp_path: Path) -> None:
    image = read_image(_save(tmp_path / "a.png", COLOUR, "RGBA")).array
    assert image.shape == (1, 5, 7, 3) and image.dtype == np.uint8
    assert (image[0] == COLOUR).all()


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_grey_becomes_three_channels(tmp_path: Path, suffix: str) -> None:
    image = read_image(_save(tmp_path / f"a.{suffix}", COLOUR[..., 0])).array
    assert image.shape == (1, 5, 7, 3) and (image == COLOUR[None, ..., :1]).all()


def test_grey_with_transparency(tmp_path: Path) -> None:
    image = read_channels(_save(tmp_path / "a.png", COLOUR[..., 0], "LA")).array
    assert (image[0, ..., 0] == COLOUR[..., 0]).all() and image.shape[-1] == 1


def test_16_bit_grey_keeps_its_bits(tmp_path: Path) -> None:
    image = read_image(_save(tmp_path / "a.png", LABELS)).array
    assert image.dtype == np.uint16 and (image[0, ..., 0] == LABELS).all()


def test_16_bit_colour_keeps_its_bits(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (5, 7, 4), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_encode(deep))
    image = read_image(tmp_path / "a.png").array
    assert image.dtype == np.uint16 and (image[0] == deep[..., :3]).all()


def test_one_bit_image_is_black_and_white(tmp_path: Path) -> None:
    image = read_image(_save(tmp_path / "a.png", COLOUR[..., 0] > 99, None)).array
    assert set(np.unique(image)) == {0, 255}


def test_palette_image_shows_its_colours(tmp_path: Path) -> None:
    flat = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    Image.fromarray(flat).quantize(2).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png").array[0] == flat).all()


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(_save(tmp_path / "a.jpg", COLOUR, exif=exif)).array.shape == (1, 5, 7, 3)


def test_a_very_large_image_is_no_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(_save(tmp_path / "a.png", COLOUR)).array.shape == (1, 5, 7, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_tiff_stack_and_npy_are_volumes(tmp_path: Path) -> None:
    stack = RNG.integers(0, 256, (6, 9, 8), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", compression="lzw")
    np.save(tmp_path / "a.npy", stack)
    for path in (tmp_path / "a.tif", tmp_path / "a.npy"):
        assert is_volume(path) and (read_channels(path).array[..., 0] == stack).all()
    assert read_image(tmp_path / "a.npy", axis="2").array.shape == (8, 6, 9, 3)


def test_tiff_colour_planes_and_white_is_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    assert not is_volume(tmp_path / "a.tif") and (read_image(tmp_path / "a.tif").array[0] == COLOUR).all()
    tifffile.imwrite(tmp_path / "b.tif", COLOUR[..., 0], photometric="miniswhite")
    assert (read_image(tmp_path / "b.tif").array[0, ..., 0] == 255 - COLOUR[..., 0]).all()


def test_float_and_signed_images_become_float32(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((4, 5), -3, ">i2"))
    image = read_image(tmp_path / "a.npy").array
    assert image.dtype == np.float32 and (image == -3).all()


def test_masks_keep_their_labels(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        mask = read_mask(_save(tmp_path / name, LABELS))
        assert mask.dtype == np.int32 and (mask[0] == LABELS).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.npy"])
def test_one_bit_masks_are_zero_and_one(tmp_path: Path, name: str) -> None:
    mask = COLOUR[..., 0] > 99
    if name == "a.npy":
        np.save(tmp_path / name, mask)
    else:
        _save(tmp_path / name, mask)
    assert ((read_mask(tmp_path / name)[0] > 0) == mask).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_equal_channels_count_as_grey(tmp_path: Path, mode: str) -> None:
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    assert (read_mask(_save(tmp_path / "a.png", grey, mode))[0] == grey).all()


def test_coloured_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: is a coloured mask; save"):
        read_mask(_save(tmp_path / "a.png", COLOUR))


def test_palette_masks(tmp_path: Path) -> None:
    index = np.array([[0, 1], [1, 2]], np.uint8)
    coloured, grey = Image.fromarray(index, "L").convert("P"), Image.fromarray(index, "L").convert("P")
    coloured.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    grey.putpalette([255, 255, 255, 7, 7, 7, 0, 0, 0])
    coloured.save(tmp_path / "coloured.png")
    grey.save(tmp_path / "grey.png")
    assert (read_mask(tmp_path / "coloured.png")[0] == index).all()
    assert (read_mask(tmp_path / "grey.png")[0] == [[255, 7], [7, 0]]).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_mask_is_cut_at_127(tmp_path: Path, mode: str) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    read = read_mask(_save(tmp_path / "a.jpg", mask, mode, quality=80))
    assert set(np.unique(read)) == {0, 1} and (read[0] == mask // 255).all()


def test_fractions_are_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0.0, 0.5]]))
    with pytest.raises(UserError, match=r"a\.npy: holds fractions"):
        read_mask(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.npy", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", ["rubbish", "empty"])
def test_broken_files_are_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"no image at all" * 40 if kind == "rubbish" else b"")
    with pytest.raises(UserError, match=rf"{name}: cannot be read .*; restore"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.npy"])
def test_truncated_files_are_named(tmp_path: Path, name: str) -> None:
    big = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.save(tmp_path / name, big) if name == "a.npy" else _save(tmp_path / name, big)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"{name}: cannot be read"):
        read_image(tmp_path / name)


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(UserError, match="no known image format"):
        read_image(tmp_path / "a.xyz")


def test_three_channels() -> None:
    two = np.array([[[10, 20]]], np.uint8)
    assert three_channels(two).tolist() == [[[10, 20, 15]]]
    assert three_channels(np.zeros((2, 2, 5))).shape == (2, 2, 3)


def test_an_image_without_pixels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 3)))
    with pytest.raises(UserError, match="it has no pixels"):
        read_image(tmp_path / "a.npy")
