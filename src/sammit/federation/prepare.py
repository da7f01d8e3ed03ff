"""From an experiment to a run that is ready to start: sites open, model built, everything checked, nothing written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sammit import heap, plugins
from sammit.config import Experiment
from sammit.data.check import too_coarse
from sammit.data.site import Site
from sammit.data.sites import PooledSite, open_sites, pooled
from sammit.errors import UserError
from sammit.federation.consent import check_agreed
from sammit.federation.guard import check_declared
from sammit.federation.prefix import PrefixCache, prefix_cache
from sammit.federation.worker import Backbone
from sammit.learning.inference import WholeCase
from sammit.methods.axes import combine
from sammit.methods.base import Method, Server
from sammit.methods.state import select
from sammit.models.build import build_model, set_checkpointing, set_trainable
from sammit.models.precision import compute_in
from sammit.models.weights import base_hash
from sammit.toml import build
from sammit.vocabulary import SiteData, State

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)


@dataclass
class Prepared:
    """A run that is ready to start, and what a person may want to know of it before.

    Attributes:
        experiment: effective, threads resolved.
        sites: all sites, split; `trainers`: who trains (the pooled site instead of all, where the method pools).
        method, backbone: what is run.
        surveys: what each training site told before the model was built, by site; empty for most methods.
        memory: the server's first memory, from the method's plan.
        shared, personal: live names that travel and that stay.
        prefix: kept activations of frozen blocks, where the recipe asks for them.
    """

    experiment: Experiment
    sites: list[Site]
    trainers: list[Site | PooledSite]
    method: Method
    surveys: dict[str, State]
    memory: State
    backbone: Backbone
    shared: tuple[str, ...]
    personal: tuple[str, ...]
    prefix: PrefixCache | None

    def parameters(self) -> dict[str, int]:
        """Counts: total, trainable, shared, local."""
        sizes = {name: p.numel() for name, p in self.backbone.model.named_parameters()}
        shared, local = (sum(sizes[name] for name in names) for names in (self.shared, self.personal))
        return {"total": sum(sizes.values()), "trainable": shared + local, "shared": shared, "local": local}

    @property
    def template(self) -> State:
        """The shared tensors as they are at first: names, shapes and types of what sites send."""
        return select(self.backbone.start, set(self.shared).__contains__)

    @property
    def server(self) -> Server:
        """The server before the first round, with what it holds for itself."""
        held = select(self.backbone.start, self.method.aggregator.holds)
        return Server(self.template | held, self.memory)


def make_method(experiment: Experiment) -> Method:
    """The method of a recipe with its options checked; raises UserError with the nearest known name."""
    chosen = experiment.method
    module, axis = plugins.load("methods", chosen.name), plugins.load("aggregators", chosen.aggregator)
    own = {key: value for key, value in chosen.options.items() if key != chosen.aggregator}
    method: Method = module.Method(build(module.Options, own, "method"))
    lacking = [name for name in method.adapters if name not in experiment.model.adapter]
    if lacking:
        raise UserError(f"model.adapter: {chosen.name} works on '{lacking[0]}', which the recipe does not have; add it")
    rule_options = chosen.options.get(chosen.aggregator, {})
    aggregator = axis.Aggregator(build(axis.Options, rule_options, f"method.{chosen.aggregator}"))
    return combine(method, aggregator, (chosen.name, chosen.aggregator))


def prepare(experiment: Experiment) -> Prepared:
    """Open the sites and build the model; trains nothing and writes nothing but the cache.

    Raises:
        UserError: whatever in the recipe or the data a person must mend.
    """
    import torch

    experiment = resolved(experiment)
    torch.set_num_threads(experiment.training.threads)
    method = make_method(experiment)
    data = experiment.data
    split_seed = experiment.seed if data.split_seed < 0 else data.split_seed
    sites = open_sites(data, split_seed, experiment.evaluation.unseen, method.unlabelled)
    sources = [site for site in sites if site.name not in experiment.evaluation.unseen]
    if not sources:
        raise UserError("evaluation.unseen: every site is unseen; leave at least one to train on")
    check_sites(experiment, method, len(sources))
    for site in sources:
        check_agreed(site.name, site.policy, experiment.method.name, method)
    trainers: list[Site | PooledSite] = [pooled(sources)] if method.pooled else list(sources)
    surveys = surveyed(method, trainers)
    experiment, memory = method.plan(method.aggregator.plan(experiment), surveys)
    check_declared(memory, method.server_state, "the server's memory")
    backbone = make_backbone(experiment, method, len(sites[0].structures))
    model: Any = backbone.model
    for warning in [] if isinstance(model, WholeCase) else too_coarse(sources, model.stride):
        log.warning(warning)
    prepared = Prepared(
        experiment,
        sites,
        trainers,
        method,
        {site: survey for site, survey in surveys.items() if survey},
        memory,
        backbone,
        method.shared_names(backbone.live),
        method.personal_names(backbone.live),
        prefix_cache(experiment, model, backbone.start, trainers),
    )
    method.aggregator.check(prepared.server.shared, [site.name for site in sites])
    return prepared


def make_backbone(experiment: Experiment, method: Method, structures: int) -> Backbone:
    """The model of a recipe on its device, and copies of what changes of it; raises UserError as `fresh` does."""
    return Backbone.of(*fresh(experiment, method, structures))


class Fresh(NamedTuple):
    """A model as it is built: names that can get a gradient, names that the server may change, the base's hash."""

    model: nn.Module
    live: tuple[str, ...]
    held: tuple[str, ...]
    base: str


def fresh(experiment: Experiment, method: Method, structures: int) -> Fresh:
    """The model of a recipe on its device, what the method does not train frozen.

    Raises:
        UserError: a model, weights or adapters that cannot be.
    """
    model = build_model(experiment.model, experiment.data.size, structures, experiment.seed)
    train: str = experiment.model.train
    if train == "auto":
        train = method.train_default if experiment.model.adapter else "all"
    live = method.trained_names(set_trainable(model, train))
    held = tuple(name for name, _ in model.named_parameters() if method.aggregator.holds(name))
    base = base_hash(model, fixed=method.fixes)
    compute_in(model, experiment.training.precision, {*live, *held})
    if experiment.training.checkpointing:
        set_checkpointing(model)
        heap.map_blocks()
    else:
        heap.keep_blocks()
    model.to(experiment.training.device)
    return Fresh(model, tuple(live), held, base)


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


def surveyed(method: Method, trainers: Sequence[SiteData]) -> dict[str, State]:
    """What each site that trains tells before the model is built.

    Raises:
        UserError: the method surveys something that it does not declare.
    """
    surveys = {site.name: method.survey(site) for site in trainers}
    for survey in surveys.values():
        check_declared(survey, method.surveyed, "a survey")
    return surveys


def check_sites(experiment: Experiment, method: Method, sources: int) -> None:
    """Raise UserError where fewer sites train than a round needs."""
    if sources < experiment.training.min_sites and not method.pooled:
        raise UserError(f"training.min_sites: {experiment.training.min_sites}, but {sources} sites train; lower it")
    rule, least = experiment.method.aggregator, method.aggregator.least
    if sources < least:
        raise UserError(f"method.aggregator: '{rule}' needs {least} sites or more, but {sources} train; use 'naive'")
