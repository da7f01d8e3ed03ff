"""What a site's data is like, and how well a model of the configured grid could possibly do on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sammit.config import DataConfig
from sammit.data.decode import Entry, layer
from sammit.data.site import Site
from sammit.data.sites import discover
from sammit.data.volumes import Spacing
from sammit.errors import UserError
from sammit.geometry import View, resize
from sammit.vocabulary import Case, Loaded

if TYPE_CHECKING:
    import numpy as np

LOWEST_CEILING = 0.9
"""A grid on which the truth itself scores less hides what is to be learnt."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class StructureReport:
    """One structure of a site.

    Attributes:
        name: the structure's.
        present, empty: cases with it and without.
        ceiling: mean Dice, over the cases with it, of the truth taken to the logit grid and back; None without any.
    """

    name: str
    present: int
    empty: int
    ceiling: float | None


@dataclass(frozen=True)
class SiteReport:
    """What is known of a site after every file was opened.

    Attributes:
        site, layout: names.
        cases, patients: counts.
        unmatched: names of cases that `data.patient` does not match (each counts as its own patient).
        volumes: how many cases are volumes.
        smallest, largest: least and greatest (D, H, W), axis by axis; None where no case could be read.
        channels: numbers of channels met.
        spacing: least and greatest (slice, row, column) in mm; None where no case has one.
        intensity: least and greatest value in the files' own unit; None where no case could be read.
        structures: one report each.
        labels: what training sees of the masks, "full" or a kind of weak labels.
        labelled: share of the pixels that training has labels of, where an image keeps any; None where none was read.
        problems: a line for each file that is wrong, with its name and the mend.
    """

    site: str
    layout: str
    cases: int
    patients: int
    unmatched: tuple[str, ...]
    volumes: int
    smallest: Shape | None
    largest: Shape | None
    channels: tuple[int, ...]
    spacing: tuple[Spacing, Spacing] | None
    intensity: tuple[float, float] | None
    structures: tuple[StructureReport, ...]
    labels: str
    labelled: float | None
    problems: tuple[str, ...]

    @property
    def ceiling(self) -> float | None:
        """The mean of the structures' ceilings; None where there is none."""
        known = [structure.ceiling for structure in self.structures if structure.ceiling is not None]
        return sum(known) / len(known) if known else None


def check(config: DataConfig, stride: int = 4, masks: bool = True) -> list[SiteReport]:
    """A report for each site; opens every file and never stops at the first that is wrong.

    Args:
        config: the recipe's `[data]`.
        stride: input pixels per logit pixel of the model.
        masks: whether every image needs a mask.

    Raises:
        UserError: the root, a `dataset.toml` or a folder's layout is wrong, so that there is nothing to open.
    """
    return [check_site(site, stride) for site in discover(config, masks=masks, strict=False)]


def check_site(site: Site, stride: int = 4) -> SiteReport:
    """The report of one site."""
    import numpy as np

    problems = list(site.problems)
    read = list(_readable(site, stride, problems))
    shapes = np.array([entry.image.shape[:3] for _, entry, _ in read])
    spacings = np.array([entry.facts.spacing for _, entry, _ in read if entry.facts.spacing])
    cases = site.all_cases
    unmatched = [c.name for c in cases if site.settings.config.patient and not site.settings.matched(c.name)]
    scores = np.array([score for _, _, score in read]).reshape(len(read), len(site.structures))
    return SiteReport(
        site=site.name,
        layout=site.layout,
        cases=len(cases),
        patients=len({case.patient for case in cases}),
        unmatched=tuple(unmatched),
        volumes=sum(case.volume for case in cases),
        smallest=_triple(shapes.min(axis=0)) if read else None,
        largest=_triple(shapes.max(axis=0)) if read else None,
        channels=tuple(sorted({entry.facts.channels for _, entry, _ in read})),
        spacing=(_mm(spacings.min(axis=0)), _mm(spacings.max(axis=0))) if len(spacings) else None,
        intensity=(min(e.facts.low for _, e, _ in read), max(e.facts.high for _, e, _ in read)) if read else None,
        structures=tuple(_structure(name, scores[:, index]) for index, name in enumerate(site.structures)),
        labels=site.label_kind,
        labelled=labelled_share(site, [case for case, _, _ in read]),
        problems=tuple(problems),
    )


def _readable(site: Site, stride: int, problems: list[str]) -> Iterator[tuple[Case, Entry, list[float]]]:
    """The cases that can be read, each with its structures' ceilings (NaN where empty); the others' problems."""
    for case in site.all_cases:
        try:
            entry, loaded = site.entry(case), site.load(case)
        except UserError as error:
            problems.append(str(error))
            continue
        yield case, entry, ceilings(loaded, site.view, stride)


def _structure(name: str, scores: np.ndarray) -> StructureReport:
    import numpy as np

    known = scores[~np.isnan(scores)]
    return StructureReport(name, len(known), len(scores) - len(known), float(known.mean()) if len(known) else None)


def labelled_share(site: Site, cases: Sequence[Case]) -> float | None:
    """The share of all pixels of some cases, at the scale of the model, that training has labels of."""
    import numpy as np

    labelled = [layer(site.taught(case).bits, len(site.structures)) for case in cases]
    return sum(np.count_nonzero(map_) for map_ in labelled) / sum(map_.size for map_ in labelled) if labelled else None


def ceilings(loaded: Loaded, view: View, stride: int) -> list[float]:
    """For each structure the Dice of the truth taken to the model's logit grid and back; NaN where it is empty.

    Area-averaged on the way there, bilinear and cut at one half on the way back; over the whole volume.

    Args:
        loaded: a case in native geometry.
        view: how the model looks at it.
        stride: input pixels per logit pixel.
    """
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    height, width = loaded.truth.shape[1:3]
    rows, columns = view.model_shape(height, width)
    grid = max(1, -(-rows // stride)), max(1, -(-columns // stride))
    both, total = np.zeros(loaded.truth.shape[-1]), np.zeros(loaded.truth.shape[-1])
    for picture in loaded.truth:
        truth = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        back = resize(interpolate(truth[None].float(), size=grid, mode="area"), (height, width))[0] > 0.5
        both += (truth & back).sum(dim=(1, 2)).numpy()
        total += (truth.sum(dim=(1, 2)) + back.sum(dim=(1, 2))).numpy()
    present = [bool(loaded.truth[..., index].any()) for index in range(loaded.truth.shape[-1])]
    return [float(2 * both[i] / total[i]) if some else float("nan") for i, some in enumerate(present)]


def too_coarse(sites: Iterable[Site], stride: int, cases: int = 3) -> list[str]:
    """A warning for each site whose training cases the configured grid cannot resolve, seen on its first `cases`.

    Args:
        sites: split sites.
        stride: input pixels per logit pixel.
        cases: how many training cases of a site are looked at.
    """
    import numpy as np

    warnings = []
    for site in sites:
        found = np.array([ceilings(site.load(case), site.view, stride) for case in site.cases("train")[:cases]])
        if found.size and not np.isnan(found).all() and np.nanmean(found) < LOWEST_CEILING:
            warnings.append(
                f"site {site.name}: even the truth scores a Dice of {np.nanmean(found):.2f} on the configured grid; "
                "use data.view = 'tile', a smaller data.scale or a finer model.output_stride"
            )
    return warnings


def _triple(shape: np.ndarray) -> Shape:
    return int(shape[0]), int(shape[1]), int(shape[2])


def _mm(spacing: np.ndarray) -> Spacing:
    return float(spacing[0]), float(spacing[1]), float(spacing[2])
