"""The words of Sammit: what a case, a batch, an order and an update are.

Shape letters used in every docstring:

    B  images in a batch            C  structures (one sigmoid each; they may overlap)
    D  slices of a volume           H, W  height and width in pixels, in that order
    N  tokens (h * w of the grid)   E  experts of a mixture        R  rank of a low-rank factor
    K  sites in a round             T  optimiser steps

A 2-D image is a volume of one slice (D = 1). Spacing is always (slice, row, column), in mm. Images are float32 in
[0, 1] wherever a model sees them. A *name* of a tensor is its whole dotted name in the model's state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

State = dict[str, "Tensor"]
"""AnyState by their whole dotted name."""

AnyState = Mapping[str, "Tensor"]
"""The same, to be read only: a `State`, or a file that gives each tensor as it is asked for."""

Part = Literal["train", "val", "test"]
"""The three parts of a site's patients."""


@dataclass(frozen=True)
class Case:
    """One image or volume of a site with its truth.

    Attributes:
        site: name of the site it belongs to.
        name: unique within the site; the image's stem unless the layout says otherwise.
        patient: cases of one patient never fall into two parts.
        image: one file for each channel group (nnU-Net has a file a modality), at least one.
        masks: files that hold the truth; empty when there is none (prediction).
        volume: True for a 3-D volume, False for a 2-D image.
    """

    site: str
    name: str
    patient: str
    image: tuple[Path, ...]
    masks: tuple[Path, ...] = ()
    volume: bool = False


@dataclass(frozen=True)
class Loaded:
    """A case in memory, in its native geometry.

    Attributes:
        case: what was loaded.
        image: (D, H, W, 3) uint8 or uint16, full range; divide by the type's maximum for [0, 1].
        truth: (D, H, W, C) bool.
        valid: (D, H, W) bool, False where a pixel is unlabelled; None when all are labelled.
        spacing: (slice, row, column) in mm, or None where the format gives none.
    """

    case: Case
    image: np.ndarray
    truth: np.ndarray
    valid: np.ndarray | None = None
    spacing: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Batch:
    """What one optimiser step sees.

    Attributes:
        images: (B, 3, H, W) float32 in [0, 1].
        truth: (B, C, H, W) float32, 0 or 1.
        valid: (B, 1, H, W) float32, 1 where the pixel is labelled, 0 where the loss must not look.
        prefix: (B, ...) what the frozen first part of the model makes of exactly these images, where it is kept.
    """

    images: Tensor
    truth: Tensor
    valid: Tensor
    prefix: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a model is given: `model(*batch.inputs)`. Where images are changed first, `model(changed)` is right."""
        return (self.images,) if self.prefix is None else (self.images, self.prefix)

    def to(self, device: str) -> Batch:
        """The same batch on another device."""
        prefix = None if self.prefix is None else self.prefix.to(device)
        return Batch(self.images.to(device), self.truth.to(device), self.valid.to(device), prefix)


class SiteData(Protocol):
    """What a site's side may ask of its data. Made by `sammit.data`, used by `learning` and `federation`."""

    name: str
    structures: tuple[str, ...]

    def cases(self, part: Part) -> list[Case]:
        """The cases of a part, in a fixed order."""
        ...

    def samples(self, part: Part) -> int:
        """Images, or slices of volumes, in a part: the n_k of federated averaging."""
        ...

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        """`steps` training batches, a pure function of `key`."""
        ...

    def load(self, case: Case) -> Loaded:
        """One case in native geometry, for scoring."""
        ...


