"""What a run starts from: an experiment without loose ends, checked before anything is written, recorded, and the same
when the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit import plugins, runs
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.cross import not_asked
from sammit.federation.guard import declaration_of
from sammit.federation.prepare import Prepared, resolved
from sammit.runs import RunFolder
from sammit.vocabulary import Part

if TYPE_CHECKING:
    from torch import Tensor


def write_inputs(folder: RunFolder, prepared: Prepared) -> None:
    """Versions, hashes, how each site is read, the split, what sites told of their data; what is there stays."""
    recorded: dict[str, Callable[[], dict[str, Any]]] = {
        "environment.json": lambda: runs.environment(prepared.experiment) | _identity(prepared),
        "sites.json": lambda: {site.name: site.reading() for site in prepared.sites},
        "splits.json": lambda: {site.name: dict(site.parts) for site in prepared.sites},
    }
    if prepared.surveys:
        recorded["surveys.json"] = lambda: told(prepared)
    for name, make in recorded.items():
        if not (folder.path / name).is_file():
            folder.write_json(name, make())


def told(prepared: Prepared) -> dict[str, Any]:
    """What each site told of its data before the model was built, number by number, and what for."""

    def line(name: str, tensor: Tensor) -> dict[str, Any]:
        declared = declaration_of(name, prepared.method.surveyed)
        return {"purpose": declared.purpose if declared else "", "values": tensor.tolist()}

    return {
        site: {name: line(name, tensor) for name, tensor in survey.items()} for site, survey in prepared.surveys.items()
    }


def _identity(prepared: Prepared) -> dict[str, Any]:
    without: Part | None = "test" if prepared.experiment.evaluation.scored == "val" else None
    data = {site.name: site.fingerprint(without) for site in prepared.sites}
    method = prepared.method
    notes = [*method.notes(), *method.aggregator.notes(), *not_asked(prepared.experiment, method)]
    if prepared.prefix:
        notes.append(prepared.prefix.note())
    if plugins.is_lent("methods", name := prepared.experiment.method.name):
        notes.append(f"The method {name} was a class given from Python; it is no file of Sammit.")
    return {"data": data, "base_weights": prepared.backbone.base, "notes": notes}


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
    rule = plugins.load("aggregators", recorded.method.aggregator).Aggregator
    decided = (*plugins.load("methods", recorded.method.name).Method.decides, *rule.decides)
    for key in {**ours, **theirs}:
        if not key.startswith(decided) and ours.get(key) != theirs.get(key):
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
