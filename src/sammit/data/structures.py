"""What a structure is: a rule on a mask's labels. Structures may overlap, so each is a map of its own.

A truth whose labels may overlap comes in *pieces* (`Piece`), each with its number: the segments of a DICOM SEG, the
regions of an RT structure set, the channels of an array, or a file for each structure. A rule picks pieces by number as
it picks labels.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_RULE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(-?[0-9]+)\s*")
_SEGMENT = re.compile(r"\s*segment\s+(\S.*?)\s*")
DEFAULT: dict[str, Any] = {"foreground": "> 0"}


@dataclass(frozen=True)
class Structure:
    """A structure's name and its rule: a comparison with a number, or a set of labels.

    Attributes:
        name: as scores and files call it.
        compare: ">", ">=", "<", "<=", "==", "!=", or "in".
        values: the labels compared with; one, but for "in".
        segments: labels of DICOM segments or regions that belong to it too, in lower case; only with "in".
    """

    name: str
    compare: str
    values: tuple[int, ...]
    segments: tuple[str, ...] = ()

    def of(self, labels: np.ndarray) -> np.ndarray:
        """(D, H, W) int labels -> (D, H, W) bool."""
        import numpy as np

        if self.compare == "in":
            return np.isin(labels, self.values)
        result: np.ndarray = _COMPARE[self.compare](labels, self.values[0])
        return result

    def picks(self, piece: Piece) -> bool:
        """Whether a piece of a truth belongs to the structure, by its number or its name."""
        if self.compare == "in":
            return piece.number in self.values or piece.name.strip().lower() in self.segments
        return bool(_COMPARE[self.compare](piece.number, self.values[0]))


@dataclass(frozen=True)
class Piece:
    """One piece of a truth that comes in pieces, see above.

    Attributes:
        number: a DICOM segment's or region's own; channels and files count from 1.
        name: the label of a DICOM segment, the name of a structure set's region, else "".
        draw: gives its mask, (D, H, W) bool; what nobody asks for is neither decoded nor drawn.
    """

    number: int
    name: str
    draw: Callable[[], np.ndarray]


def numbered(count: int) -> dict[str, Any]:
    """The rules of `count` pieces that nobody named: {} for one (`foreground`), else structure1, structure2, ..."""
    return {f"structure{number}": number for number in range(1, count + 1)} if count > 1 else {}


def structures_of(table: Mapping[str, Any]) -> tuple[Structure, ...]:
    """The structures of a table such as {nucleus = "> 0", cup = 2, disc = [1, 2]}, in its order.

    "segment LABEL" is the segment of that label in a DICOM SEG, or the region of that name in an RT structure set. An
    empty table means one structure, `foreground`, where the mask is above 0.

    Raises:
        UserError: a rule of another form.
    """
    return tuple(_structure(name, rule) for name, rule in (table or DEFAULT).items())


def _structure(name: str, rule: Any) -> Structure:
    if isinstance(rule, str) and (match := _RULE.fullmatch(rule)):
        return Structure(name, match[1], (int(match[2]),))
    rules = list(rule) if isinstance(rule, list | tuple) else [rule]
    labels = [item for item in rules if isinstance(item, int) and not isinstance(item, bool)]
    named = [match[1].lower() for item in rules if isinstance(item, str) and (match := _SEGMENT.fullmatch(item))]
    if rules and len(labels) + len(named) == len(rules):
        return Structure(name, "in", tuple(labels), tuple(named))
    raise UserError(
        f'structure \'{name}\': the rule {rule!r} is not understood; write "> 0", 2, [1, 2] or "segment LABEL"'
    )
