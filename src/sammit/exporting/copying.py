"""The files that go into exports as they are."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from sammit.files import write_atomically

STANDALONE = Path(__file__).parent / "standalone"


def copy_scripts(out: Path, **names: str) -> None:
    """Copy scripts of `standalone`, each under the name it has there, into `out`.

    Args:
        out: the folder.
        names: script (without its suffix) -> name it gets in `out`.
    """
    for script, name in names.items():
        write_atomically(out / name, (STANDALONE / f"{script}.py").read_bytes())


def licence() -> str:
    """The text of Sammit's licence, as it was installed."""
    return distribution("sammit").read_text("licenses/LICENSE") or "Apache-2.0\n"
