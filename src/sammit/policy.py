"""What a site agrees to: `site.toml` in its own folder, which never leaves it.

The *experiment* travels and is the same for all; a policy is the site's answer to it and can only take away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sammit.errors import UserError
from sammit.toml import build, read_toml

POLICY_FILE = "site.toml"


@dataclass(frozen=True)
class SitePolicy:
    """`site.toml` in a site's own folder: what the site agrees to. It stays there; without one a site agrees to all."""

    methods: tuple[str, ...] = ()  # the only ones that the site takes part in; empty: any
    refuse: tuple[str, ...] = ()  # what it neither sends nor is sent beside weights: names, or families "NAME."

    def refuses(self, declared: str) -> bool:
        """Whether a declared name, or a member of a declared family ("NAME."), is among what is refused."""
        return any(
            declared == name
            or (name.endswith(".") and declared.startswith(name))
            or (declared.endswith(".") and name.startswith(declared))
            for name in self.refuse
        )


def load_policy(folder: Path) -> SitePolicy:
    """What the `site.toml` in a site's folder says; raises UserError with the file's name where it cannot be read."""
    path = folder / POLICY_FILE
    if not path.exists() and not path.is_symlink():  # a link that leads nowhere is no consent
        return SitePolicy()
    table = read_toml(path)
    try:
        return build(SitePolicy, table, "")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
