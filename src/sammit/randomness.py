"""Every random draw has a key, so that no draw depends on the order of work.

A key is a tuple such as (seed, site, round, case): equal keys give equal draws on every machine, whatever else was
drawn before, in this process or another.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def key_to_seed(*key: object) -> int:
    """A 63-bit seed for a key of strings and integers; independent of Python's hash randomisation."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*key: object) -> np.random.Generator:
    """A fresh NumPy generator for a key."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(key_to_seed(*key)))
