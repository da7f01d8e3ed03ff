"""Clip and noise: what an update may tell of a site's images is bounded and counted before the update leaves.

    d = w_k - w                                 w as in the order, w_k after training: all shared tensors as one vector
    sent: w + d min(1, C / |d|) + z C n         n ~ N(0, 1) for every number

The Gaussian mechanism on a site's whole contribution to a round (Geyer et al. 2017, 1712.07557; McMahan et al. 2018,
1710.06963), added by the site, so that the server need not be trusted; `accountant` says what that is worth. What the
site keeps is as it was trained.

With it nothing else that depends on the images leaves: of an update's numbers the steps alone, no scores, and no method
that sends more than weights. What is not covered: how many images the site trains on, which travels; whether and when
it answers, a failure and its reason among that; other runs on the same images, each of which is counted by itself.

The numbers n are made of the operating system's secret bits alone, never of the experiment's seed: a round that is
repeated draws anew and is counted anew. They are exact to float64; its last bits are not defended (Mironov 2012).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from secrets import token_bytes
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sammit.errors import TellableError, UserError
from sammit.federation.accountant import epsilon
from sammit.federation.premises import NoiseSettings
from sammit.files import write_atomically
from sammit.methods.base import Method
from sammit.methods.state import distance
from sammit.vocabulary import State, Update

REPORTED = ("steps",)
"""The numbers of an update that follow from the recipe and the number of images alone."""

Draw = Callable[[int], bytes]
"""So many random bytes."""


class SiteNoise:
    """One site's noise in one run, and the count of what it has sent, which outlives the process."""

    def __init__(self, settings: NoiseSettings, ledger: Path, draw: Draw = token_bytes) -> None:
        """
        Args:
            settings: with the noise on.
            ledger: the file of the count, in the site's own folder of the run.
            draw: where the noise comes from.
        """
        self.settings, self.ledger, self._draw = settings, ledger, draw

    def admit(self, accepted: int) -> None:
        """Look before a round is trained whether its update may leave.

        Args:
            accepted: the last round of which the server has this site's update; -1: of none.

        Raises:
            TellableError: the run would learn more than the site allows, or has had an update without noise.
        """
        sent = self._sent()
        if accepted >= 0 and accepted not in [line["round"] for line in sent]:
            raise TellableError("adds noise now, and this run has updates of it without; start the run anew")
        multipliers = [*(line["multiplier"] for line in sent), self.settings.multiplier]
        largest = self.settings.largest_epsilon
        if largest and epsilon(multipliers, self.settings.delta) > largest:
            raise TellableError("has told this run all that it tells one of its images; go on without the site")

    def applied(self, update: Update, base: Mapping[str, Tensor]) -> Update:
        """The update as it may leave, which is counted first; names, shapes and types are as they were.

        Args:
            update: as trained, every number finite.
            base: what each of its tensors was in the order.
        """
        quiet = {name: value for name, value in update.metrics.items() if name in REPORTED}
        if not update.tensors:
            return replace(update, metrics=quiet)
        self._count(update.round)
        tensors = noised(update.tensors, base, self.settings.clip, self.settings.multiplier, self._draw)
        return replace(update, tensors=tensors, metrics=quiet)

    def spent(self) -> dict[str, Any]:
        """What has left so far: how many noised updates, and what they tell together."""
        sent, delta = self._sent(), self.settings.delta
        told = epsilon([line["multiplier"] for line in sent], delta)
        return {"noised": len(sent), "epsilon": round(told, 4), "delta": delta}

    def _count(self, round_index: int) -> None:
        """Add a line; it is on the disk when this returns."""
        line = {"round": round_index, "clip": self.settings.clip, "multiplier": self.settings.multiplier}
        write_atomically(self.ledger, json.dumps([*self._sent(), line], indent=1) + "\n")

    def _sent(self) -> list[dict[str, Any]]:
        if not self.ledger.exists():
            return []
        try:
            sent = json.loads(self.ledger.read_text(encoding="utf-8"))
            if not all(line["multiplier"] > 0 and type(line["round"]) is int for line in sent):
                raise ValueError("no round, or no multiplier above 0")
            return list(sent)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{self.ledger}: is damaged ({error}); without the count nothing may leave") from None


def check_covered(name: str, method: Method) -> None:
    """Raise TellableError where a method sends of the images what no noise covers.

    Args:
        name, method: what is to be run.
    """
    for declared in (*method.surveyed, *method.extras_up):
        raise TellableError(
            f"adds noise to its weights, and {name} sends '{declared.name}' ({declared.purpose}) beside them, "
            "which no noise covers: choose another method, or leave the site out"
        )


def noised(
    tensors: Mapping[str, Tensor], base: Mapping[str, Tensor], clip: float, multiplier: float, draw: Draw
) -> State:
    """w + d min(1, C / |d|) + z C n in the tensors' own types; computed in float64, a tensor at a time.

    Args:
        tensors, base: w_k and w, by name.
        clip, multiplier: C and z.
        draw: random bytes, eight for each number.
    """
    norm = distance(tensors, base)
    share = min(1.0, clip / norm) if norm else 1.0
    found: State = {}
    for name, tensor in tensors.items():
        start = base[name].double()
        noise = normal(tensor.numel(), draw).reshape(tensor.shape)
        change = (tensor.double() - start).mul_(share).add_(noise, alpha=multiplier * clip)
        found[name] = change.add_(start).to(tensor.dtype)
    return found


def normal(count: int, draw: Draw) -> Tensor:
    """(count,) float64, standard normal: the inverse of its distribution at the middles of 2^52 equal steps."""
    from scipy.special import ndtri

    steps = np.frombuffer(draw(8 * count), "<u8") >> 12
    return torch.from_numpy(ndtri((steps + 0.5) * 2.0**-52))
