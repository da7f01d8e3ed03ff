"""A made-up run folder with every file a real one has: sites that differ, a method that learns, pictures to look at."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sammit.randomness import generator
from sammit.recipe import experiment_from
from sammit.reporting.summary import CaseScore, Facts, summarise, write_cases, write_summary
from sammit.toml import to_toml


@dataclass(frozen=True)
class FakeRun:
    """What to make up.

    Attributes:
        sites: their names; the first is the easiest, each next one harder.
        structures: names; the second lies within the first.
        gain: added to every Dice; higher is a better method.
        personal: whether there are personal models, which are then reported.
        distances: whether HD95 is scored, with some cases undefined.
        unseen: sites that took no part.
    """

    method: str = "pfedsam"
    name: str = "fake"
    sites: tuple[str, ...] = ("Drishti-GS", "RIGA-Magrabia", "RIM-ONE r3", "REFUGE")
    structures: tuple[str, ...] = ("disc", "cup")
    cases: int = 12
    rounds: int = 8
    gain: float = 0.0
    seed: int = 0
    personal: bool = True
    distances: bool = True
    unseen: tuple[str, ...] = ()
    side: int = 200
    scored: str = "test"

    @property
    def models(self) -> tuple[str, ...]:
        return ("global", "personal") if self.personal else ("global",)


def make_run(folder: Path, fake: FakeRun, *, pictures: bool = True, router: bool = True) -> Path:
    """Write the run into `folder` and return it."""
    folder.mkdir(parents=True)
    rows = case_rows(fake)
    write_cases(folder / "cases.csv", rows)
    write_summary(folder / "summary.json", summarise(rows, facts(fake)))
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in round_lines(fake)))
    table = {"name": fake.name, "seed": fake.seed, "method": {"name": fake.method}, "training": {"rounds": fake.rounds}}
    (folder / "config.toml").write_text(to_toml(experiment_from(table)))
    environment = {"versions": {"sammit": "0.1.0", "torch": "2.13.0"}, "device": "cpu", "git": "41529e8",
                   "hashes": {"weights": "9f" * 32, "data": "1c" * 32}}  # fmt: skip
    (folder / "environment.json").write_text(json.dumps(environment))
    if router:
        (folder / "router.json").write_text(json.dumps(router_use(fake)))
    if pictures:
        for place, site in enumerate(fake.sites):
            make_pictures(folder / "pictures" / site, fake, place)
    return folder


def facts(fake: FakeRun) -> Facts:
    """What the rows of the made-up run do not say."""
    seen = [site for site in fake.sites if site not in fake.unseen]
    return Facts(
        method=fake.method, model="sam-tiny", dataset="fundus", protocol="standard", seed=fake.seed,
        rounds=fake.rounds, selected_round=fake.rounds - 2,
        reported=dict.fromkeys(seen, "personal" if fake.personal else "global"),
        unseen=dict.fromkeys(fake.unseen, "judged with the global model"),
        parameters={"total": 1_200_000, "trainable": 310_000, "shared": 120_000, "local": 190_000},
        traffic={"up_bytes_per_site_round": 480_000 * (1 + fake.gain), "down_bytes_per_site_round": 481_000,
                 "total_bytes": 961_000 * len(seen) * fake.rounds},
        seconds={"total": 912.0, "per_round": 110.0}, peak_rss_bytes=2_100_000_000,
        scored=fake.scored,
    )  # fmt: skip


def case_rows(fake: FakeRun) -> list[CaseScore]:
    """Rows of all sites; two cases a patient, the same difficulty of a case under every seed and method."""
    return [
        _row(fake, place, site, case, structure, model)
        for place, site in enumerate(fake.sites)
        for case in range(fake.cases - 2 * place)
        for structure in range(len(fake.structures))
        for model in fake.models
        if not (model == "personal" and site in fake.unseen)
    ]


def _row(fake: FakeRun, place: int, site: str, case: int, structure: int, model: str) -> CaseScore:
    hard = generator(site, case // 2, structure).normal(0, 0.05) + generator(site, case, structure).normal(0, 0.02)
    noise = generator(fake.method, fake.seed, site, case, structure, model).normal(0, 0.01)
    dice = 0.9 - 0.05 * place - 0.08 * structure + hard + noise + fake.gain + 0.02 * (model == "personal")
    dice = float(np.clip(dice, 0, 1))
    missed = structure == 1 and place == 3 and case == 0
    dice = 0.0 if missed else dice
    scores: dict[str, float | None] = {"dice": dice, "iou": dice / (2 - dice)}
    if fake.distances:
        scores |= {"hd95": None if missed else 20 * (1 - dice), "nsd": None if missed else dice}
    return CaseScore(site, f"im{case:03}", f"P{case // 2:02}", fake.structures[structure], model, scores)


def round_lines(fake: FakeRun) -> list[dict[str, object]]:
    """Losses that fall, validation every second round, one site that once did not answer."""
    sites = [site for site in fake.sites if site not in fake.unseen]
    return [
        {
            "round": number,
            "loss": {
                s: 0.9 * math.exp(-number / 3) + 0.1 + 0.04 * i for i, s in enumerate(sites) if (number, i) != (3, 1)
            },
            "validation": None if number % 2 else {s: _validation(fake, number, i) for i, s in enumerate(sites)},
            "up_bytes": {s: 480_000 for i, s in enumerate(sites) if (number, i) != (3, 1)},
            "down_bytes": dict.fromkeys(sites, 481_000),
            "seconds": 110.0,
            "failed": {sites[1]: "no answer within 600 s"} if number == 3 and len(sites) > 1 else {},
        }
        for number in range(fake.rounds)
    ]


def _validation(fake: FakeRun, number: int, place: int) -> dict[str, float | None]:
    dice = 0.88 - 0.05 * place - 0.6 * math.exp(-number / 2) + fake.gain
    return {"global": dice, "personal": dice + 0.02 if fake.personal else None}


def router_use(fake: FakeRun) -> dict[str, dict[str, list[float]]]:
    """Mean gates of three experts in four blocks."""
    return {
        site: {
            f"encoder.layers.{block}": generator("gate", site, block).dirichlet([2, 2, 2]).tolist()
            for block in range(4)
        }
        for site in fake.sites
    }


def make_pictures(folder: Path, fake: FakeRun, place: int) -> None:
    """Best, median and worst: a fundus-like disc with vessels, and masks that are ever further off."""
    folder.mkdir(parents=True)
    for rank, kind in enumerate(("best", "median", "worst")):
        off = 2 + 5 * rank
        arrays: dict[str, np.ndarray] = {"image": disc_image(fake.side, place), "truth": disc_masks(fake, 0, 0)}
        arrays["global"] = disc_masks(fake, off, off // 2)
        if fake.personal:
            arrays["personal"] = disc_masks(fake, off // 2, -off // 3)
        np.savez_compressed(
            folder / f"{kind}.npz", case=np.array(f"im{rank:03}"), structures=np.array(fake.structures),
            dice=np.array([0.93 - 0.1 * rank, 0.95 - 0.08 * rank][: len(fake.models)]), **arrays,
        )  # fmt: skip


def disc_image(side: int, place: int) -> np.ndarray:
    """(H, W, 3) uint8: a bright disc on red, noise that depends on `place`."""
    rows, columns = np.mgrid[:side, : int(1.2 * side)] / side
    red = np.clip(1.1 - 1.4 * np.hypot(rows - 0.5, columns - 0.6), 0, 1)
    glow = np.exp(-((rows - 0.5) ** 2 + (columns - 0.45) ** 2) / 0.02)
    noise = generator("image", place).normal(0, 0.03, size=red.shape)
    image = np.stack([red, 0.5 * red + 0.4 * glow, 0.2 * red + 0.3 * glow], axis=-1) + noise[..., None]
    return (255 * np.clip(image, 0, 1)).astype(np.uint8)


def disc_masks(fake: FakeRun, down: int, grow: int) -> np.ndarray:
    """(C, H, W): nested discs moved `down` pixels and grown by `grow`."""
    rows, columns = np.mgrid[: fake.side, : int(1.2 * fake.side)]
    distance = np.hypot(rows - 0.5 * fake.side - down, columns - 0.45 * fake.side)
    return np.stack([distance < 0.2 * fake.side / (1 + i) + grow for i in range(len(fake.structures))])
