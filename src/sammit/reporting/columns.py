"""Tables in CSV that a person may have touched: the rows by column, or one line that says what to mend."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from sammit.errors import UserError


def open_table(path: Path, needed: Sequence[str], known: Sequence[str]) -> csv.DictReader[str]:
    """The rows of a CSV file, by column.

    Args:
        path: the file.
        needed: columns that it must have.
        known: all columns that it may have, for the message.

    Raises:
        UserError: no such file, no text, or a needed column that is missing.
    """
    try:
        table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; write it again, as CSV") from None
    missing = [name for name in needed if name not in (table.fieldnames or [])]
    if missing:
        raise UserError(f"{path}: column '{missing[0]}' is missing; the columns are {', '.join(known)}")
    return table
