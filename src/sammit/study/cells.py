"""A study's cells: one for each dataset, method, unseen site and seed, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sammit.config import Experiment
from sammit.errors import UserError, nearest
from sammit.study.datasets import Dataset
from sammit.study.file import Study


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        dataset, method: keys of the study.
        label: the method's name in tables.
        unseen: the site that takes no part; empty for none.
        seed: the experiment's.
        experiment: what is run.
    """

    dataset: str
    method: str
    label: str
    unseen: str
    seed: int
    experiment: Experiment

    @property
    def name(self) -> str:
        """What a person reads; also the run folder's place under OUT/cells."""
        return f"{self.dataset}/{self.method}/{self.unseen or 'all'}-seed-{self.seed}"

    @property
    def row(self) -> tuple[str, str]:
        """Cells of one dataset and method need alike."""
        return self.dataset, self.method

    def folder(self, out: Path) -> Path:
        """The run folder in the study's own folder."""
        return out / "cells" / self.name

    def beside(self, out: Path, suffix: str) -> Path:
        """A file next to the run folder; a site's name may hold dots."""
        folder = self.folder(out)
        return folder.with_name(folder.name + suffix)


def expand(study: Study, datasets: Sequence[Dataset], sites: Mapping[str, Sequence[str]]) -> list[Cell]:
    """Every cell once.

    Seeds change slowest, then unseen sites, then datasets; methods are neighbours, so that a table fills evenly.

    Args:
        study: with at least one method and seed.
        datasets: at least one.
        sites: dataset -> the names of its sites.

    Raises:
        UserError: an unseen site that no dataset has, or a dataset of one site where each is to be unseen in turn.
    """
    unseen = {dataset.name: _unseen(study, dataset, sites[dataset.name]) for dataset in datasets}
    _check_known(study, sites)
    plain = {
        (dataset.name, method, site): study.experiment(dataset.name, method, site)
        for dataset in datasets
        for method in study.methods
        for site in unseen[dataset.name]
    }
    cells = []
    for seed in study.seeds:
        for turn in range(max(map(len, unseen.values()))):
            for dataset in datasets:
                for site in unseen[dataset.name][turn : turn + 1]:
                    for method, label in study.labels.items():
                        experiment = _experiment(plain[dataset.name, method, site], dataset, method, site, seed)
                        cells.append(Cell(dataset.name, method, label, site, seed, experiment))
    return cells


def _unseen(study: Study, dataset: Dataset, sites: Sequence[str]) -> list[str]:
    """The unseen sites of a dataset's cells, in turn; "" where all take part."""
    if study.unseen == ("none",):
        return [""]
    if study.unseen == ("each",):
        if len(sites) < 2:
            raise UserError(f"{dataset.root}: has one site, and unseen = 'each' leaves none to train on; use 'none'")
        return list(sites)
    return [site for site in study.unseen if site in sites]


def _check_known(study: Study, sites: Mapping[str, Sequence[str]]) -> None:
    known = [site for names in sites.values() for site in names]
    for site in study.unseen:
        if study.unseen not in (("none",), ("each",)) and site not in known:
            raise UserError(f"unseen: there is no site '{site}': {nearest(site, [*known, 'each', 'none'])}")


def _experiment(plain: Experiment, dataset: Dataset, method: str, unseen: str, seed: int) -> Experiment:
    """A row's experiment as one cell's own."""
    return replace(
        plain,
        name=f"{method}-{dataset.name}-{unseen or 'all'}",
        seed=seed,
        data=replace(plain.data, root=str(dataset.root or "")),
        evaluation=replace(plain.evaluation, unseen=(unseen,) if unseen else ()),
    )
