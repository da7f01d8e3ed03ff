"""What a structure is: a rule on a mask's labels. Structures may overlap, so each is a map of its own."""

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
DEFAULT: dict[str, Any] = {"foreground": "> 0"}


@dataclass(frozen=True)
class Structure:
    """A structure's name and its rule: a comparison with a number, or a set of labels.

    Attributes:
        name: as scores and files call it.
        compare: ">", ">=", "<", "<=", "==", "!=", or "in".
        values: the labels compared with; one, but for "in".
    """

    name: str
    compare: str
    values: tuple[int, ...]

    def of(self, labels: np.ndarray) -> np.ndarray:
        """(D, H, W) int labels -> (D, H, W) bool."""
        import numpy as np

        if self.compare == "in":
            return np.isin(labels, self.values)
        result: np.ndarray = _COMPARE[self.compare](labels, self.values[0])
        return result


def structures_of(table: Mapping[str, Any]) -> tuple[Structure, ...]:
    """The structures of a table such as {nucleus = "> 0", cup = 2, disc = [1, 2]}, in its order.

    An empty table means one structure, `foreground`, where the mask is above 0.

    Raises:
        UserError: a rule of another form.
    """
    return tuple(_structure(name, rule) for name, rule in (table or DEFAULT).items())


def _structure(name: str, rule: Any) -> Structure:
    if isinstance(rule, str) and (match := _RULE.fullmatch(rule)):
        return Structure(name, match[1], (int(match[2]),))
    labels = rule if isinstance(rule, list | tuple) else [rule]
    if labels and all(isinstance(label, int) and not isinstance(label, bool) for label in labels):
        return Structure(name, "in", tuple(labels))
    raise UserError(f"structure '{name}': the rule {rule!r} is not understood; write \"> 0\", 2 or [1, 2]")
