"""The server's side of a run whose sites are elsewhere: it has no image, no case and no site's own model.

Sites are invited, tell what the method asks of their data, and build the same model; then the round loop is that of a
local run. What the folder holds at the end are declared aggregates: shared tensors, the log, each site's summed scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import torch

from sammit import runs
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.checkpoint import leave_on_disk, load_progress, save_progress
from sammit.federation.exchange import Transport, in_site_order
from sammit.federation.guard import check_declared
from sammit.federation.inputs import going_on
from sammit.federation.prepare import check_sites, fresh, make_method, resolved
from sammit.federation.rounds import Progress, Rounds
from sammit.federation.tallies import steps_per_site, traffic
from sammit.files import clear_drafts, write_atomically
from sammit.lock import locked
from sammit.methods.base import Method, Server
from sammit.methods.state import select
from sammit.reporting.html import write_report
from sammit.reporting.summary import Facts, join_sites
from sammit.runs import RunFolder, write_state
from sammit.toml import to_toml
from sammit.version import VERSION
from sammit.vocabulary import Failure, Invitation, Judgement, Ready, Reply, State, Survey

Tell = Callable[[dict[str, Any]], None]
Save = Callable[[Progress], None]
AReply = TypeVar("AReply", bound=Reply)


@dataclass
class Led:
    """A run that is ready to start, as its server knows it.

    Attributes:
        experiment: effective, as the method's plan left it.
        method: both halves; this side uses the server's.
        trainers, judged: names of the sites that train, and of those that are scored.
        server: before the first round.
        template: name -> an empty tensor of the right shape and type for every shared name.
        base: the hash of the base weights.
        parameters: counts: total, trainable, shared, local.
        samples: site -> how many it said that it trains on.
    """

    experiment: Experiment
    method: Method
    trainers: tuple[str, ...]
    judged: tuple[str, ...]
    server: Server
    template: State
    base: str
    parameters: dict[str, int]
    samples: dict[str, int]


def lead(
    out: Path, experiment: Experiment, sites: Sequence[str], transport: Transport, tell: Tell, resume: bool = False
) -> RunFolder:
    """Carry out a run; the folder of the finished run.

    Args:
        out: the run folder.
        experiment: the recipe.
        sites: names of all that take part, those of `evaluation.unseen` among them.
        transport: reaches them.
        tell: is called with each finished row of the log.
        resume: go on with the run in `out`, if there is one.

    Raises:
        UserError: whatever a person must mend.
    """
    experiment = checked(experiment, sites)
    check_sites(experiment, make_method(experiment), len(set(sites) - set(experiment.evaluation.unseen)))
    if not (resume and out.is_dir()):
        runs.refuse_used(out)
    with locked(out, "run", patience=60):  # the job before may not have ended yet
        clear_drafts(out)
        if not (out / "run.json").is_file():
            write_atomically(out / "run.json", json.dumps({"run": uuid4().hex, "sites": list(sites)}))
        if (out / "config.toml").is_file():
            folder = RunFolder.open(out)
            if folder.finished:
                return folder
            experiment = going_on(folder.experiment, experiment, out)
        recorded = json.loads((out / "run.json").read_text())
        led = gathered(experiment, recorded["run"], recorded["sites"], transport)
        return _carry_out(_recorded(out, led), led, transport, tell)


def checked(experiment: Experiment, sites: Sequence[str]) -> Experiment:
    """The experiment without what only one machine has; raises UserError where it cannot be run across several."""
    method = make_method(experiment)
    if method.pooled:
        raise UserError(f"method.name: {experiment.method.name} pools the sites' images; run it where they all are")
    for name in experiment.evaluation.unseen:
        if name not in sites:
            raise UserError(f"evaluation.unseen: there is no site '{name}'; known: {', '.join(sites)}")
    data = replace(experiment.data, root="", cache="", sites=())
    evaluation = replace(experiment.evaluation, cross_site=False)  # no site sees another's model
    return resolved(replace(experiment, data=data, evaluation=evaluation))


def gathered(experiment: Experiment, run: str, sites: Sequence[str], transport: Transport) -> Led:
    """Invite the sites, plan the run from what they tell, and have them build the model."""
    method, unseen = make_method(experiment), experiment.evaluation.unseen
    invitations = [Invitation(site, run, asdict(experiment), trains=site not in unseen) for site in sites]
    surveys = _asked(transport, invitations, Survey)
    structures = _agreed(surveys)
    trainers = tuple(site for site in sites if site not in unseen)
    for survey in surveys:
        check_declared(survey.tensors, method.surveyed, f"the survey of site '{survey.site}'")
    told = {survey.site: survey.tensors for survey in surveys if survey.site in trainers}
    experiment, memory = method.plan(method.aggregator.plan(experiment), told)
    check_declared(memory, method.server_state, "the server's memory")
    samples = {survey.site: survey.samples for survey in surveys if survey.site in trainers}
    led = _built(experiment, method, tuple(sites), samples, memory, len(structures))
    ready = _asked(transport, [replace(i, experiment=asdict(experiment), planned=True) for i in invitations], Ready)
    for one in ready:
        if one.version != VERSION:
            raise UserError(f"site '{one.site}' runs Sammit {one.version}, the server {VERSION}: install the same")
        if one.base != led.base:
            raise UserError(f"site '{one.site}' starts from other base weights; give it the file of model.weights")
    return led


def _asked(transport: Transport, invitations: Sequence[Invitation], kind: type[AReply]) -> list[AReply]:
    """Every site's answer, in the order of the invitations; raises UserError where one does not take part."""
    found: list[AReply] = []
    names = [invitation.site for invitation in invitations]
    for delivery in in_site_order(transport.exchange(invitations), names, -1):
        reply = delivery.reply
        if isinstance(reply, Failure):
            raise UserError(f"site '{reply.site}' does not take part: {reply.reason}")
        if not isinstance(reply, kind):
            raise UserError(f"site '{reply.site}' answered an invitation with {type(reply).__name__}; update it")
        found.append(reply)
    return found


