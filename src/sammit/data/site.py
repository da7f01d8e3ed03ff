"""A site: its cases, their split by patient, and what a model is shown of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import asdict, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sammit.data.cache import Cache, hash_of, key_of
from sammit.data.codes import properties_of
from sammit.data.decode import Entry, decode, layer
from sammit.data.formats import suffix_of
from sammit.data.frames import at_model_scale, same_scale
from sammit.data.labels import unlabelled, weakened
from sammit.data.layouts import Found
from sammit.data.settings import Settings
from sammit.data.splits import labelled_patients, split_patients
from sammit.errors import UserError
from sammit.geometry import View
from sammit.policy import SitePolicy
from sammit.randomness import key_to_seed
from sammit.vocabulary import Batch, Case, Loaded, Part

if TYPE_CHECKING:
    from sammit.data.sampling import Unit


class Site:
    """One folder of images; fulfils `vocabulary.SiteData`.

    Attributes:
        name: the folder's name, or the one that a federation knows the site by.
        structures: names of what is segmented, in the order of every C.
        settings: how its files are read; `settings.config` is the effective `[data]` of this site.
        layout: name of the layout that fits the folder.
        problems: a line for each file that does not fit.
        policy: what the site agrees to; it stays here.
    """

    def __init__(
        self,
        name: str,
        found: Found,
        settings: Settings,
        cache: Cache,
        layout: str = "",
        policy: SitePolicy | None = None,
    ) -> None:
        if found.structures and not settings.config.structures:
            settings = replace(settings, config=replace(settings.config, structures=dict(found.structures)))
        if found.ignore >= 0 and settings.ignore < 0:
            settings = replace(settings, ignore=found.ignore)
        self.name, self.settings, self.layout = name, settings, layout
        self.policy = policy or SitePolicy()
        self.structures = tuple(structure.name for structure in settings.structures)
        properties_of(settings.config.codes, self.structures)  # a misspelt code is told before training, not after
        self.problems = tuple(found.problems)
        self._found, self._cache = found, cache
        self._parts: dict[str, Part] = {}
        self._seed = 0
        self._hashes: dict[str, list[str]] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._units: dict[bool, list[Unit]] = {}
        self._labelled: frozenset[str] | None = None
        self._learns_unlabelled = False

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

    def split(self, seed: int, whole: bool = False, unlabelled: bool = False) -> Site:
        """Itself, with each patient's cases put into train, val or test.

        Args:
            seed: the experiment's.
            whole: put all cases into test, as for a site that takes no part in training.
            unlabelled: draw half of every training batch from the images that `data.labelled` leaves without labels.

        Raises:
            UserError: too few patients, or one whom the layout puts into two parts.
        """
        self._seed, self._units, self._keys = seed, {}, {}
        self._learns_unlabelled = unlabelled
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
        learners = [case.patient for case in self.cases("train")]
        self._labelled = labelled_patients(self.name, learners, self.settings.config.labelled, seed)
        return self

    def named(self, name: str) -> Site:
        """The same files under another name, before `split`."""
        cases = [replace(case, site=name) for case in self._found.cases]
        found = replace(self._found, cases=cases)
        return Site(name, found, self.settings, self._cache, self.layout, self.policy)

    def only(self, names: Iterable[str]) -> Site:
        """The same site with the same split, of whose training cases it has those named alone."""
        other, kept = copy(self), set(names)
        other._parts = {name: part for name, part in self._parts.items() if part != "train" or name in kept}
        other._units = {}
        return other

    def cases(self, part: Part) -> list[Case]:
        """The cases of a part, sorted by name; none before `split`."""
        return [case for case in self._found.cases if self._parts.get(case.name) == part]

    def samples(self, part: Part) -> int:
        """Images or slices in a part; in train those that training draws from."""
        if part == "train":
            return len(self.units()) + len(self.unlabelled_units())
        return sum(len(self.entry(case).facts.present) if case.volume else 1 for case in self.cases(part))

    def units(self) -> list[Unit]:
        """What training draws from: each labelled image of train, each slice that is kept of its volumes."""
        return self._units_of(True)

    def unlabelled_units(self) -> list[Unit]:
        """What training draws from beside them: images without labels, where the method learns from those."""
        return self._units_of(False) if self._learns_unlabelled else []

    def _units_of(self, labelled: bool) -> list[Unit]:
        if labelled not in self._units:
            from sammit.data.sampling import Unit

            cases = [case for case in self.cases("train") if self._keeps_labels(case) == labelled]
            self._units[labelled] = [Unit(self, case, index) for case in cases for index in self._kept(case)]
        return self._units[labelled]

    def _keeps_labels(self, case: Case) -> bool:
        return self._labelled is None or case.patient in self._labelled

    def _kept(self, case: Case) -> list[int]:
        """A case's slices for training: those with a structure, and of the empty ones a share by keyed hash.

        Of a volume without labels nobody knows which slices are empty: all are kept.
        """
        if not case.volume:
            return [0]
        present = self.entry(case).facts.present
        if not self._keeps_labels(case):
            return list(range(len(present)))
        empty = [index for index, structures in enumerate(present) if not structures]
        empty.sort(key=lambda index: key_to_seed("empty", self._seed, self.name, case.name, index))
        spared = empty[: round(len(empty) * self.settings.config.empty_slices)]
        return sorted(spared + [index for index, structures in enumerate(present) if structures])

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        """`steps` training batches, a pure function of the data, the split and `key`."""
        from sammit.data.loaders import draw

        return draw(self.units(), self.settings.config, steps, batch_size, key, self.unlabelled_units())

    def load(self, case: Case) -> Loaded:
        """One case in native geometry; where it has no mask, no pixel is valid.

        Raises:
            UserError: a file of the case cannot be read, or image and mask do not fit.
        """
        import numpy as np

        entry = self.entry(case)
        image, shape = entry.image, entry.image.shape[:3]
        if case.masks:
            truth = np.stack([layer(entry.bits, index) for index in range(len(self.structures))], axis=-1)
            valid = None if entry.facts.complete else layer(entry.bits, len(self.structures))
        else:  # nothing is known: views of one False, for a long volume of them may not fit
            nothing = np.bool_(False)
            truth, valid = np.broadcast_to(nothing, (*shape, len(self.structures))), np.broadcast_to(nothing, shape)
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

    @property
    def label_kind(self) -> str:
        """What training sees of the site's masks: "full" or a kind of weak labels, see `labels`."""
        config = self.settings.config
        return config.label_kinds.get(self.name, config.labels)

    def taught(self, case: Case) -> Entry:
        """A case as `frame` gives it, with the labels that training sees; made once, kept without the image."""
        frame = self.frame(case)
        if not self._keeps_labels(case):
            return unlabelled(frame)
        if self.label_kind == "full":
            return frame

        def weak() -> Entry:
            made = weakened(frame, self.label_kind, len(self.structures), (self._seed, self.name, case.name))
            return replace(made, image=frame.image[:1, :1, :1])

        return replace(self._cache.get(self._key(case, "labels"), weak), image=frame.image)

    def hashes(self, case: Case) -> list[str]:
        """SHA-256 of a case's files, images first."""
        if case.name not in self._hashes:
            self._hashes[case.name] = [hash_of(path) for path in (*case.image, *case.masks)]
        return self._hashes[case.name]

    def reading(self) -> dict[str, Any]:
        """How the site's images are read, in plain values; `site_of_images` reads new ones alike."""
        return {
            "structures": list(self.structures),
            "channels": list(self.settings.channels),
            "data": asdict(replace(self.settings.config, root="", cache="")),
        }

    def fingerprint(self, without: Part | None = None) -> str:
        """SHA-256 over the names and contents of the site's files: equal data, equal fingerprint.

        Args:
            without: a part whose files are not opened, as they must not matter.
        """
        digest = sha256()
        for case in self._found.cases:
            if without and self._parts.get(case.name) == without:
                continue
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
                "uneven": config.uneven,
                "slices": config.slices,
                "spacing": config.spacing,
                "channels": self.settings.channels,
                "ignore": self.settings.ignore,
                "files": [suffix_of(path) for path in (*case.image, *case.masks)],
                "truth": len(case.masks),
                "view": asdict(self.view) if scale != "native" else None,
            }
            if scale == "labels":
                how["labels"] = [self.label_kind, self._seed, self.name, case.name]
            self._keys[case.name, scale] = key_of(self.hashes(case), how)
        return self._keys[case.name, scale]
