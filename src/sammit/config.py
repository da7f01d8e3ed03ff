"""The experiment, as frozen dataclasses; every check of a value.

It travels and is the same for all sites; what a site decides for itself is in `policy`. Each field's meaning stands
beside it; what a recipe leaves out has the default written here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sammit.errors import UserError, nearest

Labels = Literal["full", "scribble", "point", "block", "box"]
"""What training may see of full masks."""


@dataclass(frozen=True)
class DataConfig:
    """`[data]`: where the sites are and what a model is shown of them."""

    root: str = ""  # folder of sites; `--data` overrides it
    sites: tuple[str, ...] = ()  # only these; empty: all that are found
    structures: dict[str, Any] = field(default_factory=dict)  # name -> "> 0" | 2 | [1, 2]; empty: from dataset.toml
    codes: dict[str, Any] = field(default_factory=dict)  # name -> "SCT 10200004 Liver": what it is in a DICOM SEG
    patient: str = ""  # regular expression with one group, searched in a case's name; no match: the name itself
    images: str = ""  # name of the images' folder where it is not the layout's
    masks: str = ""  # name of the masks' folder, likewise (a second observer's, say)
    view: Literal["tile", "whole"] = "tile"  # train on tiles near native scale, or on the whole image resized
    size: int = 128  # side of what the model sees, in pixels
    scale: float = 1.0  # tiles: size of a model pixel relative to native; 2.0 halves the resolution
    longest: int = 0  # tiles: the longer side is brought to this many pixels first (sites differ in size); 0: by scale
    resampling: Literal["area", "fedfms"] = "area"  # fedfms: plain bilinear images, nearest truth at a quarter
    overlap: float = 0.25  # tiles: share of a tile's side shared with its neighbour when predicting
    foreground: float = 0.5  # tiles: share of training tiles centred on a pixel of some structure
    augmentation: Literal["standard", "none"] = "standard"  # flips, rotation, scale, intensity, colour
    appearance: Literal["none", "spatial", "frequency", "gin"] = "none"  # training: as another modality may show them
    views: int = 0  # training: fixed tiles of each image or slice, one of which is drawn; 0: a fresh one each time
    intensity: Literal["range", "percentile", "local", "fedfms"] = "range"  # type's range, percentiles, by surroundings
    window: tuple[float, ...] = ()  # (low, high) in the image's own unit (HU for CT); empty: no window
    spacing: tuple[float, ...] = ()  # mm, (slice, row, column), where the format has none
    axis: Literal["auto", "0", "1", "2"] = "auto"  # volumes: the axis that is cut; auto: the coarsest spacing
    uneven: Literal["refuse", "resample"] = "refuse"  # DICOM slices missing, doubled or unevenly spaced
    slices: Literal["2d", "2.5d"] = "2d"  # grey volumes: a slice three times, or with its two neighbours as channels
    empty_slices: float = 0.2  # volumes: share of the slices without any structure that training keeps
    split: tuple[float, ...] = (
        0.6,
        0.15,
        0.25,
    )  # share of patients in train, val, test; test may be 0 with unseen sites
    split_seed: int = -1  # who is in which part, the same for all seeds of a study; -1: by the experiment's seed
    labels: Labels = "full"  # what training sees of the masks; validation and test see all
    label_kinds: dict[str, str] = field(default_factory=dict)  # site -> one of these, where sites label differently
    labelled: float = 1.0  # training images that keep labels: a share, or from 2 on a number at each site; by patient
    cache: str = ""  # folder of decoded images; empty: ~/.cache/sammit

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        kinds = list(get_args(Labels))
        for site, kind in self.label_kinds.items():
            if kind not in kinds:
                raise UserError(f"data.label_kinds.{site}: there is no kind '{kind}': {nearest(str(kind), kinds)}")
        whole = self.labelled >= 2 and float(self.labelled).is_integer()
        _need(0 < self.labelled <= 1 or whole, "data.labelled", "a share above 0 and at most 1, or a number from 2 on")
        _need(self.size >= 8, "data.size", "at least 8 pixels")
        _need(0.1 <= self.scale <= 64, "data.scale", "between 0.1 and 64")
        _need(self.longest == 0 or self.longest >= self.size, "data.longest", "0, or at least data.size")
        _need(0 <= self.overlap <= 0.9, "data.overlap", "between 0 and 0.9")
        _need(0 <= self.foreground <= 1, "data.foreground", "between 0 and 1")
        _need(0 <= self.empty_slices <= 1, "data.empty_slices", "between 0 and 1")
        _need(self.views >= 0, "data.views", "0 (fresh tiles) or more")
        _need(len(self.window) in (0, 2), "data.window", "two numbers, low and high")
        _need(not self.window or self.window[0] < self.window[1], "data.window", "low below high")
        _need(len(self.spacing) in (0, 3), "data.spacing", "three numbers, mm: slice, row, column")
        _need(all(side > 0 for side in self.spacing), "data.spacing", "three numbers above 0")
        _need(self.split_seed >= -1, "data.split_seed", "0 or more, or -1 for the experiment's seed")
        _need(len(self.split) == 3, "data.split", "three shares: train, val, test")
        _need(
            min(self.split[:2]) > 0 and self.split[2] >= 0,
            "data.split",
            "above 0 for train and val, not below for test",
        )
        _need(abs(sum(self.split) - 1) < 1e-6, "data.split", "three shares that sum to 1")
        try:
            groups = re.compile(self.patient).groups if self.patient else 1
        except re.error as error:
            raise UserError(f"data.patient: '{self.patient}' is no regular expression ({error}): mend it") from None
        _need(groups == 1, "data.patient", "a regular expression with exactly one group, such as '^(P[0-9]+)'")


@dataclass(frozen=True)
class ModelConfig:
    """`[model]`: the network, where its weights come from, and what is trained of it."""

    name: str = "sam-tiny"  # one of models.build.SIZES
    weights: str = "pretrained"  # "pretrained" | "random" | path of a .pth or .safetensors
    adapter: tuple[str, ...] = ()  # adapters in the encoder's blocks or the decoder, by module name
    train: str = "auto"  # "adapters", "decoder", "all", "last:K" (from the K-th last block on); auto: the method says
    output_stride: int = 0  # input pixels per logit pixel: 1, 2, 4, ...; 0: the model's default
    head: Literal["tokens", "mix"] = "tokens"  # a mask token for each structure, or FedFMS's 1x1 mix of four tokens
    normalise: bool = True  # SAM's pixel mean and deviation
    no_mask: bool = True  # add SAM's no-mask embedding to the image embedding
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # [model.options.ADAPTER]

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        _need(self.output_stride in (0, 1, 2, 4, 8, 16), "model.output_stride", "0, 1, 2, 4, 8 or 16")
        known = self.train in ("auto", "adapters", "decoder", "all") or self.train.startswith("last:")
        _need(known, "model.train", "'auto', 'adapters', 'decoder', 'all' or 'last:K', such as 'last:2'")


@dataclass(frozen=True)
class MethodConfig:
    """`[method]`: the method and its own options (each method's `Options` says which)."""

    name: str = "fedavg"  # one of `sammit list methods`
    options: dict[str, Any] = field(default_factory=dict)  # in a recipe: every other key of [method]
    aggregator: str = "naive"  # how updates are merged; its options are in [method.AGGREGATOR]


@dataclass(frozen=True)
class TrainingConfig:
    """`[training]`: the same at every site."""

    rounds: int = 10  # of orders to the sites and one mean of their answers
    local_steps: int = 0  # optimiser steps a site takes in a round; 0: local_epochs passes over its data
    local_epochs: float = 1.0  # passes over a site's training data in a round; a part of one is fine
    batch_size: int = 8  # tiles or images of an optimiser step
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"  # at the sites
    momentum: float = 0.9  # of sgd; 0: plain steps
    lr: float = 1e-3  # peak rate of decoder and encoder
    adapter_lr: float = 0.0  # peak rate of adapters; 0: lr
    weight_decay: float = 0.01  # apart from the gradient in adamw, added to it in the others
    schedule: Literal["cosine", "poly", "constant"] = "cosine"  # over all rounds' steps
    warmup: float = 0.05  # share of all steps with a linearly rising rate
    clip: float = 1.0  # largest norm of a step's gradient; 0: none
    optimiser_state: Literal["reset", "keep"] = "reset"  # a site's moments of the shared part, from round to round
    dice_weight: float = 0.8  # of the soft Dice in the loss
    bce_weight: float = 0.2  # of the cross-entropy, pixel by pixel
    pos_weight: float = 1.0  # weight of foreground pixels in the cross-entropy
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: of products and frozen weights; what trains and the loss: fp32
    checkpointing: bool = False  # the encoder's blocks are computed again in the backward pass: less memory, more time
    device: str = "cpu"  # or "cuda", "cuda:1"
    threads: int = 0  # 0: this machine's cores; the number is written to the run and kept on resume
    min_sites: int = 1  # a round with fewer answers stops the run
    prefix_cache: int | str = 0  # most that kept activations of frozen blocks may take, as "2GB"; 0: none are kept
    updates: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"  # in full, or rounded differences to what a site was sent
    top_k: float = 1.0  # share of each tensor's differences that a site sends, the largest; 1: all

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        _need(self.rounds >= 1, "training.rounds", "at least 1")
        _need(self.local_steps >= 0, "training.local_steps", "0 or more")
        _need(self.local_steps > 0 or self.local_epochs > 0, "training.local_epochs", "above 0")
        _need(self.batch_size >= 1, "training.batch_size", "at least 1")
        _need(0 <= self.momentum < 1, "training.momentum", "at least 0 and below 1")
        _need(self.lr > 0, "training.lr", "above 0")
        _need(self.adapter_lr >= 0, "training.adapter_lr", "0 or more")
        _need(0 <= self.warmup < 1, "training.warmup", "at least 0 and below 1")
        _need(self.clip >= 0 and self.weight_decay >= 0, "training.clip and weight_decay", "0 or more")
        _need(self.dice_weight >= 0 and self.bce_weight >= 0, "training.dice_weight and bce_weight", "0 or more")
        _need(self.dice_weight + self.bce_weight > 0, "training.dice_weight + bce_weight", "above 0")
        _need(self.pos_weight > 0, "training.pos_weight", "above 0")
        _need(self.threads >= 0, "training.threads", "0 (this machine's cores) or more")
        _need(self.min_sites >= 1, "training.min_sites", "at least 1")
        _need(self.prefix_bytes is not None, "training.prefix_cache", "0 or a size such as '500MB' or '2GB'")
        _need(0 < self.top_k <= 1, "training.top_k", "above 0 and at most 1")
        _need(self.top_k == 1 or self.updates != "fp32", "training.top_k", "1 for training.updates = 'fp32'")

    @property
    def prefix_bytes(self) -> int | None:
        """`prefix_cache` in bytes; None where it is no size."""
        size = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(B|kB|MB|GB|TB)?", str(self.prefix_cache))
        return int(float(size[1]) * _UNITS[size[2] or "B"]) if size else None


_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class EvaluationConfig:
    """`[evaluation]`: what is scored, when, and which round is reported."""

    protocol: Literal["standard", "fedfms"] = "standard"  # right, or FedFMS's own, for comparison with the paper only
    unseen: tuple[str, ...] = ()  # sites that take no part and are tested whole
    selection: Literal["best", "last"] = "best"  # best: highest mean validation Dice over the source sites
    every: int = 1  # rounds between validations, and after the last; 0: none, where the last round is reported
    scored: Literal["test", "val"] = "test"  # whom the final scores are of; val: a search that leaves test alone
    cross_site: bool = False  # simulated runs: each site's own model is scored at every other site too (Dice)
    tolerance: float = 2.0  # of the normalised surface Dice, in mm; in pixels where spacing is unknown

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        _need(self.every >= 0, "evaluation.every", "0 or more")
        _need(self.every > 0 or self.selection == "last", "evaluation.every", "at least 1 for selection = 'best'")
        _need(self.tolerance >= 0, "evaluation.tolerance", "0 or more")


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a result, the same for all sites."""

    name: str = "experiment"  # of the default run folder, runs/NAME-seed-N
    seed: int = 0  # keys every random draw
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def of_sites_in(self, root: Path) -> Experiment:
        """The same on another folder of sites."""
        return replace(self, data=replace(self.data, root=str(root)))

    def check(self) -> Experiment:
        """Itself, if every table's values can be right; raises UserError otherwise."""
        for part in (self.data, self.model, self.training, self.evaluation):
            part.check()
        tested = self.data.split[2] > 0 or bool(self.evaluation.unseen)
        _need(tested, "data.split", "above 0 for test, as no site is unseen (evaluation.unseen)")
        _need(
            not self.training.prefix_bytes or self.data.views > 0,
            "data.views",
            "1 or more for training.prefix_cache: only fixed tiles recur",
        )
        whole = self.data.view == "whole" or self.evaluation.protocol == "standard"
        _need(whole, "data.view", "'whole' for evaluation.protocol = 'fedfms'")
        return self


def _need(holds: bool, where: str, mend: str) -> None:
    if not holds:
        raise UserError(f"{where}: must be {mend}")
