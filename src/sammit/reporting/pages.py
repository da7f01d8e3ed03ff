"""A template and its values as one HTML page. Every text is escaped; markup made by this package is marked so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sammit.reporting import wording
from sammit.reporting.panels import swatch


def render(template: str, **values: Any) -> str:
    """The page of a template in this folder.

    Args:
        template: file name.
        values: by name; HTML and SVG among them go through the template's filter `trusted`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    # For markup that this package made itself, with every name in it escaped.
    environment.filters["trusted"] = Markup
    return environment.get_template(template).render(wording=wording, swatch=swatch, **values)
