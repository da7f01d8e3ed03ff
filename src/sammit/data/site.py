"""A site: its cases, their split by patient, and what a model is shown of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.config import DataConfig
from sammit.data.cache import Cache, key_of
from sammit.data.decode import Entry, decode, layer
from sammit.data.formats import dicom_files, image_files, stem_of, suffix_of
from sammit.data.frames import at_model_scale, same_scale
from sammit.data.layouts import Found
from sammit.data.readers import is_volume
from sammit.data.series import is_series, loose_slices
from sammit.data.settings import Settings
from sammit.data.splits import split_patients
from sammit.errors import UserError
from sammit.files import sha256_of_file
from sammit.geometry import View
from sammit.randomness import key_to_seed
from sammit.vocabulary import Batch, Case, Loaded, Part

if TYPE_CHECKING:
    from sammit.data.sampling import Unit


class Site:
    """One folder of images; fulfils `vocabulary.SiteData`.

    Attributes:
        name: the folder's name.
        structures: names of what is segmented, in the order of every C.
        settings: how its files are read; `settings.config` is the effective `[data]` of this site.
        layout: name of the layout that fits the folder.
        problems: a line for each file that does not fit.
    """

    def __init__(self, name: str, found: Found, settings: Settings, cache: Cache, layout: str = "") -> None:
        if found.structures and not settings.config.structures:
            settings = replace(settings, config=replace(settings.config, structures=dict(found.structures)))
        if found.ignore >= 0 and settings.ignore < 0:
            settings = replace(settings, ignore=found.ignore)
        self.name, self.settings, self.layout = name, settings, layout
        self.structures = tuple(structure.name for structure in settings.structures)
        self.problems = tuple(found.problems)
        self._found, self._cache = found, cache
        self._parts: dict[str, Part] = {}
        self._seed = 0
        self._hashes: dict[str, list[str]] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._units: list[Unit] = []

    @property
    def view(self) -> View:
        """What the model sees of an image."""
        return self.settings.view

    @property
    def all_cases(self) -> list[Case]:
        """Every case, whatever its part, sorted by name."""
        return list(self._found.cases)

    @property
    def parts(self) -> Mapping[str, Part]:
        """The part of each case, by name; empty before `split`."""
        return self._parts

    def split(self, seed: int, whole: bool = False) -> Site:
        """Itself, with each patient's cases put into train, val or test.

        Args:
            seed: the experiment's.
            whole: put all cases into test, as for a site that takes no part in training.

        Raises:
            UserError: too few patients, or one whom the layout puts into two parts.
        """
        self._seed, self._units = seed, []
        if whole:
            self._parts = {case.name: "test" for case in self._found.cases}
            return self
        fixed: dict[str, Part] = {}
        for case in self._found.cases:
            part = self._found.parts.get(case.name)
            if part and fixed.setdefault(case.patient, part) != part:
                raise UserError(
                    f"{case.image[0]}: patient '{case.patient}' is in {part} and {fixed[case.patient]}; mend"
                )
        patients = [case.patient for case in self._found.cases]
        chosen = split_patients(self.name, patients, self.settings.config.split, seed, fixed)
        self._parts = {case.name: chosen[case.patient] for case in self._found.cases}
        return self

    def cases(self, part: Part) -> list[Case]:
        """The cases of a part, sorted by name; none before `split`."""
        return [case for case in self._found.cases if self._parts.get(case.name) == part]

    def samples(self, part: Part) -> int:
        """Images or slices in a part; in train only the slices that training keeps."""
        if part == "train":
            return len(self.units())
        return sum(len(self.entry(case).facts.present) if case.volume else 1 for case in self.cases(part))

    def units(self) -> list[Unit]:
        """What training draws from: each image of train, each slice that is kept of its volumes."""
        from sammit.data.sampling import Unit

        if not self._units:
            self._units = [Unit(self, case, index) for case in self.cases("train") for index in self._kept(case)]
        return self._units

    def _kept(self, case: Case) -> list[int]:
        """A case's slices for training: those with a structure, and of the empty ones a share by keyed hash."""
        if not case.volume:
            return [0]
        present = self.entry(case).facts.present
        empty = [index for index, structures in enumerate(present) if not structures]
        empty.sort(key=lambda index: key_to_seed("empty", self._seed, self.name, case.name, index))
        spared = empty[: round(len(empty) * self.settings.config.empty_slices)]
        return sorted(spared + [index for index, structures in enumerate(present) if structures])

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        """`steps` training batches, a pure function of the data, the split and `key`."""
        from sammit.data.loaders import draw

        return draw(self.units(), self.settings.config, steps, batch_size, key)

    def load(self, case: Case) -> Loaded:
        """One case in native geometry; where it has no mask, no pixel is valid.

        Raises:
            UserError: a file of the case cannot be read, or image and mask do not fit.
        """
        import numpy as np

        entry = self.entry(case)
        truth = np.stack([layer(entry.bits, index) for index in range(len(self.structures))], axis=-1)
        valid = None if entry.facts.complete else layer(entry.bits, len(self.structures))
        image = entry.image
        if image.shape[-1] == 1 and case.volume:  # a view: a volume three times over may not fit
            image = np.lib.stride_tricks.as_strided(image, (*image.shape[:3], 3), (*image.strides[:3], 0))
        elif image.shape[-1] == 1:
            image = np.repeat(image, 3, axis=-1)
        return Loaded(case, image, truth, valid, entry.facts.spacing)

    def entry(self, case: Case) -> Entry:
        """A case decoded, in native geometry."""
        return self._cache.get(self._key(case, "native"), lambda: decode(case, self.settings))

    def frame(self, case: Case) -> Entry:
        """A case at the scale the model sees; the same as `entry` where that is the native one."""
        if same_scale(self.view):
            return self.entry(case)
        make = lambda: at_model_scale(self.entry(case), self.view, len(self.structures))  # noqa: E731
        return self._cache.get(self._key(case, "model"), make)

    def hashes(self, case: Case) -> list[str]:
        """SHA-256 of a case's files, images first."""
        if case.name not in self._hashes:
            self._hashes[case.name] = [_hash(path) for path in (*case.image, *case.masks)]
        return self._hashes[case.name]

    def reading(self) -> dict[str, Any]:
        """How the site's images are read, in plain values; `site_of_images` reads new ones alike."""
        return {
            "structures": list(self.structures),
            "channels": list(self.settings.channels),
            "data": asdict(replace(self.settings.config, root="", cache="")),
        }

    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of all the site's files: equal data, equal fingerprint."""
        digest = sha256()
        for case in self._found.cases:
            digest.update("|".join([case.name, *self.hashes(case)]).encode() + b"\n")
        return digest.hexdigest()

    def _key(self, case: Case, scale: str) -> str:
        if (case.name, scale) not in self._keys:
            config = self.settings.config
            how: dict[str, Any] = {
                "structures": [asdict(structure) for structure in self.settings.structures],
                "window": config.window,
                "intensity": config.intensity,
                "axis": config.axis,
                "slices": config.slices,
                "spacing": config.spacing,
                "channels": self.settings.channels,
                "ignore": self.settings.ignore,
                "files": [suffix_of(path) for path in (*case.image, *case.masks)],
                "truth": len(case.masks),
                "view": asdict(self.view) if scale == "model" else None,
            }
            self._keys[case.name, scale] = key_of(self.hashes(case), how)
        return self._keys[case.name, scale]


def _hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's DICOM files whatever their names and order."""
    if path.is_dir():
        return sha256(" ".join(sorted(sha256_of_file(file) for file in dicom_files(path))).encode()).hexdigest()
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; check the path")
    return sha256_of_file(path)


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
