"""From the sites' own folders of a local run to its run folder. A deployed run has no such step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sammit.data.site import Site
from sammit.federation.prepare import Prepared
from sammit.federation.rounds import Progress
from sammit.federation.tallies import mean, steps_per_site, traffic
from sammit.files import write_atomically
from sammit.reporting.cases import CaseScore, read_cases, write_cases
from sammit.reporting.cross import CrossScore, matrix, read_cross, write_cross
from sammit.reporting.summary import Facts, summarise
from sammit.runs import RunFolder, read_facts, read_state, write_state
from sammit.vocabulary import AnyState


def collect(
    folder: RunFolder, prepared: Prepared, progress: Progress, selected: tuple[int, AnyState], seconds: float, peak: int
) -> None:
    """Write models, cases, router use, pictures and, last of all, `summary.json`: a run with one is finished."""
    rows: list[CaseScore] = []
    visits: list[CrossScore] = []
    router: dict[str, Any] = {}
    for site in tested(prepared):
        own = folder.site(site.name)
        rows += read_cases(own / "cases.csv")
        if (own / "router.json").is_file():
            router[site.name] = json.loads((own / "router.json").read_text())
        if (own / "cross.csv").is_file():
            visits += read_cross(own / "cross.csv")
        for picture in sorted((own / "pictures").glob("*.npz")):
            write_atomically(folder.path / "pictures" / site.name / picture.name, picture.read_bytes())
    write_cases(folder.path / "cases.csv", rows)
    if router:
        folder.write_json("router.json", router)
    if visits:
        write_cross(folder.path / "cross_site.csv", visits)
    _write_models(folder, prepared, progress, selected)
    facts = _facts(prepared, progress, selected[0], seconds, peak)
    facts = replace(facts, steps=_steps(folder, prepared, progress), cross=matrix(visits) or None)
    folder.write_json("summary.json", summarise(rows, facts))


def tested(prepared: Prepared) -> list[Site]:
    """The sites with cases to be scored; where a site is unseen, the sources may have none."""
    return [site for site in prepared.sites if site.cases(prepared.experiment.evaluation.scored)]


def _write_models(folder: RunFolder, prepared: Prepared, progress: Progress, selected: tuple[int, AnyState]) -> None:
    """The selected and the last shared tensors, and each site's own."""
    base = folder.read_json("environment.json")["base_weights"]  # as they were at first: what is live has moved since
    models = folder.path / "models"
    write_state(models / "global.safetensors", selected[1], {"round": selected[0], "base": base})
    write_state(models / "last.safetensors", progress.server.shared, {"round": progress.round - 1, "base": base})
    for site in prepared.trainers:
        path = folder.site(site.name) / "final.safetensors"
        if "personal" in prepared.method.judging.models and path.is_file():
            shared = prepared.method.aggregator.without_held(selected[1])
            personal = prepared.method.personal(read_state(path)[0], shared)
            write_state(models / "sites" / f"{site.name}.safetensors", personal, {"base": base})


def _facts(prepared: Prepared, progress: Progress, selected: int, seconds: float, peak: int) -> Facts:
    experiment, judging = prepared.experiment, prepared.method.judging
    scored = [site.name for site in tested(prepared)]
    unseen = [name for name in experiment.evaluation.unseen if name in scored]  # none has validation patients
    return Facts(
        experiment.method.name,
        experiment.model.name,
        Path(experiment.data.root).name,
        experiment.evaluation.protocol,
        experiment.seed,
        experiment.training.rounds,
        selected,
        {name: judging.unseen[0] if name in unseen else judging.reported for name in scored},
        dict.fromkeys(unseen, judging.unseen_rule),
        prepared.parameters(),
        traffic(progress.log),
        {"total": seconds, "per_round": seconds / max(1, progress.round)},
        peak,
        experiment.evaluation.scored,
    )


def _steps(folder: RunFolder, prepared: Prepared, progress: Progress) -> dict[str, float]:
    """Optimiser steps of a site that trains, mean over sites: of the whole run, and of those the last local stage's."""
    names = [site.name for site in prepared.trainers]
    last = mean([read_facts(folder.site(name) / "final.safetensors").get("steps", 0) for name in names])
    return {"per_site": steps_per_site(progress.log, names) + last, "last_stage": last}
