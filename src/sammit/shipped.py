"""The recipes and studies that come with Sammit: in the package where it was built, in the checkout otherwise."""

from __future__ import annotations

from pathlib import Path

from sammit.errors import UserError
from sammit.files import write_atomically

FOLDERS = ("recipes", "studies")


def shipped() -> dict[str, Path]:
    """Every file that comes along, by its path as the documentation writes it ("recipes/pfedsam-nuclei.toml")."""
    package = Path(__file__).parent
    base = package if (package / FOLDERS[0]).is_dir() else package.parents[1]
    return {f"{folder}/{path.name}": path for folder in FOLDERS for path in sorted((base / folder).glob("*.*"))}


def write_shipped(out: Path) -> list[Path]:
    """Put the recipes and studies into a folder; what is there already and the same stays.

    Raises:
        UserError: a file of that name is there and says something else.
    """
    files = {out / name: path.read_bytes() for name, path in shipped().items()}
    for target, content in files.items():
        if target.exists() and (not target.is_file() or target.read_bytes() != content):
            raise UserError(f"{target}: is there already and differs; move it away, or choose another folder")
    for target, content in files.items():
        write_atomically(target, content)
    return list(files)
