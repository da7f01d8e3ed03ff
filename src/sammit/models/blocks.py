"""Which of the encoder's blocks: those that get an adapter, and those that train."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sammit.errors import UserError

CHOICES = ("all", "last_half", "every_other", "global", "last:K")
LAST = "last:"
ENTRANCE = ("vision_encoder.patch_embed.", "vision_encoder.pos_embed")
"""With what the names begin of all that comes before the first block."""


@dataclass(frozen=True)
class Place:
    """Where a block stands in the encoder.

    Attributes:
        index: 0 for the first.
        count: blocks of the encoder.
        windowed: whether its attention is within windows.
    """

    index: int
    count: int
    windowed: bool


def chosen(blocks: str, place: Place, where: str) -> bool:
    """Whether a block is one of `blocks`.

    Args:
        blocks: one of `CHOICES`, K a number of blocks; "every_other" is the second, the fourth and so on, "global"
            are those without windows.
        place: the block's.
        where: the setting that says `blocks`, for the message.

    Raises:
        UserError: there is no such choice.
    """
    if blocks.startswith(LAST):
        return place.index >= first_of_last(blocks, place.count, where)
    rules = {
        "all": True,
        "last_half": 2 * place.index >= place.count,
        "every_other": place.index % 2 == 1,
        "global": not place.windowed,
    }
    if blocks not in rules:
        raise UserError(f"{where}: '{blocks}' is none of {', '.join(CHOICES)}; choose one, such as 'last:2'")
    return rules[blocks]


def first_of_last(text: str, count: int, where: str) -> int:
    """The index of the first of the last K blocks, from "last:K".

    Raises:
        UserError: K is no number from 1 to `count`.
    """
    number = re.fullmatch(f"{LAST}([0-9]+)", text)
    if not number or not 1 <= int(number[1]) <= count:
        raise UserError(f"{where}: '{text}' must be 'last:K', K from 1 to {count}, the encoder's blocks")
    return count - int(number[1])
