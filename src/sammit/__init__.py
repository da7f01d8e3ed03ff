"""Sammit: federated fine-tuning of the Segment Anything Model for medical images.

    run = sammit.run("recipe.toml", data="sites", out="runs/first", tell=print)
    masks = sammit.load("runs/first").predict(image, site="north")

What is offered is imported when it is first asked for, so that `import sammit` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sammit import version

if TYPE_CHECKING:
    from sammit.api import Run, Score, UserError, check, load, phantom, run

__version__ = version.VERSION
__all__ = ["Run", "Score", "UserError", "check", "load", "phantom", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("sammit.api"), name)
    raise AttributeError(f"module 'sammit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
