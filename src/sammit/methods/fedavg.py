"""Federated averaging: what is trained is shared and averaged by the number of training samples.

    w^{t+1} = sum_k p_k w_k^{t+1},     p_k = n_k / n,     w_k^{t+1} = local training from w^t

McMahan et al., 1602.05629. FedSAM (train everything), FedMSA (bottleneck adapters and decoder) and FedU-Net of FedFMS
are recipes on it. `weights = "fedfms"` rounds p_k as FedFMS's code does: two decimals, the last site takes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sammit.methods import base
from sammit.methods.base import Server
from sammit.vocabulary import Update

PAPER = "McMahan et al. 2017 (1602.05629); FedFMS 2024 (2403.05408) for FedSAM and FedMSA"
TRAVELS = "every trained tensor"
STAYS = "nothing but the optimiser's moments, where they are kept"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fedavg."""

    weights: Literal["samples", "fedfms"] = "samples"  # of the sites in the mean; fedfms: rounded to two decimals


class Method(base.Method):
    """Every hook is the default, but for FedFMS's weights."""

    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())

    @property
    def all_at_once(self) -> bool:  # type: ignore[override]
        """Rounded weights take every site's number of samples first."""
        return self.options.weights == "fedfms"

    def weigh(self, server: Server, updates: Iterable[Update]) -> Iterable[tuple[Mapping[str, Tensor], float]]:
        """By samples as they arrive; FedFMS's weights need every site's number of samples first."""
        if self.options.weights == "samples":
            return super().weigh(server, updates)
        all_updates = list(updates)
        percents = rounded_percents([update.samples for update in all_updates])
        return zip((update.tensors for update in all_updates), percents, strict=True)


def rounded_percents(samples: Sequence[int]) -> list[int]:
    """FedFMS's weights in hundredths: n_k / n to two decimals, the last site takes what is left of one.

    A site of under half a percent of all samples is lost, as in their code.
    """
    total = sum(samples)
    percents = [round(100 * count / total) for count in samples[:-1]]
    return [*percents, 100 - sum(percents)] if samples else []
