"""What a run starts from: an experiment without loose ends, checked before anything is written, recorded, and the same
when the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit import runs
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.guard import check_declared
from sammit.methods.base import Method
from sammit.models.weights import base_hash
from sammit.runs import RunFolder
from sammit.vocabulary import SiteData, State

if TYPE_CHECKING:
    from sammit.federation.local import Prepared


def resolved(experiment: Experiment) -> Experiment:
    """The experiment with threads counted and paths made absolute, so that the run can go on from any folder.

    Raises:
        UserError: a device that cannot be used here.
    """
    import torch

    training, data, model = experiment.training, experiment.data, experiment.model
    try:
        torch.empty(0, device=training.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"training.device: '{training.device}' cannot be used here ({reason}); try 'cpu'") from None
    training = replace(training, threads=training.threads or torch.get_num_threads())
    weights = model.weights if model.weights in ("pretrained", "random") else _absolute(model.weights)
    data = replace(data, root=_absolute(data.root), cache=_absolute(data.cache))
    return replace(experiment, training=training, data=data, model=replace(model, weights=weights))


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def planned(experiment: Experiment, method: Method, trainers: Sequence[SiteData]) -> tuple[Experiment, State]:
    """The experiment and the server's first memory after the method's survey of the sites that train.

    Raises:
        UserError: the method surveys or remembers something that it does not declare.
    """
    surveys = {site.name: method.survey(site) for site in trainers}
    for survey in surveys.values():
        check_declared(survey, method.surveyed, "a survey")
    experiment, memory = method.plan(experiment, surveys)
    check_declared(memory, method.server_state, "the server's memory")
    return experiment, memory


def check_sites(experiment: Experiment, method: Method, sources: int) -> None:
    """Raise UserError where the method cannot judge the unseen sites, or fewer sites train than a round needs."""
    if experiment.evaluation.unseen and "global" not in method.judged:
        raise UserError(
            f"evaluation.unseen: {experiment.method.name} has no model for a site that takes no part; "
            "leave evaluation.unseen empty or choose another method"
        )
    if sources < experiment.training.min_sites and not method.pooled:
        raise UserError(f"training.min_sites: {experiment.training.min_sites}, but {sources} sites train; lower it")


def write_inputs(folder: RunFolder, prepared: Prepared) -> None:
    """Versions, hashes of data and base weights, how each site is read, the split; what is there already stays."""
    recorded: dict[str, Callable[[], dict[str, Any]]] = {
        "environment.json": lambda: runs.environment(prepared.experiment) | _identity(prepared),
        "sites.json": lambda: {site.name: site.reading() for site in prepared.sites},
        "splits.json": lambda: {site.name: dict(site.parts) for site in prepared.sites},
    }
    for name, make in recorded.items():
        if not (folder.path / name).is_file():
            folder.write_json(name, make())


def _identity(prepared: Prepared) -> dict[str, Any]:
    data = {site.name: site.fingerprint() for site in prepared.sites}
    notes = list(prepared.method.notes())
    return {"data": data, "base_weights": base_hash(prepared.backbone.model), "notes": notes}


def check_inputs(folder: RunFolder, prepared: Prepared) -> None:
    """Raise UserError where data or base weights are no longer what the run started from."""
    if not (folder.path / "environment.json").is_file():
        return
    before, now = folder.read_json("environment.json"), _identity(prepared)
    changed = [site for site in {**before["data"], **now["data"]} if before["data"].get(site) != now["data"].get(site)]
    if changed:
        raise UserError(
            f"{folder.path}: the files of site '{changed[0]}' have changed since the run started; "
            "put them back, or start a new run"
        )
    if before["base_weights"] != now["base_weights"]:
        raise UserError(f"{folder.path}: model.weights have changed since the run started; put them back")


def going_on(recorded: Experiment, asked: Experiment, path: Path) -> Experiment:
    """The recorded experiment, its data where `asked` says it is now.

    Raises:
        UserError: `asked` is another experiment.
    """
    asked = resolved(replace(asked, training=replace(asked.training, threads=recorded.training.threads)))
    data = replace(recorded.data, root=asked.data.root or recorded.data.root, cache=asked.data.cache)
    recorded = replace(recorded, data=data)
    ours, theirs = _flat(asdict(recorded)), _flat(asdict(replace(asked, data=replace(asked.data, root=data.root))))
    for key in {**ours, **theirs}:
        if ours.get(key) != theirs.get(key):
            raise UserError(
                f"{path}: was started with {key} = {ours.get(key)!r}, not {theirs.get(key)!r}; "
                "go on with that, or choose another --out"
            )
    return recorded


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
