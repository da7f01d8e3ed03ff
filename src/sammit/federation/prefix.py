"""The prefix cache: what the encoder's frozen first blocks make of a training tile is computed once and kept.

    logits = f_late(f_early(x)),     f_early: patches, positions and the first `cut` blocks, the same for a whole run

The cut is found, not set: it lies before the first block with a tensor that may change or with an adapter, which a
method may switch on and off. A kept array is named by all that decides it: the hash of f_early's tensors, how it is
computed here, and the hash of the tile's own pixels, in which image, preprocessing and view are contained. So what
changes is computed anew, and nothing is ever stale.

A tile is passed through f_early alone, so that it makes no difference to a run what was kept before it began.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sammit.config import Experiment
from sammit.data.cache import default_folder
from sammit.errors import UserError
from sammit.federation.prefix_store import DIGEST, PrefixStore
from sammit.models.cut import cut_before, prefix_hash
from sammit.vocabulary import Batch, Case, Loaded, Part, SiteData

if TYPE_CHECKING:
    from sammit.models.sam import PromptFreeSam

VERSION = 1
OFF = "or set training.prefix_cache = 0"


class PrefixCache:
    """The kept prefixes of one model.

    Attributes:
        model: its encoder is cut where nothing before may change.
        store: the files.
        tiles: how many different ones a run asks for; 0 until `expect`.
    """

    def __init__(self, experiment: Experiment, model: PromptFreeSam, changing: Collection[str]) -> None:
        """
        Args:
            experiment: effective.
            model: on its device; all tensors but those in `changing` stay as they are.
            changing: names of what is trained or sent.

        Raises:
            UserError: something may change in front of everything that could be kept.
        """
        self.model, self.training = model, experiment.training
        self.side = experiment.data.size
        self.views = experiment.data.views
        model.vision_encoder.cut = cut_before(model, changing)
        folder = Path(experiment.data.cache) if experiment.data.cache else default_folder()
        self.store = PrefixStore(folder / "prefix", experiment.training.prefix_bytes or 0)
        self.tiles = 0

    @property
    def tile_bytes(self) -> int:
        """Bytes on disk of one tile's prefix."""
        return 2 * prod(self._shape(self.side, self.side)) + DIGEST

    @property
    def needed(self) -> int:
        """Bytes that all tiles of the run take."""
        return self.tiles * self.tile_bytes

    def expect(self, sites: Sequence[SiteData]) -> None:
        """Count the tiles of the sites that train.

        Raises:
            UserError: the bound is too small for them.
        """
        self.tiles = self.views * sum(site.samples("train") for site in sites)
        limit = self.store.limit
        if self.needed > limit:
            raise UserError(
                f"training.prefix_cache: {self.tiles:,} tiles need {_size(self.needed)}, more than {_size(limit)}; "
                f"raise it, lower data.views, {OFF}"
            )

    def announcement(self) -> str:
        """What will be kept, where, and how much of the disk it takes."""
        encoder, store = self.model.vision_encoder, self.store
        return (
            f"{encoder.cut} of {len(encoder.blocks)} blocks computed once for {self.tiles:,} tiles "
            f"({self.views} of each image): {_size(self.needed)} of at most {_size(store.limit)} in {store.folder}"
        )

    def note(self) -> str:
        """The sentence for a reader of the run's scores."""
        encoder = self.model.vision_encoder
        return (
            f"Training used kept activations of the first {encoder.cut} of {len(encoder.blocks)} blocks, in half "
            f"precision, of {self.views} fixed tiles of each image; scores are the whole model's."
        )

    def with_prefix(self, batch: Batch) -> Batch:
        """The batch with what the frozen blocks make of its images, in half precision on the CPU.

        Raises:
            UserError: half precision cannot hold it.
        """
        return replace(batch, prefix=torch.stack([self._of(image) for image in batch.images]))

    def blank(self, batch: Batch) -> Batch:
        """The batch with zeros in the prefix's place, for measuring a step."""
        shape = (len(batch.images), *self._shape(self.side, self.side))
        return replace(batch, prefix=torch.zeros(shape, dtype=torch.float16))

    def _shape(self, height: int, width: int) -> tuple[int, ...]:
        """Of the prefix of an image of (H, W)."""
        return self.model.vision_encoder.prefix_shape(height, width)

    def _of(self, image: Tensor) -> Tensor:
        """(3, H, W) -> its prefix, kept or computed."""
        name = sha256(self._identity.encode() + image.contiguous().numpy().tobytes()).hexdigest()[:40]
        kept = self.store.get(name, self._shape(*image.shape[1:]))
        if kept is None:
            kept = self._computed(image)
            self.store.put(name, kept)
        return kept

    @torch.no_grad()
    def _computed(self, image: Tensor) -> Tensor:
        """(3, H, W) -> its prefix as the training step would compute it, rounded."""
        device = self.training.device
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.training.precision == "bf16"):
            tokens = self.model.prefix(image.unsqueeze(0).to(device))[0].half().cpu()
        if not torch.isfinite(tokens).all():
            raise UserError("training.prefix_cache: activations exceed half precision; set training.prefix_cache = 0")
        return tokens

    @cached_property
    def _identity(self) -> str:
        """All that decides a prefix beside the pixels: the tensors, and what rounds sums in one way or another."""
        device = torch.device(self.training.device)
        chip = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        how = (VERSION, self.training.precision, torch.__version__, chip, torch.get_num_threads())
        return f"{how} {prefix_hash(self.model)}\n"


class PrefixedSite:
    """A site whose training batches carry their prefix; fulfils `vocabulary.SiteData`."""

    def __init__(self, site: SiteData, cache: PrefixCache) -> None:
        self.site, self.cache = site, cache
        self.name, self.structures = site.name, site.structures

    def cases(self, part: Part) -> list[Case]:
        """The site's own."""
        return self.site.cases(part)

    def samples(self, part: Part) -> int:
        """The site's own."""
        return self.site.samples(part)

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        """The site's own, with their prefixes."""
        return map(self.cache.with_prefix, self.site.batches(steps, batch_size, key))

    def load(self, case: Case) -> Loaded:
        """The site's own."""
        return self.site.load(case)


def prefix_cache(
    experiment: Experiment, model: Any, changing: Collection[str], sites: Sequence[SiteData]
) -> PrefixCache | None:
    """The cache that a recipe asks for; None where it asks for none.

    Raises:
        UserError: the model has no prefix, something before every cut may change, or the bound is too small.
    """
    if not experiment.training.prefix_bytes:
        return None
    if not hasattr(model, "prefix"):
        raise UserError(f"training.prefix_cache: {experiment.model.name} has no frozen blocks to keep; set it to 0")
    cache = PrefixCache(experiment, model, changing)
    cache.expect(sites)
    return cache


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
