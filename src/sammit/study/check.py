"""What can be known to be wrong with a study before its first cell starts."""

from __future__ import annotations

from collections.abc import Sequence

from sammit.config import DataConfig
from sammit.data.site import Site
from sammit.data.sites import discover, pooled
from sammit.errors import UserError, nearest
from sammit.federation.prepare import check_sites, make_method
from sammit.methods.base import Method
from sammit.models.build import build_model
from sammit.study.cells import Cell


class Opened:
    """Sites as the recipes read them; each way of reading looks at them once, and opens no image."""

    def __init__(self) -> None:
        self._sites: dict[str, list[Site]] = {}

    def sites(self, data: DataConfig) -> list[Site]:
        """The sites of a recipe's `[data]`, not yet split.

        Raises:
            UserError: as `discover`; sites with different structures.
        """
        if repr(data) not in self._sites:
            self._sites[repr(data)] = pooled(discover(data)).sites  # pooled: all of the same structures
        return self._sites[repr(data)]


def check_cells(cells: Sequence[Cell], opened: Opened) -> None:
    """Raise UserError for a cell that could not run, with its name; nothing is trained or written.

    The model of a method that plans it from the sites' surveys is left for its first cell to check.
    """
    seen: set[str] = set()
    for cell in cells:
        try:
            if cell.experiment.data.root:
                _check_data(cell, opened, seen)
                _check_model(cell, opened, seen)
            else:  # sites that the cell itself generates
                make_method(cell.experiment)
        except UserError as error:
            raise UserError(f"{cell.name}: {error}") from None


def _check_data(cell: Cell, opened: Opened, seen: set[str]) -> None:
    """The sites, the unseen one among them, patients enough for every part."""
    data = cell.experiment.data
    if _again(seen, "data", data, cell.seed, cell.unseen):
        return
    sites = opened.sites(data)
    names = [site.name for site in sites]
    if cell.unseen and cell.unseen not in names:
        raise UserError(f"unseen: there is no site '{cell.unseen}': {nearest(cell.unseen, names)}")
    for site in sites:
        site.split(cell.seed, whole=site.name == cell.unseen)


def _check_model(cell: Cell, opened: Opened, seen: set[str]) -> None:
    """The method and its options, the model and its weights."""
    experiment, sites = cell.experiment, opened.sites(cell.experiment.data)
    method = make_method(experiment)
    check_sites(experiment, method, len(sites) - bool(cell.unseen))
    size, structures = experiment.data.size, len(sites[0].structures)
    if type(method).plan is Method.plan and not _again(seen, "model", experiment.model, size, structures):
        build_model(experiment.model, size, structures, cell.seed)


def _again(seen: set[str], *what: object) -> bool:
    """Whether this was asked before."""
    known = repr(what) in seen
    seen.add(repr(what))
    return known
