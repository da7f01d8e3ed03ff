"""A whole run on one machine: from an experiment to a run folder with scores."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from sammit import plugins, runs
from sammit.config import Experiment, build
from sammit.data.check import too_coarse
from sammit.data.site import Site
from sammit.data.sites import PooledSite, open_sites, pooled
from sammit.errors import UserError
from sammit.federation.checkpoint import load_progress, save_progress
from sammit.federation.collect import collect
from sammit.federation.in_process import InProcess
from sammit.federation.inputs import check_inputs, check_sites, going_on, planned, resolved, write_inputs
from sammit.federation.memory import PrivateMemory
from sammit.federation.rounds import Progress, Rounds
from sammit.federation.worker import Backbone, Worker
from sammit.files import clear_drafts
from sammit.learning.loop import steps_in_round
from sammit.methods.base import Method, Server
from sammit.methods.state import select
from sammit.models.build import build_model, set_trainable
from sammit.runs import RunFolder
from sammit.vocabulary import State

log = logging.getLogger(__name__)

Tell = Callable[[dict[str, Any]], None]


@dataclass
class Prepared:
    """A run that is ready to start, and what a person may want to know of it before.

    Attributes:
        experiment: effective, threads resolved.
        sites: all sites, split; `trainers`: who trains (the pooled site instead of all, where the method pools).
        method, backbone: what is run.
        memory: the server's first memory, from the method's plan.
        shared, personal: live names that travel and that stay.
    """

    experiment: Experiment
    sites: list[Site]
    trainers: list[Site | PooledSite]
    method: Method
    memory: State
    backbone: Backbone
    shared: tuple[str, ...]
    personal: tuple[str, ...]

    def parameters(self) -> dict[str, int]:
        """Counts: total, trainable, shared, local."""
        sizes = {name: p.numel() for name, p in self.backbone.model.named_parameters()}
        shared, local = (sum(sizes[name] for name in names) for names in (self.shared, self.personal))
        return {"total": sum(sizes.values()), "trainable": shared + local, "shared": shared, "local": local}


def make_method(experiment: Experiment) -> Method:
    """The method of a recipe with its options checked; raises UserError with the nearest known name."""
    module = plugins.load("methods", experiment.method.name)
    options = build(module.Options, experiment.method.options, "method")
    method: Method = module.Method(options)
    return method


def prepare(experiment: Experiment) -> Prepared:
    """Open the sites and build the model; trains nothing and writes nothing but the cache.

    Raises:
        UserError: whatever in the recipe or the data a person must mend.
    """
    import torch

    experiment = resolved(experiment)
    torch.set_num_threads(experiment.training.threads)
    method = make_method(experiment)
    sites = open_sites(experiment.data, experiment.seed, experiment.evaluation.unseen)
    sources = [site for site in sites if site.name not in experiment.evaluation.unseen]
    if not sources:
        raise UserError("evaluation.unseen: every site is unseen; leave at least one to train on")
    check_sites(experiment, method, len(sources))
    trainers: list[Site | PooledSite] = [pooled(sources)] if method.pooled else list(sources)
    experiment, memory = planned(experiment, method, trainers)
    model = build_model(experiment.model, experiment.data.size, len(sites[0].structures), experiment.seed)
    train: str = experiment.model.train
    if train == "auto":
        train = method.train_default if experiment.model.adapter else "all"
    live = [name for name in set_trainable(model, train) if method.trains(name)]
    model.to(experiment.training.device)
    for warning in too_coarse(sources, model.stride):
        log.warning(warning)
    return Prepared(
        experiment,
        sites,
        trainers,
        method,
        memory,
        Backbone.of(model, live),
        method.shared_names(live),
        method.personal_names(live),
    )


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
        clear_drafts(out)
        prepared = prepare(going_on(folder.experiment, experiment, out))
        check_inputs(folder, prepared)
    else:
        runs.refuse_used(out)
        prepared = prepare(experiment)
        runs.need_space(out, space_needed(prepared))
        folder = RunFolder.create(out, prepared.experiment)
        clear_drafts(out)
    write_inputs(folder, prepared)
    return _carry_out(folder, prepared, tell)


def _carry_out(folder: RunFolder, prepared: Prepared, tell: Tell) -> RunFolder:
    """All rounds that are left, the last local stage, the scores."""
    started = perf_counter()
    checkpoint = folder.path / "checkpoint"
    workers = make_workers(folder, prepared)
    template = select(prepared.backbone.start, set(prepared.shared).__contains__)
    progress = load_progress(checkpoint) or Progress(Server(dict(template), prepared.memory))
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
        tuple(site.name for site in prepared.sites),
        template,
        save,
        tell,
    )
    progress = rounds.run(progress)
    rounds.finish(progress)
    seconds = sum(row["seconds"] for row in progress.log) or perf_counter() - started
    collect(folder, prepared, progress, rounds.selected(progress), seconds, peak_memory())
    return folder


def make_workers(folder: RunFolder, prepared: Prepared) -> dict[str, Worker]:
    """A worker for each site that trains or is scored, all around the one backbone."""
    p = prepared
    everyone: dict[str, Site | PooledSite] = {site.name: site for site in [*p.sites, *p.trainers]}
    return {
        name: Worker(
            site,
            site.view,
            p.method,
            p.backbone,
            PrivateMemory(folder.site(name)),
            at_equal_steps(p.experiment, site) if isinstance(site, PooledSite) else p.experiment,
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
    counts = prepared.parameters()
    kept = 3 if prepared.experiment.training.optimiser_state == "keep" else 1
    server = 4 * counts["shared"] * 4
    site = 4 * (4 * counts["local"] * 3 + kept * counts["shared"] * (kept > 1)) + 3_000_000
    return server + site * len(prepared.sites) + 4_000_000


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
