"""FednnU-Net: the real nnU-Net under federated averaging, planned from federated fingerprints.

    plan    = nnU-Net's planner( merge_k fingerprint_k )          fingerprint_k: quantiles, means; never a case
    w^{t+1} = sum_k (n_k / n) nnU-Net's trainer(w^t, m_k^t)       m_k: momentum, which stays at its site

nnU-Net (Isensee et al., Nature Methods 18, 2021) plans patch, batch, network and normalisation, draws the initial
values, augments, and trains with its own loss, optimiser and rate; one round is one of its epochs, and its polynomial
rate falls over all rounds. It runs in a process of its own (`sammit.nnunet`).

Deviations from the FednnU-Net baseline of FedFMS's authors: the plan comes of merged statistics instead of pooled
images; all sites start from one network; n_k counts training images alone; a site's steps go with its size unless
`steps = "nnunet"`; rates are planned for the rounds that are run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray

from sammit.config import Experiment, TrainingConfig
from sammit.errors import UserError
from sammit.learning.loop import steps_in_round
from sammit.methods import base
from sammit.methods.base import Outcome, Work
from sammit.methods.state import put, with_prefix, without_prefix
from sammit.nnunet import fingerprints
from sammit.nnunet.cases import as_channels, is_grey, label_map, spacing_of
from sammit.nnunet.fingerprints import CaseFacts
from sammit.nnunet.process import Process, shared
from sammit.nnunet.setup import NAME, Setup, dataset_of
from sammit.randomness import key_to_seed
from sammit.vocabulary import Declared, Loaded, SiteData, State

PAPER = "Isensee et al. 2021 (nnU-Net); FedFMS 2024 (2403.05408) for FednnU-Net"
TRAVELS = "the whole network; once, before it is built, statistics of the site's images"
STAYS = "momentum"
NEEDS = "nnU-Net's own Python environment: make .venv-nnunet/ready"

NNUNET_STEPS = 250  # iterations of one of nnU-Net's epochs

# What nnU-Net 2 trains with, in the recipe's words; written over it, so that the run's config tells what was done.
TRAINING: dict[str, Any] = {
    "optimiser": "sgd",
    "momentum": 0.99,
    "lr": 0.01,
    "adapter_lr": 0.0,
    "weight_decay": 3e-5,
    "schedule": "poly",
    "warmup": 0.0,
    "clip": 12.0,
    "dice_weight": 1.0,
    "bce_weight": 1.0,
    "pos_weight": 1.0,
}


@dataclass(frozen=True)
class Options:
    """`[method]`."""

    steps: Literal["proportional", "nnunet"] = "proportional"  # as [training] says, or 250 a round at every site
    configuration: Literal["auto", "2d", "3d_fullres"] = "auto"  # auto: 3d_fullres for volumes, where nnU-Net plans it
    gpu_memory_gb: float = 8.0  # what nnU-Net plans patch and batch for; 8 is its own default
    patch: int = 0  # largest side of a patch, pixels: a smaller network for a small machine; 0: the plan's own
    mirroring: bool = False  # average predictions over mirrored images, as nnU-Net does: 4 or 8 times the work


class Method(base.Method):
    """Survey, plan and a site's round are nnU-Net's; the average is FedAvg's."""

    options: Options
    surveyed = tuple(Declared(name, *form) for name, form in fingerprints.FORM.items())
    decides = (f"model.options.{NAME}", "training.batch_size", *(f"training.{key}" for key in TRAINING))

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        if self.options.gpu_memory_gb <= 0 or self.options.patch < 0:
            raise UserError("method.gpu_memory_gb and patch: must be above 0, and 0 or more")
        self._run = uuid4().hex  # nnU-Net's process may serve several runs, one after another

    def survey(self, site: SiteData) -> State:
        """What nnU-Net sees in the site's training cases, summarised: see `fingerprints.FORM`."""
        process = shared()
        seen = (_analysed(process, site.load(case)) for case in site.cases("train"))
        return {name: torch.from_numpy(array) for name, array in fingerprints.summarise(seen).items()}

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """nnU-Net's plan in the experiment; one that is there already is kept, so that a resumed run stays what it is.

        Raises:
            UserError: another model, neighbours as channels, weak or few labels, no structure in any image, images too
                small to plan for.
        """
        if experiment.model.name != NAME:
            raise UserError(f"model.name: fednnunet trains '{NAME}', not '{experiment.model.name}'; change one of them")
        if experiment.data.slices != "2d":
            raise UserError("data.slices: nnU-Net looks at a volume's slices in its own way; set data.slices = '2d'")
        if (experiment.data.labels, experiment.data.label_kinds, experiment.data.labelled) != ("full", {}, 1):
            raise UserError(
                "data.labels, label_kinds and labelled: nnU-Net reads the masks as they are; leave all three out"
            )
        if NAME in experiment.model.options:
            setup = Setup.of(experiment.model)
        else:
            setup = self._planned([{name: t.numpy() for name, t in survey.items()} for survey in surveys.values()])
        model = replace(experiment.model, options=setup.options())
        training = replace(experiment.training, batch_size=setup.batch_size, **TRAINING)
        return replace(experiment, model=model, training=training), {}

    def _planned(self, surveys: list[fingerprints.Summary]) -> Setup:
        """nnU-Net's plan for all sites' cases."""
        merged = fingerprints.merge(surveys)
        if not merged["intensity.count"].any():
            raise UserError("data.structures: no training image has any of them; check the masks at the sites")
        cases, channels, structures = (int(merged[name][0]) for name in ("cases", "channels", "structures"))
        dataset = dataset_of(cases, channels, structures, bool(merged["overlap"][0]), bool(merged["unlabelled"][0]))
        asked = {"gpu_memory_gb": self.options.gpu_memory_gb, "patch": self.options.patch}
        facts = {"fingerprint": fingerprints.fingerprint(merged), "dataset": dataset, **asked}
        told = shared().ask("plan", facts)[0]
        return Setup.chosen(told["plan"], dataset, self.options.configuration, self.options.mirroring, told["version"])

    def train(self, work: Work) -> Outcome:
        """One of nnU-Net's epochs from the order's weights and the site's momentum."""
        setup, process = cast(Setup, work.model.setup), shared()
        run = {"setup": setup.facts(), "rounds": work.training.rounds, "device": work.training.device, "run": self._run}
        asked = {"key": run, "site": f"{key_to_seed(work.site.name):x}"}
        _hand_over(process, setup, work.site, asked)
        facts = {
            **asked,
            "round": work.order.round,
            "steps": self._steps(setup, work.training, work.site),
            "seed": key_to_seed(work.seed, work.site.name, work.order.round, "train"),
        }
        arrays = with_prefix("weights", work.model.state_dict())
        arrays |= with_prefix("optimiser", work.kept_moments() or {})
        told, found = process.ask("train", facts, {name: t.detach().cpu().numpy() for name, t in arrays.items()})
        state = {name: torch.from_numpy(array) for name, array in found.items()}
        weights = without_prefix("weights", state)
        put(work.model, {name: weights[name] for name in work.live})
        moments = with_prefix("optimiser", without_prefix("optimiser", state))
        return Outcome(moments if work.training.optimiser_state == "keep" else {}, {}, told)

    def _steps(self, setup: Setup, training: TrainingConfig, site: SiteData) -> int:
        """Iterations of a round: passes over slices for a plan in 2-D, over volumes for one in 3-D."""
        if self.options.steps == "nnunet":
            return NNUNET_STEPS
        return steps_in_round(training, site.samples("train") if setup.dimensions == 2 else len(site.cases("train")))

    def notes(self) -> tuple[str, ...]:
        """What of the recipe counts for nothing."""
        return (
            "nnU-Net plans patch, batch, network and normalisation, and trains with its own augmentation, loss, "
            "optimiser and rate: [data] view, size, augmentation, [training] batch_size, lr and the like are not read.",
        )


