"""A hospital's own settings, `site.toml` beside its startup kit: where its images and its state are, what it allows.

None of it is ever sent. What the data's folder says in a `site.toml` of its own holds as well; both can only take away.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from sammit.errors import UserError
from sammit.federation.accountant import need_accountant
from sammit.files import write_atomically
from sammit.policy import POLICY_FILE, SitePolicy
from sammit.toml import build, read_toml


@dataclass(frozen=True)
class SiteLimits:
    """`[limits]`: what an exchange may take at a site.

    Attributes:
        piece: seconds for a piece of a file.
        fetch: seconds until an order has come whole.
        order: bytes of an order.
    """

    piece: float = 120.0
    fetch: float = 3600.0
    order: int = 4 << 30


@dataclass(frozen=True)
class NoiseSettings:
    """`[noise]`: what is done to each update before it leaves (`noise`); nothing where clip and multiplier are 0.

    Attributes:
        clip: C, the largest norm of an update: of all shared tensors' changes in a round together.
        multiplier: z; noise of deviation z C is added to every number.
        delta: at which epsilon is told.
        largest_epsilon: of one run; a round that would take it beyond is refused. 0: no limit.
    """

    clip: float = 0.0
    multiplier: float = 0.0
    delta: float = 1e-5
    largest_epsilon: float = 0.0

    @property
    def on(self) -> bool:
        """Whether updates are clipped and noised."""
        return self.multiplier > 0

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        for key in ("clip", "multiplier", "largest_epsilon"):
            value = getattr(self, key)
            if not (isfinite(value) and value >= 0):
                raise UserError(f"noise.{key}: must be 0 or more, not {value}")
        if (self.clip > 0) != self.on:
            raise UserError("noise: clip and multiplier must both be above 0, or both 0 for no noise")
        if not 0 < self.delta < 1:
            raise UserError(f"noise.delta: must be above 0 and below 1, not {self.delta}")
        if self.largest_epsilon and not self.on:
            raise UserError("noise.largest_epsilon: nothing is noised; set noise.clip and noise.multiplier too")


@dataclass(frozen=True)
class Premises:
    """A site's settings."""

    data: str  # folder of the images, with images/ and masks/ or another layout that is read
    home: str  # folder of private state and of what runs leave here
    cache: str = ""  # folder of decoded images; empty: in `home`
    device: str = "cpu"
    threads: int = 0  # of the processor; 0: as many as the run says
    policy: SitePolicy = field(default_factory=SitePolicy)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    limits: SiteLimits = field(default_factory=SiteLimits)


def load_premises(kit: Path) -> Premises:
    """What the `site.toml` of a kit says; raises UserError where there is none or it cannot be read."""
    path = kit / POLICY_FILE
    if not path.is_file():
        raise UserError(f"{path}: is missing; make it with `sammit site init {kit}`")
    try:
        premises = build(Premises, read_toml(path), "")
        premises.policy.check("policy.")
        premises.noise.check()
        if premises.noise.on:
            need_accountant()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return premises


TEMPLATE = """# What this site lets happen. Nothing of it is ever sent.

data = {data}      # folder of the images, with images/ and masks/ or another layout that is read
home = {home}      # private state and what runs leave here; for this site's eyes alone
device = {device}

[policy]
methods = []         # the only methods that the site takes part in; empty: any
refuse = []          # what it neither sends nor is sent beside weights: names, or families "NAME."
min_patients = 5     # scores over fewer are not told
min_samples = 1      # with fewer images or slices to train on it takes no part
largest_update = 0   # bytes; a longer update is not sent; 0: no limit
hours = ""           # of this machine's clock in which it trains, such as "20:00-06:00"; empty: always

[noise]              # of what leaves; with it no scores and no losses leave either
clip = 0.0           # largest norm of an update, all shared tensors' changes together; 0: nothing is noised
multiplier = 0.0     # noise of this many times `clip` on every number; 0: nothing is noised
delta = 1e-5         # at which epsilon is told, in audit.jsonl
largest_epsilon = 0.0 # of one run; a round that would take it beyond is refused; 0: no limit

[limits]
piece = 120.0        # seconds for a piece of a file
fetch = 3600.0       # seconds until an order has come whole
order = 4294967296   # bytes of an order
"""


def write_premises(kit: Path, data: Path, home: Path, device: str) -> Path:
    """Write a kit's `site.toml`, for a person to look through.

    Raises:
        UserError: the kit or the data is no folder, or the file is there already.
    """
    path = kit / POLICY_FILE
    for folder, option in ((kit, "KIT"), (data, "--data")):
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder; give {option} a folder that exists")
    if path.exists():
        raise UserError(f"{path}: is there already; edit it")
    words = {"data": str(data.resolve()), "home": str(home.resolve()), "device": device}
    write_atomically(path, TEMPLATE.format(**{key: json.dumps(word) for key, word in words.items()}))
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
