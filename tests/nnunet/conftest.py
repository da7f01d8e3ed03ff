"""Where nnU-Net is stood in for, and a site whose cases are in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sammit.nnunet import process
from sammit.vocabulary import Batch, Case, Loaded, Part

FAKE = [sys.executable, str(Path(__file__).with_name("fake.py"))]


@dataclass
class Held:
    """A site whose cases are given; all of them train."""

    name: str
    loaded: list[Loaded]
    structures: tuple[str, ...] = ("one", "two")
    asked: list[str] = field(default_factory=list)

    def cases(self, part: Part) -> list[Case]:
        return [one.case for one in self.loaded] if part == "train" else []

    def samples(self, part: Part) -> int:
        return sum(len(one.image) for one in self.loaded) if part == "train" else 0

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        raise NotImplementedError

    def load(self, case: Case) -> Loaded:
        self.asked.append(case.name)
        return next(one for one in self.loaded if one.case == case)


def a_case(name: str, image: np.ndarray, truth: np.ndarray, **given: object) -> Loaded:
    """A case in memory; `given` are `Loaded`'s other fields."""
    return Loaded(Case("site", name, name, (Path(name),)), image, truth, **given)  # type: ignore[arg-type]


def blobs(seed: int, shape: tuple[int, int, int], colour: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(D, H, W, 3) uint8 with two bright boxes on noise, and where they are, (D, H, W, 2)."""
    draw = np.random.default_rng(seed)
    image = draw.integers(1, 60, (*shape, 3 if colour else 1), np.uint8)
    truth = np.zeros((*shape, 2), bool)
    for index, bright in enumerate((120, 190)):
        low = [int(draw.integers(0, side - side // 3)) for side in shape]
        box = tuple(slice(start, start + max(1, side // 3)) for start, side in zip(low, shape, strict=True))
        truth[box] = False  # the second hides the first: no pixel carries both
        truth[(*box, index)] = True
        image[box] += np.uint8(bright - 60)
    return (image if colour else np.repeat(image, 3, -1)), truth


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The shared process is the stand-in, and is gone after the test."""
    process.close()
    monkeypatch.setattr(process, "command", lambda: FAKE)
    yield
    process.close()
