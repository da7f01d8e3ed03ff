"""What can be asked."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .line import Answer, Arrays, Facts
from .objects import Setup, parameters, version
from .planning import analyse, plan
from .prediction import Prediction
from .training import Training, unused


class Worker:
    """Holds at most one run's training and one model's prediction."""

    def __init__(self) -> None:
        self._training: Training | None = None
        self._prediction: Prediction | None = None
        self.known: dict[str, Callable[[Facts, Arrays], Answer]] = {
            "analyse": analyse,
            "plan": plan,
            "build": self.build,
            "cases": self.cases,
            "add": self.add,
            "train": self.train,
            "segment": self.segment,
        }

    def build(self, facts: Facts, arrays: Arrays) -> Answer:
        """The network's parameters as nnU-Net draws them from a seed, and the names of those that never train."""
        torch.manual_seed(facts["seed"])
        setup = Setup(facts["setup"])
        network = setup.network(deep_supervision=True)
        return {"unused": unused(network), "version": version()}, parameters(network)

    def cases(self, facts: Facts, arrays: Arrays) -> Answer:
        """How many cases of a site are here already."""
        return {"cases": self.training(facts).cases(facts["site"])}, {}

    def add(self, facts: Facts, arrays: Arrays) -> Answer:
        """One more case of a site."""
        self.training(facts).add(facts["site"], arrays, facts["spacing"])
        return {}, {}

    def train(self, facts: Facts, arrays: Arrays) -> Answer:
        """A round at a site."""
        return self.training(facts).round(facts["site"], facts["round"], facts["steps"], facts["seed"], arrays)

    def segment(self, facts: Facts, arrays: Arrays) -> Answer:
        """Masks of one image or volume."""
        key = facts["key"]
        if self._prediction is None or self._prediction.key != key:
            self._prediction = Prediction(key)
        image = arrays.pop("image")
        self._prediction.load(arrays)
        return {}, {"masks": self._prediction.segment(image, facts["spacing"])}

    def training(self, facts: Facts) -> Training:
        """The training of the request's run; that of any other run is forgotten."""
        if self._training is None or self._training.key != facts["key"]:
            self._training = Training(facts["key"])
        return self._training