def _analysed(process: Process, loaded: Loaded) -> CaseFacts:
    """nnU-Net's own analysis of a case."""
    image = as_channels(loaded.image, 1 if is_grey(loaded.image) else 3)
    spacing = spacing_of(len(loaded.image), loaded.spacing)
    foreground = np.any(loaded.truth, axis=-1)[np.newaxis].astype(np.int16)
    told, found = process.ask("analyse", {"spacing": spacing}, {"image": image, "labels": foreground})
    return CaseFacts(
        spacing,
        told["shape"],
        told["relative_size"],
        found["intensities"],
        loaded.truth.shape[-1],
        bool((loaded.truth.sum(-1) > 1).any()),
        loaded.valid is not None and not loaded.valid.all(),
    )


def _hand_over(process: Process, setup: Setup, site: SiteData, asked: dict[str, Any]) -> None:
    """Send the training cases that the process does not have: all at first and after a resume, then none."""
    there = process.ask("cases", asked)[0]["cases"]
    for case in site.cases("train")[there:]:
        loaded = site.load(case)
        arrays: dict[str, NDArray[Any]] = {
            "image": as_channels(loaded.image, setup.channels),
            "labels": label_map(loaded.truth, loaded.valid, setup.labels),
        }
        process.ask("add", {**asked, "spacing": spacing_of(len(loaded.image), loaded.spacing)}, arrays)
