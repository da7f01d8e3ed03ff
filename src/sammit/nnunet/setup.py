"""What all sites agree on: nnU-Net's plan and its labels' meaning. It travels in the experiment, `[model.nnunet]`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.toml import build

NAME = "nnunet"  # of the model, and of its table in the experiment
FEWEST_STAGES = 3  # with fewer, nnU-Net's deep supervision has no output that counts
MOST_REGIONS = 7  # every set of overlapping structures is a label of its own, and nnU-Net keeps labels in a byte


@dataclass(frozen=True)
class Setup:
    """nnU-Net's answer to the sites' fingerprints.

    Attributes:
        plan: nnU-Net's plans, JSON.
        dataset: nnU-Net's dataset.json: channels and labels; no case, no path.
        configuration: "2d" or "3d_fullres".
        mirroring: whether predictions are averaged over mirrored images.
        version: of nnunetv2 and torch, where the plan was made.
    """

    plan: str = ""
    dataset: str = ""
    configuration: str = "2d"
    mirroring: bool = False
    version: str = ""

    @classmethod
    def of(cls, config: ModelConfig) -> Setup:
        """The setup in an experiment's `[model]`; raises UserError where nothing has been planned."""
        setup = build(cls, config.options.get(NAME, {}), f"model.{NAME}")
        if not setup.plan:
            raise UserError(
                f"model.name: '{NAME}' is built from a plan; choose method.name = 'fednnunet', which makes it"
            )
        return setup

    @classmethod
    def chosen(
        cls, plan: dict[str, Any], dataset: dict[str, Any], configuration: str, mirroring: bool, version: str
    ) -> Setup:
        """The setup of one of a plan's configurations.

        Args:
            plan, dataset, mirroring, version: as above, not yet text.
            configuration: "2d", "3d_fullres", or "auto": the latter where the plan has it.

        Raises:
            UserError: the plan has no such configuration, or the images are too small for any.
        """
        offered = plan["configurations"]
        if configuration == "auto":
            configuration = "3d_fullres" if "3d_fullres" in offered else "2d"
        if configuration not in offered:
            raise UserError(f"method.configuration: nnU-Net plans no {configuration} for these images; choose 'auto'")
        patch = offered[configuration]["patch_size"]
        if offered[configuration]["architecture"]["arch_kwargs"]["n_stages"] < FEWEST_STAGES:
            raise UserError(f"method.patch: patches of {patch} pixels are too small for nnU-Net; it needs 16 at least")
        return cls(json.dumps(plan), json.dumps(dataset), configuration, mirroring, version)

    def options(self) -> dict[str, dict[str, Any]]:
        """`model.options`."""
        return {NAME: asdict(self)}

    def facts(self) -> dict[str, Any]:
        """What nnU-Net's process needs of it to build a network."""
        return {"plan": self.plan, "dataset": self.dataset, "configuration": self.configuration}

    @cached_property
    def _chosen(self) -> dict[str, Any]:
        return dict(json.loads(self.plan)["configurations"][self.configuration])

    @property
    def batch_size(self) -> int:
        """Patches an optimiser step sees."""
        return int(self._chosen["batch_size"])

    @property
    def dimensions(self) -> int:
        """Of a patch: 2 or 3."""
        return len(self._chosen["patch_size"])

    @property
    def channels(self) -> int:
        """Of an image: 1 (grey) or 3 (colour)."""
        return len(json.loads(self.dataset)["channel_names"])

    @cached_property
    def labels(self) -> dict[str, Any]:
        """nnU-Net's labels: name -> number, or the numbers that make up a region."""
        return dict(json.loads(self.dataset)["labels"])


def dataset_of(cases: int, channels: int, structures: int, overlap: bool, unlabelled: bool) -> dict[str, Any]:
    """nnU-Net's dataset.json: a label for each structure, or regions where structures overlap.

    Raises:
        UserError: too many overlapping structures.
    """
    if overlap and structures > MOST_REGIONS:
        raise UserError(
            f"data.structures: at most {MOST_REGIONS} may overlap for nnU-Net, not {structures}; choose fewer"
        )
    names = [f"structure {index}" for index in range(1, structures + 1)]
    codes = range(1, 1 << structures) if overlap else range(1, structures + 1)
    labels: dict[str, Any] = {"background": 0}
    for index, name in enumerate(names):
        labels[name] = [code for code in codes if code >> index & 1] if overlap else index + 1
    if unlabelled:
        labels["ignore"] = len(codes) + 1
    colours = {str(index): "rgb_to_0_1" for index in range(3)}  # nnU-Net's name for: 8 bits of colour, divide by 255
    return {
        "channel_names": colours if channels == 3 else {"0": "grey"},
        "labels": labels,
        "regions_class_order": list(range(1, structures + 1)),
        "numTraining": cases,
        "file_ending": ".none",
        "overwrite_image_reader_writer": "SimpleITKIO",  # a name nnU-Net knows; no file is ever read
    }
