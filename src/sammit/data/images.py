"""Images without truth as a site, for prediction."""

from __future__ import annotations

from pathlib import Path

from sammit.config import DataConfig
from sammit.data.cache import Cache
from sammit.data.formats import image_files, stem_of
from sammit.data.layouts import Found
from sammit.data.loose import is_series, loose_slices
from sammit.data.readers import is_volume
from sammit.data.settings import Settings
from sammit.data.site import Site
from sammit.errors import UserError
from sammit.vocabulary import Case


def site_of_images(paths: list[Path], config: DataConfig, name: str = "images", channels: tuple[int, ...] = ()) -> Site:
    """Images without truth as a site, for prediction; a path may be a folder of images, or of one DICOM series.

    Args:
        paths: image files or folders.
        config: how the model was trained to see images (window, intensity, axis, view).
        name: the site's name.
        channels: which channels the model was trained on, counted from 0; empty: all.

    Raises:
        UserError: no image among the paths, or two of one stem.
    """
    files = [file for path in paths for file in _images_at(path)]
    if not files:
        raise UserError(f"{', '.join(map(str, paths))}: no image of a known format; name files or folders of images")
    by_stem: dict[str, Path] = {}
    for file in files:
        if by_stem.setdefault(stem_of(file), file) != file:
            raise UserError(f"{file}: has the same name as {by_stem[stem_of(file)]}; predict them into two folders")
    for problem in loose_slices(files):
        raise UserError(problem)
    cases = [Case(name, stem, stem, (file,), (), is_volume(file)) for stem, file in sorted(by_stem.items())]
    return Site(name, Found(cases), Settings(config, channels), Cache(config.cache)).split(0, whole=True)


def _images_at(path: Path) -> list[Path]:
    """The images that a path means: itself, the one series that it holds, or all in the folder."""
    if not path.is_dir():
        return [path]
    if is_series(path):
        return [path if path.name not in ("", "..") else path.resolve()]  # its name becomes the masks' name
    return image_files(path)
