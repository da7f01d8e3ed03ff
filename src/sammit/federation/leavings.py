"""What a run across hospitals leaves at a site: a run folder of the site's own, which never leaves it.

`sammit predict` and `sammit report` work from it as from any run. What the server is told of the scores is the site's
entry in `summary.json`: means, intervals and counts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sammit import runs
from sammit.config import Experiment
from sammit.data.site import Site
from sammit.federation.worker import Worker
from sammit.files import write_atomically
from sammit.reporting.cases import read_cases, write_cases
from sammit.reporting.html import write_report
from sammit.reporting.summary import Facts, join_sites, summarise_site
from sammit.runs import RunFolder, write_state
from sammit.toml import to_toml
from sammit.vocabulary import Order


def leave(folder: Path, experiment: Experiment, site: Site, base: str) -> None:
    """The folder's beginning: the experiment, versions and hashes, how the site is read, its split."""
    write_atomically(folder / "config.toml", to_toml(experiment))
    own = RunFolder(folder, experiment)
    identity = {"data": {site.name: site.fingerprint()}, "base_weights": base, "notes": []}
    own.write_json("environment.json", runs.environment(experiment) | identity)
    own.write_json("sites.json", {site.name: site.reading()})
    own.write_json("splits.json", {site.name: dict(site.parts)})


def summed_up(folder: Path, worker: Worker, order: Order) -> dict[str, Any]:
    """After the final scores: models, cases, pictures and a report in the site's folder; its entry for the server."""
    site, experiment, judging = worker.site.name, worker.experiment, worker.method.judging
    own = RunFolder(folder, experiment)
    kept = worker.memory.folder
    rows = read_cases(kept / "cases.csv")
    write_cases(folder / "cases.csv", rows)
    if (kept / "router.json").is_file():
        own.write_json("router.json", {site: json.loads((kept / "router.json").read_text())})
    for picture in sorted((kept / "pictures").glob("*.npz")):
        write_atomically(folder / "pictures" / site / picture.name, picture.read_bytes())
    _write_models(folder, worker, order)
    unseen = site in experiment.evaluation.unseen
    reported = judging.unseen[0] if unseen else judging.reported
    entry = summarise_site(rows, reported, experiment.seed)
    facts = Facts(
        experiment.method.name,
        experiment.model.name,
        site,
        experiment.evaluation.protocol,
        experiment.seed,
        experiment.training.rounds,
        order.round,
        {site: reported},
        {site: judging.unseen_rule} if unseen else {},
        scored=order.part,
    )
    own.write_json("summary.json", join_sites({site: entry}, facts))
    write_report([folder], folder / "report.html")
    return entry


def _write_models(folder: Path, worker: Worker, order: Order) -> None:
    """The shared tensors of the order, and the site's own beside them where the method has some."""
    base = worker.backbone.base
    write_state(folder / "models" / "global.safetensors", order.tensors, {"round": order.round, "base": base})
    if "personal" in worker.method.judging.models:
        personal = worker.personal(worker.memory.final(), order.tensors)
        write_state(folder / "models" / "sites" / f"{worker.site.name}.safetensors", personal, {"base": base})
