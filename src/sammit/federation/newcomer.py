"""A hospital that took no part in a run and joins after it: opened and checked, nothing trained, nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sammit.config import Experiment
from sammit.data.site import Site
from sammit.data.sites import discover
from sammit.errors import UserError
from sammit.federation.prepare import make_backbone, make_method, resolved
from sammit.federation.worker import Backbone
from sammit.learning.loop import steps_in_round
from sammit.methods.base import Method
from sammit.recipe import experiment_from, with_settings
from sammit.runs import RunFolder, read_state
from sammit.vocabulary import State

MOST_STEPS = 500
"""Where no number of steps is asked for, a run's whole budget for one site is not taken beyond this."""

_SETTABLE = ("training", "data", "evaluation")


@dataclass(frozen=True)
class Newcomer:
    """A site that is ready to join a finished run.

    Attributes:
        run: the finished run's folder, which is only read.
        experiment: the run's, its data and settings as they are for the new site; `training.local_steps` is the number
            of steps that the site's own part is trained.
        site: the new site, split by patient.
        method, backbone: as in the run.
        shared: the run's shared tensors; `round` is the one they are of, `base` the hash of what they stand on.
        experts: source site -> what makes the shared model its own; empty where the run folder has none.
    """

    run: RunFolder
    experiment: Experiment
    site: Site
    method: Method
    backbone: Backbone
    shared: State
    round: int
    base: str
    experts: dict[str, State]


def open_newcomer(path: Path, name: str, root: Path | None = None, settings: Sequence[str] = ()) -> Newcomer:
    """The new site of a run, ready to join.

    Args:
        path: a finished run's folder.
        name: of the site.
        root: the folder of sites in which it lies; None: the run's own.
        settings: "TABLE.KEY=VALUE" over the run's recipe, of `[training]`, `[data]` and `[evaluation]`.

    Raises:
        UserError: an unfinished run, a site that took part or is not there, too few patients, other structures or base
            weights than the run's, or a setting that would change the model.
    """
    import torch

    run = RunFolder.open(path)
    if not run.finished:
        raise UserError(f"{path}: the run is not finished; go on with it: sammit run RECIPE --out {path} --resume")
    _check_took_no_part(run, name)
    experiment = _experiment(run, name, root, settings)
    method = make_method(experiment)
    site = _site(run, experiment, name, method.unlabelled)
    training = replace(experiment.training, local_steps=_steps(experiment, site, settings))
    experiment = replace(experiment, training=training)
    torch.set_num_threads(training.threads)
    backbone = make_backbone(experiment, method, len(site.structures))
    shared, facts = read_state(path / "models" / "global.safetensors")
    if backbone.base != facts["base"]:
        raise UserError(f"{path}: was trained from other base weights than model.weights gives now; put those back")
    files = sorted((path / "models" / "sites").glob("*.safetensors"))
    experts = {file.stem: read_state(file)[0] for file in files}
    return Newcomer(run, experiment, site, method, backbone, shared, int(facts["round"]), facts["base"], experts)


def _check_took_no_part(run: RunFolder, name: str) -> None:
    """Raise UserError where the site's patients may have been trained on."""
    sources = [site for site in run.read_json("sites.json") if site not in run.experiment.evaluation.unseen]
    if name in sources:
        raise UserError(f"--site {name}: took part in {run.path}, so it cannot join it; name a site that did not")


def _experiment(run: RunFolder, name: str, root: Path | None, settings: Sequence[str]) -> Experiment:
    """The run's experiment with the new site alone as its data, and the settings over it."""
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key.partition(".")[0] not in _SETTABLE or key in ("data.size", "evaluation.unseen", "evaluation.scored"):
            tables = ", ".join(_SETTABLE)
            raise UserError(
                f"--set {setting}: what the run trained stays as it is; set keys of {tables} that leave the model"
            )
    recorded = asdict(run.experiment)
    recorded["data"] |= {"root": str(root) if root else recorded["data"]["root"], "sites": [name]}
    recorded["evaluation"] |= {"unseen": [], "scored": "test"}
    recorded["training"] |= {"optimiser_state": "reset"}
    if recorded["data"]["split"][2] == 0:  # a run with an unseen site may have tested nobody else
        recorded["data"]["split"] = asdict(Experiment())["data"]["split"]
    return resolved(experiment_from(with_settings(recorded, list(settings))))


def _site(run: RunFolder, experiment: Experiment, name: str, unlabelled: bool) -> Site:
    """The new site, split by patient, with the structures that the run's model was trained for."""
    data = experiment.data
    try:
        (site,) = discover(data)
    except UserError as error:
        raise UserError(f"--site {name}: {str(error).removeprefix('data.sites: ')}") from None
    reading: dict[str, Any] = next(iter(run.read_json("sites.json").values()))
    if list(site.structures) != reading["structures"]:
        ours, theirs = ", ".join(reading["structures"]), ", ".join(site.structures)
        raise UserError(
            f"--site {name}: has the structures {theirs}, the run {ours}; name them alike in data.structures"
        )
    return site.split(experiment.seed if data.split_seed < 0 else data.split_seed, unlabelled=unlabelled)


def _steps(experiment: Experiment, site: Site, settings: Sequence[str]) -> int:
    """As many as asked for, or as the whole run would have taken at this site, to a limit."""
    training = experiment.training
    if training.local_steps and any(s.partition("=")[0].strip() == "training.local_steps" for s in settings):
        return training.local_steps
    return min(training.rounds * steps_in_round(training, site.samples("train")), MOST_STEPS)
