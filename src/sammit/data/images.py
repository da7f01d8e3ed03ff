"""Images without truth as a site, for prediction."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sammit.config import DataConfig
from sammit.data.cache import Cache
from sammit.data.formats import image_files, is_dicom, stem_of
from sammit.data.layouts import Found
from sammit.data.loose import loose_slices
from sammit.data.readers import is_volume
from sammit.data.settings import Settings
from sammit.data.site import Site
from sammit.data.studies import Held, chosen, find_series, names_of
from sammit.errors import UserError
from sammit.vocabulary import Case


@contextmanager
def site_of_images(
    paths: list[Path], config: DataConfig, series: str = "", name: str = "images", channels: tuple[int, ...] = ()
) -> Iterator[Site]:
    """Images without truth as a site, for prediction; a path may be a folder of images, of DICOM series, or of studies.

    Each series is a case, also where several lie loose in one folder: those are read through folders of links, which
    are gone when the context is left.

    Args:
        paths: image files or folders.
        config: how the model was trained to see images (window, intensity, axis, view).
        series: takes one DICOM series of each study, see `studies.chosen`; empty: all.
        name: the site's name.
        channels: which channels the model was trained on, counted from 0; empty: all.

    Raises:
        UserError: no image among the paths, two of one name, or no series, or too many, that `series` names.
    """
    with TemporaryDirectory(prefix="sammit-") as folder:
        links = _Links(Path(folder))
        try:
            images = _named(paths, series, links)
            cases = [Case(name, own, own, (path,), (), is_volume(path)) for own, path in sorted(images.items())]
            settings = Settings(config, channels)
            yield Site(name, Found(cases), settings, Cache(config.cache)).split(0, whole=True)
        except UserError as error:
            if (text := links.explained(str(error))) == str(error):
                raise
            raise UserError(text) from error


class _Links:
    """Folders of links to the files of series that have no folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.series: dict[Path, Held] = {}

    def to(self, held: Held) -> Path:
        """A folder that holds a series and nothing else."""
        home = self.folder / str(len(self.series))
        home.mkdir()
        for place, file in enumerate(held.files):
            (home / f"{place:06d}-{file.name}").symlink_to(file.resolve())
        self.series[home] = held
        return home

    def explained(self, text: str) -> str:
        """A message that names the user's own files."""
        for home, held in self.series.items():
            for place, file in enumerate(held.files):
                text = text.replace(f"{home}{os.sep}{place:06d}-{file.name}", str(file))
                text = text.replace(f"{place:06d}-{file.name}", file.name)
            text = text.replace(str(home), f"{held.files[0].parent} (the series of {held.files[0].name})")
        return text


def _named(paths: list[Path], series: str, links: _Links) -> dict[str, Path]:
    """The images that the paths mean, by the names of their masks."""
    images: dict[str, Path] = {}
    for path in paths:
        for name, image in _images_at(path, series, links).items():
            if images.setdefault(name, image) != image:
                raise UserError(f"{image}: has the same name as {images[name]}; predict them into two folders")
    if not images:
        raise UserError(f"{', '.join(map(str, paths))}: no image of a known format; name files or folders of images")
    for problem in loose_slices([image for image in images.values() if image in paths]):
        raise UserError(problem)
    return images


def _images_at(path: Path, series: str, links: _Links) -> dict[str, Path]:
    """The images that a path means, by name: itself, or the pictures, volumes and DICOM series of a folder."""
    if not path.is_dir():
        if series:
            raise UserError(f"{path}: is no folder, and --series chooses among the series of one; leave it out")
        return {stem_of(path): path}
    held = find_series(path)
    if series and not held:
        raise UserError(f"{path}: holds no DICOM series for --series to choose from; leave it out")
    wanted = chosen(held, series) if series else held
    images = {name: one.place or links.to(one) for name, one in names_of(held, path).items() if one in wanted}
    plain = [] if series else [file for file in image_files(path) if not is_dicom(file)]
    for file in plain:
        if images.setdefault(stem_of(file), file) != file:
            raise UserError(f"{file}: has the same name as {images[stem_of(file)].name}; predict them into two folders")
    return images
