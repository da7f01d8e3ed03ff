"""FLAP-SAM: low-rank factors and the decoder's output layers travel; the rest of the decoder stays as it was.

    trained and averaged = low-rank factors + upscaling and hypernetworks of the mask decoder

Asokan et al., 2407.21739: on small data, tuning the whole decoder distorts what Segment Anything knows, and low-rank
factors with a frozen decoder learn too little. In the style of the paper, which was not at hand in full: its figure
marks the decoder's transposed convolutions and hypernetworks and summaries call them its output layers, so that these
are trained here; its tokens and its transformer keep their published values. The paper has low-rank factors in the
decoder's attention too: add "decoder_lora" to `model.adapter` for them. What Sammit adds to Segment Anything (`detail`,
`mixer`) has no published values and is always trained. `decoder` gives the paper's other rows of comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sammit.methods import base
from sammit.methods.heads import in_body
from sammit.vocabulary import is_adapter

PAPER = "Asokan et al. 2024 (2407.21739), in its style"
TRAVELS = "low-rank factors, the mask decoder's upscaling and hypernetworks"
STAYS = "nothing but the optimiser's moments, where they are kept"

OUTPUT = ("upscale_conv1", "upscale_conv2", "upscale_layer_norm", "output_hypernetworks_mlps")


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of flap_sam."""

    decoder: Literal["output", "full", "frozen"] = "output"  # what of Segment Anything's decoder is trained


class Method(base.Method):
    """Federated averaging of fewer tensors."""

    adapters: ClassVar[tuple[str, ...]] = ("lora",)
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())

    def trains(self, name: str) -> bool:
        """Adapters, the chosen part of the decoder, and what Segment Anything never had."""
        if in_body(name) or is_adapter(name):
            return is_adapter(name)
        part, _, rest = name.partition(".")
        if part != "mask_decoder" or self.options.decoder == "full":
            return True
        return self.options.decoder == "output" and rest.partition(".")[0] in OUTPUT

    def notes(self) -> tuple[str, ...]:
        """That which layers are trained was read off a figure."""
        return ("This FLAP-SAM is in the style of the paper: which layers of the decoder it trains is our reading.",)
