"""What a site agrees to: `site.toml` in its own folder, which never leaves it.

The *experiment* travels and is the same for all; a policy is the site's answer to it and can only take away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from pathlib import Path

from sammit.errors import UserError
from sammit.toml import build, read_toml

POLICY_FILE = "site.toml"

_TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"


@dataclass(frozen=True)
class SitePolicy:
    """`site.toml` in a site's own folder: what the site agrees to. It stays there; without one a site agrees to all."""

    methods: tuple[str, ...] = ()  # the only ones that the site takes part in; empty: any
    refuse: tuple[str, ...] = ()  # what it neither sends nor is sent beside weights: names, or families "NAME."
    min_patients: int = 0  # scores over fewer are not told, nor how many there are
    min_samples: int = 0  # with fewer images or slices to train on it takes no part
    largest_update: int = 0  # bytes; a longer one is not sent; 0: no limit
    hours: str = ""  # of its own clock in which it begins to train, "20:00-06:00"; empty: always

    def check(self, where: str = "") -> None:
        """Raise UserError where a value cannot be right.

        Args:
            where: the table's name with its dot, for the message.
        """
        if self.hours and (self._from_to is None or len(set(self._from_to)) == 1):
            raise UserError(f"{where}hours: must be two times of day, such as '20:00-06:00', not '{self.hours}'")

    def open_at(self, now: time) -> bool:
        """Whether the site begins to train at a time of its own clock: from the first of `hours` until the last."""
        if self._from_to is None:
            return True
        first, last = self._from_to
        return first <= now < last if first < last else now >= first or now < last

    @property
    def _from_to(self) -> tuple[time, time] | None:
        """The two times of `hours`; None where it does not have them."""
        found = re.fullmatch(rf"({_TIME})-({_TIME})", self.hours)
        return (time.fromisoformat(found[1]), time.fromisoformat(found[2])) if found else None

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
        policy = build(SitePolicy, table, "")
        policy.check()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return policy
