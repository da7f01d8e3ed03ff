"""Train, val and test by patient: a keyed ranking cut by share, the same on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sammit.errors import UserError
from sammit.randomness import key_to_seed
from sammit.vocabulary import Part

PARTS: tuple[Part, ...] = ("train", "val", "test")


def split_patients(
    site: str,
    patients: Iterable[str],
    shares: tuple[float, ...],
    seed: int,
    fixed: Mapping[str, Part] | None = None,
) -> dict[str, Part]:
    """The part of each patient of a site.

    Patients are ranked by a hash of (seed, site, patient), so the order of files plays no role. What the layout
    itself decides (`fixed`) stays; a part that it leaves empty is drawn from the patients it leaves free, or from its
    train part where there are none.

    Args:
        site: the site's name.
        patients: its patients, in any order, repeats allowed.
        shares: of the patients in train, val, test; sum 1; a part of share 0 gets nobody.
        seed: the experiment's seed.
        fixed: patients whose part is decided.

    Raises:
        UserError: too few patients for each part to get one.
    """
    decided: dict[str, Part] = dict(fixed or {})
    wanted = [part for part, share in zip(PARTS, shares, strict=True) if share > 0]
    missing = [part for part in wanted if part not in decided.values()]
    free = sorted(set(patients) - set(decided))
    if missing and len(free) < len(missing):
        free += [patient for patient, part in decided.items() if part == "train"]
        missing = [part for part in wanted if part in missing or part == "train"]
    if not missing:
        return {**decided, **dict.fromkeys(free, "train")}
    if len(free) < len(missing):
        raise UserError(
            f"site '{site}' has {len(set(patients))} patient(s); at least {len(missing)} are needed for "
            f"{', '.join(missing)}: add cases, or mend data.patient if it takes several people for one"
        )
    ranked = sorted(free, key=lambda patient: (key_to_seed("split", seed, site, patient), patient))
    return {**decided, **_cut(ranked, missing, shares)}


def _cut(ranked: list[str], parts: list[Part], shares: tuple[float, ...]) -> dict[str, Part]:
    """Cut a ranking among parts by their shares, one patient at least for each."""
    weight = {part: shares[PARTS.index(part)] for part in parts}
    total, left, result = sum(weight.values()), len(ranked), iter(ranked)
    cut: dict[str, Part] = {}
    for place, part in enumerate(reversed(parts), start=1):  # test, val, then train takes the rest
        after = len(parts) - place
        count = left if after == 0 else min(max(1, round(len(ranked) * weight[part] / total)), left - after)
        cut.update((next(result), part) for _ in range(count))
        left -= count
    return cut


def labelled_patients(site: str, patients: Iterable[str], labelled: float, seed: int) -> frozenset[str]:
    """Whose cases keep their labels: the first patients of a keyed ranking whose cases are enough, at least one.

    Args:
        site: the site's name.
        patients: of each training case, in any order.
        labelled: share of the cases in (0, 1], or their number from 2 on; where there are fewer, all.
        seed: as of the split.
    """
    cases = Counter(patients)
    wanted = labelled if labelled > 1 else max(1, round(labelled * cases.total()))
    kept: set[str] = set()
    for patient in sorted(cases, key=lambda patient: (key_to_seed("labelled", seed, site, patient), patient)):
        if sum(cases[one] for one in kept) < wanted:
            kept.add(patient)
    return frozenset(kept)