@dataclass(frozen=True)
class Declared:
    """One thing beside the model's tensors that a method puts into an Order or an Update.

    Attributes:
        name: its name; a trailing "." declares a family with this prefix, one tensor for each shared name.
        shape: exact shape, -1 for a side that follows from the recipe or the data; None when it equals that of the
            tensor it belongs to (families only).
        dtype: "float32" | "float64" | "int64".
        purpose: one line a hospital's engineer can read.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    purpose: str


OrderKind = Literal["train", "evaluate", "keep", "finish", "score"]


@dataclass(frozen=True)
class Order:
    """What the server asks of one site.

    Attributes:
        kind: "train" a round; "evaluate" score models on `part`; "keep" the committed private state as the best so
            far; "finish" the last local stage, if the method has one; "score" the models that the run leaves, on
            `part`, every score, rows and pictures kept at the site.
        site, round: whom, and which round (0-based).
        tensors: the shared tensors, by name.
        extras: declared extras.
        fingerprint: SHA-256 of `tensors`; the site stages its private state under it.
        accepted: the round whose update of this site the server last took, or -1; the site commits the private
            state it staged for that round and no other.
        origin: the fingerprint of the order that asked for that update; it must be the one the site staged under.
        part: which part of the site's cases to score ("evaluate" and "score" only).
    """

    kind: OrderKind
    site: str
    round: int
    tensors: AnyState
    extras: State = field(default_factory=dict)
    fingerprint: str = ""
    accepted: int = -1
    origin: str = ""
    part: Part = "val"


@dataclass(frozen=True)
class Update:
    """What one site sends back: named tensors, declared extras, and numbers about them.

    At the server the tensors may lie on disk, each read when it is asked for: whoever keeps some takes them out.

    Attributes:
        site, round: who, and for which round.
        tensors: the shared tensors after local training, by name; nothing that is not shared.
        extras: what the method declared, nothing else.
        samples: n_k, the weight of the site in the average.
        metrics: the numbers that the method declares ("loss", "steps", ...) for the log; scalars only.
    """

    site: str
    round: int
    tensors: Mapping[str, Tensor]
    extras: Mapping[str, Tensor]
    samples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class SmallUpdate:
    """An Update on its way in fewer bytes (`federation/small.py`); all but `tensors` is as there.

    Attributes:
        tensors: one of bytes, which holds the rounded differences to the order's tensors, by name.
    """

    site: str
    round: int
    tensors: Mapping[str, Tensor]
    extras: Mapping[str, Tensor]
    samples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Judgement:
    """What a site tells of its scores: means over its cases, never a case.

    Attributes:
        site, round, part: who, when, on which of its cases.
        dice: mean Dice over the part's cases and structures for each judged model ("global", "personal"); empty where
            the site withholds it.
        entry: the site's entry in `summary.json`, of the final scores across hospitals; empty where there is none.
    """

    site: str
    round: int
    part: Part
    dice: Mapping[str, float]
    entry: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Invitation:
    """Asks a site elsewhere whether and with what it takes part; then, all surveys known, to build the model.

    Attributes:
        site: whom.
        run: names the run; a site keeps its private state under it.
        experiment: the recipe's tables; once `planned`, those that the method's plan made of all surveys.
        planned: False asks for a Survey, True for a Ready.
        trains: whether the site trains, or is only scored.
        round: -1, before the first.
    """

    site: str
    run: str
    experiment: Mapping[str, Any]
    planned: bool = False
    trains: bool = True
    round: int = -1


Message = Order | Invitation
"""What a server sends."""


@dataclass(frozen=True)
class Survey:
    """A site takes part.

    Attributes:
        site, round: who; -1.
        structures: what its truth names, in the order of every C.
        samples: how many images or slices it trains on, its weight in the mean; 0 where it does not train.
        tensors: what the method declares in `surveyed`, nothing else.
    """

    site: str
    round: int
    structures: Sequence[str]
    samples: int
    tensors: State


@dataclass(frozen=True)
class Ready:
    """A site has built the model.

    Attributes:
        site, round: who; -1.
        base: the hash of its base weights, which must be the server's.
        version: Sammit's at the site.
    """

    site: str
    round: int
    base: str
    version: str


@dataclass(frozen=True)
class Done:
    """A site has carried out an order that asks for no answer."""

    site: str
    round: int


@dataclass(frozen=True)
class Failure:
    """A site that could not answer an order; the round may go on without it."""

    site: str
    round: int
    reason: str


Reply = Update | SmallUpdate | Judgement | Survey | Ready | Done | Failure
"""What may come back for an order or an invitation."""


def is_adapter(name: str) -> bool:
    """Whether a tensor's name is an adapter's: one of its dotted components is "adapters"."""
    return "adapters" in name.split(".")
