"""A site's round: nnU-Net's own trainer over nnU-Net's own preprocessed cases."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from .line import Answer, Arrays, Facts, say
from .objects import DATASET, Setup, load, parameters


class Trainer(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer, but for one thing: how a blur is computed does not depend on a stopwatch."""

    @staticmethod
    def get_training_transforms(*given: Any, **named: Any) -> Any:
        """nnU-Net times two ways to blur and takes the faster; they differ in the last digits, so one is fixed."""
        transforms = nnUNetTrainer.get_training_transforms(*given, **named)
        for transform in transforms.transforms:
            inner = getattr(transform, "transform", transform)
            if isinstance(inner, GaussianBlurTransform):
                inner.benchmark = False
        return transforms


class Training:
    """A run's trainer, and the preprocessed cases of each of its sites.

    Attributes:
        key: the facts it was made from; another run has others.
    """

    def __init__(self, key: Facts) -> None:
        self.key, self.setup = key, Setup(key["setup"])
        self.folder = Path(nnUNet_preprocessed, DATASET, "cases")
        shutil.rmtree(self.folder, ignore_errors=True)  # those of another run
        device = torch.device(key["device"])
        plan = {**self.setup.plan, "continue_training": False}
        self.trainer = Trainer(plan, self.setup.name, "all", self.setup.dataset, device)
        self.trainer.device = device  # nnU-Net takes the first GPU, whichever was asked for
        self.trainer.num_epochs = key["rounds"]
        self.batches: dict[str, Iterator[Facts]] = {}

    def cases(self, site: str) -> int:
        """How many cases of a site are here."""
        return len(list((self.folder / site).glob("*.pkl")))  # nnU-Net writes a case's properties last

    def add(self, site: str, arrays: Arrays, spacing: list[float]) -> None:
        """Preprocess and keep one case, with nnU-Net's own preprocessor."""
        place = self.folder / site
        place.mkdir(parents=True, exist_ok=True)
        name = str(place / f"case-{self.cases(site):06}")
        setup, image = self.setup, (arrays["image"], spacing)
        preprocessor = setup.configuration.preprocessor_class(verbose=False)
        preprocessor.run_case_save(name, image, arrays["labels"], setup.plans, setup.configuration, setup.dataset)

    def round(self, site: str, number: int, steps: int, seed: int, arrays: Arrays) -> Answer:
        """One epoch of nnU-Net's, of `steps` iterations, from the given weights and moments."""
        batches, trainer = self._batches(site), self.trainer
        trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
        load(trainer.network, arrays)
        self._restore(arrays)
        trainer.current_epoch = number
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        trainer.on_train_epoch_start()
        losses = []
        for step in range(steps):
            losses.append(float(trainer.train_step(next(batches))["loss"]))
            say({"busy": f"step {step + 1} of {steps}"})
        weights = {f"weights.{name}": array for name, array in parameters(trainer.network).items()}
        return {"loss": float(np.mean(losses)), "steps": steps}, {**weights, **self._moments()}

    def _batches(self, site: str) -> Iterator[Facts]:
        """nnU-Net's loader of a site's patches, in this process, so that every draw follows the round's seed."""
        self.trainer.preprocessed_dataset_folder = str(self.folder / site)
        if not self.trainer.was_initialized:
            self.trainer.initialize()
            self.trainer.set_deep_supervision_enabled(True)
        if site not in self.batches:
            os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112
            self.batches[site] = self.trainer.get_dataloaders()[0]
        return self.batches[site]

    def _moments(self) -> Arrays:
        """The optimiser's state and, on a GPU, the loss scale's, as "optimiser.NAME|KEY"."""
        kept = {}
        for name, parameter in self.trainer.network.named_parameters():
            for key, value in self.trainer.optimizer.state[parameter].items():
                if value is not None:  # of a parameter that got no gradient
                    kept[f"optimiser.{name}|{key}"] = value.detach().cpu().numpy().copy()
        if self.trainer.grad_scaler is not None:
            scale = self.trainer.grad_scaler.state_dict()
            kept["optimiser.|scale"] = np.array([scale["scale"], scale["_growth_tracker"]], np.float32)
        return kept

    def _restore(self, arrays: Arrays) -> None:
        """What `_moments` gave after the site's last round; without any, as at the start of training."""
        own = dict(self.trainer.network.named_parameters())
        for joined, value in arrays.items():
            name, _, key = joined.removeprefix("optimiser.").rpartition("|")
            if joined.startswith("optimiser.") and name:
                self.trainer.optimizer.state[own[name]][key] = torch.tensor(value, device=self.trainer.device)
        if self.trainer.grad_scaler is not None:
            scale, tracker = arrays.get("optimiser.|scale", np.array([2.0**16, 0]))
            state = {**self.trainer.grad_scaler.state_dict(), "scale": float(scale), "_growth_tracker": int(tracker)}
            self.trainer.grad_scaler.load_state_dict(state)


def unused(network: torch.nn.Module) -> list[str]:
    """Parameters of the coarsest of nnU-Net's deep outputs: its loss has weight 0, so they never get a gradient."""
    coarsest = {id(parameter) for parameter in network.decoder.seg_layers[0].parameters()}  # type: ignore[union-attr,index]
    return [name for name, parameter in network.named_parameters() if id(parameter) in coarsest]