def _agreed(surveys: Iterable[Survey]) -> tuple[str, ...]:
    first, *others = surveys
    for other in others:
        if tuple(other.structures) != tuple(first.structures):
            raise UserError(
                f"site '{other.site}' has the structures {', '.join(other.structures)}, site '{first.site}' "
                f"{', '.join(first.structures)}: name the same for all in data.structures"
            )
    return tuple(first.structures)


def _built(
    experiment: Experiment,
    method: Method,
    judged: tuple[str, ...],
    samples: dict[str, int],
    memory: State,
    structures: int,
) -> Led:
    """The first state: the model's own tensors, of which no copy is made, for the model itself is not needed here."""
    model, live, _, base = fresh(experiment, method, structures)
    own = {name: parameter.detach().cpu() for name, parameter in model.named_parameters()}
    shared, local = method.shared_names(live), method.personal_names(live)
    counts = {"shared": sum(own[name].numel() for name in shared), "local": sum(own[name].numel() for name in local)}
    total = sum(tensor.numel() for tensor in own.values())
    parameters = {"total": total, "trainable": sum(counts.values()), **counts}
    first = select(own, lambda name: name in set(shared) or method.aggregator.holds(name))
    method.aggregator.check(first, list(judged))
    template = {name: torch.empty_like(own[name], device="meta") for name in shared}
    server = Server(first, memory)
    return Led(experiment, method, tuple(samples), judged, server, template, base, parameters, samples)


def _recorded(out: Path, led: Led) -> RunFolder:
    """The run folder, with the planned experiment, versions and hashes in it.

    Raises:
        UserError: the run that is in it started from other weights.
    """
    folder = RunFolder(out, led.experiment)
    if not (out / "environment.json").is_file():
        write_atomically(out / "config.toml", to_toml(led.experiment))
        notes = [*led.method.notes(), *led.method.aggregator.notes()]
        identity = {"base_weights": led.base, "notes": notes}
        folder.write_json("environment.json", runs.environment(led.experiment) | identity)
    if folder.read_json("environment.json")["base_weights"] != led.base:
        raise UserError(f"{out}: model.weights have changed since the run started; put them back")
    return folder


def rounds_of(led: Led, checkpoint: Path, transport: Transport, save: Save, tell: Tell) -> Rounds:
    """The round loop of a run; updates that must wait do so beside its checkpoint."""
    names, waiting = (led.trainers, led.judged), checkpoint / "waiting"
    return Rounds(led.method, led.experiment, transport, *names, led.template, save, tell, waiting, led.samples)


def _carry_out(folder: RunFolder, led: Led, transport: Transport, tell: Tell) -> RunFolder:
    """All rounds that are left, the last local stage, the scores."""
    checkpoint = folder.path / "checkpoint"

    def save(new: Progress) -> None:
        save_progress(checkpoint, new)
        leave_on_disk(checkpoint, new)
        if new.judged:
            folder.write_lines("rounds.jsonl", new.log)

    rounds = rounds_of(led, checkpoint, transport, save, tell)
    # nothing here holds on to a state that is on disk: it is as large as an update
    progress = load_progress(checkpoint)
    if progress is None:
        progress = Progress(_let_go(led))
        save_progress(checkpoint, progress)
    leave_on_disk(checkpoint, progress)
    progress = rounds.run(progress)
    judgements = rounds.finish(progress)
    index, shared = rounds.selected(progress)
    models = folder.path / "models"
    write_state(models / "global.safetensors", shared, {"round": index, "base": led.base})
    write_state(models / "last.safetensors", progress.server.shared, {"round": progress.round - 1, "base": led.base})
    folder.write_json("summary.json", _summary(led, progress, judgements, index))
    write_report([folder.path], folder.path / "report.html")
    return folder


def _let_go(led: Led) -> Server:
    """The state before the first round, which `led` then has no more."""
    server, led.server = led.server, Server({})
    return server


def _summary(led: Led, progress: Progress, judgements: dict[str, Judgement], selected: int) -> dict[str, Any]:
    """`summary.json` from what the sites told of their scores; those that withhold theirs are named."""
    e, judging = led.experiment, led.method.judging
    entries = {site: dict(judgement.entry) for site, judgement in judgements.items() if judgement.entry}
    unseen = {site: judging.unseen_rule for site in e.evaluation.unseen if site in entries}
    seconds = sum(row["seconds"] for row in progress.log)
    facts = Facts(
        e.method.name,
        e.model.name,
        "across hospitals",
        e.evaluation.protocol,
        e.seed,
        e.training.rounds,
        selected,
        {},
        unseen,
        led.parameters,
        traffic(progress.log),
        {"total": seconds, "per_round": seconds / max(1, progress.round)},
        runs.peak_memory(),
        e.evaluation.scored,
        {"per_site": steps_per_site(progress.log, led.trainers)},
    )
    withheld = [site for site in led.judged if site not in entries]
    return join_sites(entries, facts) | {"withheld": withheld}
