"""What a structure is in the words of a DICOM segmentation: a category and a type, each a code of some scheme."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sammit.errors import UserError, nearest

_CODE = re.compile(r"(\S{1,16})\s+(\S{1,16})\s+(\S.{0,63})")


@dataclass(frozen=True)
class Code:
    """A code: the scheme it is of ("SCT" for SNOMED CT), its value, and what it means."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Property:
    """What a segment shows: a category ("Anatomical Structure") and a type ("Liver")."""

    category: Code
    kind: Code


TISSUE = Code("SCT", "85756007", "Tissue")
ANATOMY = Code("SCT", "91723000", "Anatomical Structure")
UNKNOWN = Property(TISSUE, TISSUE)  # says no more than is known; 3D Slicer's own default


def properties_of(table: Mapping[str, Any], structures: tuple[str, ...]) -> dict[str, Property]:
    """The property of each structure; `UNKNOWN` for those without a code.

    Args:
        table: structure -> "SCHEME VALUE MEANING", the type of an anatomical structure, or [category, type].
        structures: those there are.

    Raises:
        UserError: a code for a structure that there is not, or of another form.
    """
    for name in table:
        if name not in structures:
            raise UserError(f"data.codes: there is no structure '{name}': {nearest(name, list(structures))}")
    return {name: _property(name, table[name]) if name in table else UNKNOWN for name in structures}


def _property(name: str, said: Any) -> Property:
    texts = [said] if isinstance(said, str) else list(said) if isinstance(said, list | tuple) else []
    found = [match for text in texts if isinstance(text, str) and (match := _CODE.fullmatch(text.strip()))]
    if not 1 <= len(found) == len(texts) <= 2:
        raise UserError(
            f"data.codes: {said!r} for '{name}' is not understood; write \"SCT 10200004 Liver\" (scheme, value of at "
            "most 16 characters, meaning of at most 64), or a category and a type, each of this form"
        )
    codes = [Code(*match.groups()) for match in found]
    return Property(codes[0] if len(codes) == 2 else ANATOMY, codes[-1])
