"""A site's round of pFedSAM on a Segment Anything of a million parameters, in a late round and from noisy tensors."""

from __future__ import annotations

from typing import Any

from methods.conftest import Bench, Pictures, bench, noisy, picture
from sammit.methods.base import Outcome
from sammit.methods.state import take, with_prefix
from sammit.randomness import key_to_seed
from sammit.vocabulary import State

LATE = 5  # a round in which distillation has weight: kd_weight(0.5, 0.5)
HEAVY = {"kd_weight": 1e5}  # random models hardly differ; a heavy weight lifts the term over float32's steps
BLOCKS, WIDTH = 4, 96  # sam-tiny's


def pfedsam(options: dict[str, Any] | None = None, /, **model: Any) -> Bench:
    return bench("pfedsam", options, **model)


def after(
    b: Bench, site: Pictures | None = None, round_index: int = LATE, **given: Any
) -> tuple[State, State, Outcome]:
    """Shared and personal tensors after a site's round from noisy ones, so that no zero hides a term."""
    given.setdefault("shared", noisy(b.start))
    if "private" not in given:
        given["private"] = with_prefix("personal", noisy(take(b.model, b.personal), 1))
    work = b.work(site, round_index, **given)
    outcome = b.method.train(work)
    return *b.method.split(work), outcome


def first_batch(stage: str, round_index: int = LATE) -> Any:
    """What site "a" sees first in a stage."""
    return picture(2, key_to_seed(0, "a", round_index, stage, 0))
