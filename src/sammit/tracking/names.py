"""Names of numbers as every tracker takes them."""

from __future__ import annotations

import re


def allowed(name: str) -> str:
    """Letters, digits, "_-. /" stay; anything else of a site's name becomes "_", so that no number is refused."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


def of_site(name: str) -> str:
    """A site as a part of a name: a slash in it would open a group, dots alone would be a way up."""
    name = allowed(name.replace("/", "_"))
    return "_" if not name.strip(". ") else name
