"""Runs from Python: started, gone on with, opened; and generated sites to try them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit import plugins
from sammit.api.finished import Run
from sammit.api.own import Own
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.recipe import experiment_from, with_method, with_values
from sammit.toml import read_toml

if TYPE_CHECKING:
    from sammit.data.check import SiteReport
    from sammit.methods.base import Method
    from sammit.models.adapters.base import Adapter

Place = str | PathLike[str]
"""A file or folder."""


def run(
    recipe: Place | Mapping[str, Any] | Experiment,
    *,
    data: Place | None = None,
    out: Place | None = None,
    settings: Mapping[str, Any] | None = None,
    method: type[Method] | None = None,
    adapters: Sequence[type[Adapter]] = (),
    resume: bool = False,
    report: bool = True,
    tell: Callable[[str], object] | None = None,
) -> Run:
    """Train a recipe across the sites of a folder, score it and write a run folder, as `sammit run` does.

    Args:
        recipe: a TOML file, or its tables, or an experiment.
        data: folder of sites; overrides `data.root`.
        out: the run folder, empty or missing; runs/NAME-seed-N if left out.
        settings: overrides by "TABLE.KEY", as `--set` does: {"training.rounds": 3}.
        method: a class in place of the recipe's method. It is known as its own name in lower case, `OwnDecoder` as
            own_decoder; options of another method are left out of the recipe. It runs in this process alone.
        adapters: classes of adapters, which `model.adapter` names in the same way.
        resume: go on with the run in `out`, with the same recipe and classes; a finished one is left as it is.
        report: write report.html too.
        tell: is called with a line for each finished round: `tell=print`.

    Raises:
        UserError: whatever in the recipe, the data, the classes or the folder a person must mend.
    """
    from sammit.federation import local
    from sammit.reporting.html import write_report
    from sammit.reporting.round_line import describe
    from sammit.runs import default_folder

    own = Own.of(method, adapters)
    with own.lent():
        experiment = _experiment(recipe, settings or {}, own)
        if data is not None:
            experiment = experiment.of_sites_in(Path(data))
        own.check_used(experiment)
        target = default_folder(experiment) if out is None else Path(out)

        def tell_round(row: dict[str, Any]) -> None:
            if tell:
                tell(describe(row))

        folder = local.run(experiment, target, tell_round, resume)
        if report:
            write_report([folder.path], folder.path / "report.html")
    return Run(folder, own)


def _experiment(recipe: Place | Mapping[str, Any] | Experiment, settings: Mapping[str, Any], own: Own) -> Experiment:
    """The experiment that a recipe, a class and overrides describe."""
    if isinstance(recipe, Experiment):
        table = asdict(recipe)
    elif isinstance(recipe, Mapping):
        table = dict(recipe)
    elif isinstance(recipe, str | PathLike):
        table = read_toml(Path(recipe))
    else:
        raise UserError(f"recipe: is a {type(recipe).__name__}; give a TOML file, its tables, or an Experiment")
    if own.method is not None:
        table = with_method(table, plugins.name_of(own.method))
    return experiment_from(with_values(table, settings))


def check(
    data: Place,
    *,
    recipe: Place | Mapping[str, Any] | Experiment | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[SiteReport]:
    """Open every file of every site and tell what is there, what is wrong and what the grid can resolve.

    Args:
        data: folder of sites, or one site.
        recipe, settings: the data are read as a run would read them; with the defaults if left out.

    Returns:
        A report for each site, as `sammit data check` prints it; `problems` has a line for each file that is wrong.

    Raises:
        UserError: nothing can be opened: no such folder, no known layout, a wrong `dataset.toml`.
    """
    from sammit.data.check import check as look
    from sammit.models.build import size_named

    experiment = _experiment({} if recipe is None else recipe, settings or {}, Own()).of_sites_in(Path(data))
    return look(experiment.data, experiment.model.output_stride or size_named(experiment.model.name).stride)


def load(folder: Place, *, method: type[Method] | None = None, adapters: Sequence[type[Adapter]] = ()) -> Run:
    """A run that is finished: its scores, its models, masks for new images.

    Args:
        folder: what `run` or `sammit run` wrote.
        method, adapters: the classes that the run was given; scores can be read without.

    Raises:
        UserError: no run folder, a run that is not finished, or another class than the run's.
    """
    from sammit.runs import RunFolder

    found, own = RunFolder.read(Path(folder)), Own.of(method, adapters)
    found.need_finished()
    own.check_used(found.experiment)
    return Run(found, own)


def phantom(folder: Place, *, seed: int = 0) -> Path:
    """Make four generated sites in an empty or missing folder, and return it, as `sammit data phantom` does.

    They differ in look, size, balance and in how their readers draw. Equal seeds give equal files.

    Raises:
        UserError: the folder holds something already.
    """
    from sammit.data.phantom import write_demo_sites

    write_demo_sites(Path(folder), seed)
    return Path(folder)
