"""Before there is a network: what nnU-Net sees in a case, and what it plans for all of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw

from .line import Answer, Arrays, Facts
from .objects import DATASET, Held, version


def analyse(facts: Facts, arrays: Arrays) -> Answer:
    """nnU-Net's own analysis of one case: shape after cropping, relative size, intensities of the foreground."""
    image = (arrays["image"], facts["spacing"])
    shape, _, intensities, _, relative = DatasetFingerprintExtractor.analyze_case(image, arrays["labels"], Held)
    drawn = np.array(intensities, np.float64)  # (c, 10000), or (c, 0) where there is no foreground
    return {"shape": [int(side) for side in shape], "relative_size": float(relative)}, {"intensities": drawn}


class Planner(ExperimentPlanner):  # type: ignore[misc]
    """nnU-Net's planner under a cap on the patch's sides, in pixels; 0 for none."""

    patch = 0

    def get_plans_for_configuration(self, spacing: Any, median_shape: Any, *rest: Any) -> Facts:
        """nnU-Net starts from the median shape and goes down; so does this, from a smaller one."""
        capped = np.minimum(median_shape, self.patch) if self.patch else median_shape
        plan: Facts = super().get_plans_for_configuration(spacing, capped, *rest)
        return {**plan, "median_image_size_in_voxels": median_shape}


def plan(facts: Facts, arrays: Arrays) -> Answer:
    """nnU-Net's plans for a fingerprint, with all the configurations it offers."""
    os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112 -- the planner counts threads by it
    dataset = {**facts["dataset"], "dataset": {"none": {"images": ["none"], "label": "none"}}}
    _write(Path(nnUNet_raw, DATASET, "dataset.json"), dataset)
    folder = Path(nnUNet_preprocessed, DATASET)
    (folder / "nnUNetPlans.json").unlink(missing_ok=True)  # nnU-Net would carry an earlier plan's configurations over
    _write(folder / "dataset_fingerprint.json", facts["fingerprint"])
    planner = Planner(DATASET, gpu_memory_target_in_gb=facts["gpu_memory_gb"])
    planner.patch = facts["patch"]
    planner.plan_experiment()
    return {"plan": json.loads((folder / "nnUNetPlans.json").read_text()), "version": version()}, {}


def _write(path: Path, value: Facts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
