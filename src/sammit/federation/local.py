"""A whole run on one machine: from an experiment to a run folder with scores."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from sammit import runs
from sammit.config import Experiment
from sammit.data.site import Site
from sammit.data.sites import PooledSite
from sammit.federation.checkpoint import load_progress, save_progress
from sammit.federation.collect import collect, tested
from sammit.federation.in_process import InProcess
from sammit.federation.inputs import check_inputs, going_on, write_inputs
from sammit.federation.memory import PrivateMemory
from sammit.federation.prefix import PrefixedSite
from sammit.federation.prepare import Prepared, prepare
from sammit.federation.rounds import Progress, Rounds
from sammit.federation.worker import Worker
from sammit.files import clear_drafts
from sammit.learning.loop import steps_in_round
from sammit.lock import locked
from sammit.runs import RunFolder

Tell = Callable[[dict[str, Any]], None]

log = logging.getLogger(__name__)


def run(experiment: Experiment, out: Path, tell: Tell, resume: bool = False) -> RunFolder:
    """Train, score and write a run folder.

    Args:
        experiment: what to run; with `resume` it must be the run folder's own, but that the data may lie elsewhere.
        out: the run folder, empty or missing unless `resume`.
        tell: is called with each finished row of `rounds.jsonl`.
        resume: go on with the run in `out`; a finished one is left as it is.

    Raises:
        UserError: whatever a person must mend.
    """
    if resume and not runs.died_at_first_write(out):
        folder = RunFolder.open(out)
        if folder.finished:
            return folder
        with locked(out, "run"):
            clear_drafts(out)
            prepared = prepare(going_on(folder.experiment, experiment, out))
            check_inputs(folder, prepared)
            return _carry_out(folder, prepared, tell)
    runs.refuse_used(out)
    prepared = prepare(experiment)
    runs.need_space(out, space_needed(prepared))
    with locked(out, "run"):
        folder = RunFolder.create(out, prepared.experiment)
        clear_drafts(out)
        return _carry_out(folder, prepared, tell)


def _carry_out(folder: RunFolder, prepared: Prepared, tell: Tell) -> RunFolder:
    """All rounds that are left, the last local stage, the scores."""
    write_inputs(folder, prepared)
    if prepared.prefix:
        log.info("prefix cache: %s", prepared.prefix.announcement())
    started = perf_counter()
    checkpoint = folder.path / "checkpoint"
    workers = make_workers(folder, prepared)
    progress = load_progress(checkpoint) or Progress(prepared.server)
    folder.write_lines("rounds.jsonl", progress.log)

    def save(new: Progress) -> None:
        save_progress(checkpoint, new)
        if new.judged:
            folder.write_lines("rounds.jsonl", new.log)

    rounds = Rounds(
        prepared.method,
        prepared.experiment,
        InProcess(workers),
        tuple(site.name for site in prepared.trainers),
        tuple(site.name for site in tested(prepared)),
        prepared.template,
        save,
        tell,
        checkpoint / "waiting",
    )
    progress = rounds.run(progress)
    rounds.finish(progress)
    seconds = sum(row["seconds"] for row in progress.log) or perf_counter() - started
    collect(folder, prepared, progress, rounds.selected(progress), seconds, runs.peak_memory())
    return folder


def make_workers(folder: RunFolder, prepared: Prepared) -> dict[str, Worker]:
    """A worker for each site that trains or is scored, all around the one backbone."""
    p = prepared
    everyone: dict[str, Site | PooledSite] = {site.name: site for site in [*p.sites, *p.trainers]}

    lent = {site.name: PrivateMemory(folder.site(site.name)).final for site in p.trainers}
    return {
        name: Worker(
            PrefixedSite(site, p.prefix) if p.prefix else site,
            site.view,
            p.method,
            p.backbone,
            PrivateMemory(folder.site(name)),
            at_equal_steps(p.experiment, site) if isinstance(site, PooledSite) else p.experiment,
            lent,
            site.policy,
        )
        for name, site in everyone.items()
    }


def at_equal_steps(experiment: Experiment, site: PooledSite) -> Experiment:
    """The experiment in which the pooled site takes as many steps in a round as its sites would together."""
    training = experiment.training
    steps = sum(steps_in_round(training, one.samples("train")) for one in site.sites)
    return replace(experiment, training=replace(training, local_steps=steps))


def space_needed(prepared: Prepared) -> int:
    """Bytes a run folder may take at its largest: states of the server and of every site, pictures, a draft."""
    counts, training = prepared.parameters(), prepared.experiment.training
    server = 4 * sum(tensor.nbytes for tensor in prepared.server.shared.values())
    moments, unsent = 2 * (training.optimiser_state == "keep"), training.updates != "fp32"
    numbers = 3 * counts["local"] + (moments + unsent) * counts["shared"]  # a personal tensor has moments too
    site = 4 * 4 * numbers + 3_000_000
    shared = sum(tensor.nbytes for tensor in prepared.template.values())
    waiting = shared * len(prepared.trainers) if prepared.method.needs_all else 0
    return server + waiting + site * len(prepared.sites) + 4_000_000
