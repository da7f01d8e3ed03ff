"""A template and its values as one HTML page. Every text is escaped; markup made by this package is marked so.

A page's script stands in the page, and the page's policy lets the browser run that one text and nothing else: it names
the script's hash. Nor may the page load anything, or send a form.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from sammit.reporting import wording
from sammit.reporting.panels import swatch

SCRIPT = ("elements", "tables", "zoom", "scatter", "pairs", "printing")
"""The files that make up the script, in the order in which they need each other."""


def render(template: str, **values: Any) -> str:
    """The page of a template in this folder.

    Args:
        template: file name.
        values: by name; HTML and SVG among them go through the template's filter `trusted`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    # For markup that this package made itself, with every name in it escaped.
    environment.filters["trusted"] = Markup
    script = "".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPT)
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        wording=wording, swatch=swatch, script=script, script_hash=script_hash, **values
    )
