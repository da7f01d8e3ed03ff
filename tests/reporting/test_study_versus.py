"""Methods against each other: against SciPy, by hand, and where a test cannot be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sammit.errors import UserError
from sammit.randomness import generator
from sammit.reporting.statistics import holm
from sammit.reporting.study_cells import StudyCell
from sammit.reporting.study_paper import NO_PAPER
from sammit.reporting.study_results import Result, make_result
from sammit.reporting.study_scores import make_blocks
from sammit.reporting.study_sentences import bold_note, verdict
from sammit.reporting.study_tables import scores_table
from sammit.reporting.study_versus import check_pairs
from sammit.reporting.study_versus_tables import pairs_table, ranking_table

from .fake_study import in_memory

Dice = Mapping[tuple[str, int], Mapping[str, list[float]]]  # (site, seed) -> patient -> cases

HARD = {site: {f"p{i}": generator(site, i).uniform(0.4, 0.8, size=1 + i % 2) for i in range(12)} for site in "AB"}


def shifted(shift: float, noise: float = 0.02, seeds: tuple[int, ...] = (0, 1), name: str = "") -> Dice:
    """The same cases for every method, each a little easier by `shift`."""
    return {
        (site, seed): {
            p: [float(v + shift + generator(name, site, p, seed, i).normal(0, noise)) for i, v in enumerate(values)]
            for p, values in HARD[site].items()
        }
        for site in "AB"
        for seed in seeds
    }


def result(methods: Mapping[str, Dice], pairs: Sequence[tuple[str, str]] = (), margin: float = 0.02) -> Result:
    """A study of two sites and two seeds; what a method lacks is missing."""
    cells = [StudyCell("d", m, m.upper(), site, seed, Path(m)) for seed in (0, 1) for site in "AB" for m in methods]
    own = [(cell, methods[cell.method].get((cell.unseen, cell.seed))) for cell in cells]
    (block,) = make_blocks(cells, [in_memory(cell, dice) for cell, dice in own if dice])
    return make_result(block, pairs, margin, NO_PAPER)


def patients(dice: Dice) -> dict[tuple[str, str], float]:
    """Mean over seeds, then over a patient's cases; written out a second time."""
    seeds = sorted({seed for _, seed in dice})
    return {
        (site, p): float(np.mean(np.mean([dice[site, seed][p] for seed in seeds], axis=0)))
        for site in "AB" for p in HARD[site]
    }  # fmt: skip


METHODS = {"a": shifted(0.05, name="a"), "b": shifted(0.0, name="b"), "c": shifted(0.045, name="c")}


def test_each_method_is_tested_on_the_patients_of_all_sites() -> None:
    one = result(METHODS)
    assert one.ranking.best == "a"
    means = {name: patients(dice) for name, dice in METHODS.items()}
    raw = [stats.wilcoxon(*(list(means[m].values()) for m in (other, "a"))).pvalue for other in "bc"]
    assert [one.ranking.others[m].p for m in "bc"] == pytest.approx(holm(raw))
    assert {versus.patients for versus in one.ranking.others.values()} == {24}
    assert {versus.pooled.cases for versus in one.ranking.others.values()} == {36}
    gap = np.mean(_every_case(METHODS["b"])) - np.mean(_every_case(METHODS["a"]))
    assert one.ranking.others["b"].pooled.mean == pytest.approx(gap)
    assert one.ranking.others["b"].sites.keys() == {"A", "B"}


def _every_case(dice: Dice) -> list[float]:
    return [value for cell in dice.values() for values in cell.values() for value in values]


def test_bold_only_where_the_best_beats_every_other() -> None:
    clear = result({"a": METHODS["a"], "b": METHODS["b"]})
    assert clear.ranking.outright and scores_table(clear, ["dice"]).cell("A", "mean").strong
    assert bold_note(clear) == (
        "Bold: A has the highest mean Dice and is significantly better than every other method "
        "(n = 24 patients at 2 unseen sites)."
    )
    close = result({**METHODS, "e": shifted(0.0502, name="e")})
    assert not close.ranking.outright and close.ranking.others["b"].p < 0.001
    assert not any(cell.strong for cells in scores_table(close, ["dice", "iou"]).rows for cell in cells)
    assert "not significantly above every other; nothing is bold (n = 24 patients" in bold_note(close)


def test_a_significant_difference_the_other_way_is_no_win() -> None:
    """The best mean over sites comes from one outlier; almost every patient is worse."""
    odd = {
        key: {p: [1.0] if p == "p0" else [value - 0.01 for value in values] for p, values in dice.items()}
        for key, dice in METHODS["b"].items()
    }
    one = result({"odd": odd, "b": METHODS["b"]})
    assert one.ranking.best == "odd"
    assert one.ranking.others["b"].p < 0.05 and one.ranking.others["b"].direction == 0
    assert not one.ranking.outright
    assert "mean and ranks point apart" in ranking_table(one).rows[0][-1].text


def test_methods_with_missing_sites_are_not_tested_and_nothing_is_bold() -> None:
    partly = {key: value for key, value in METHODS["c"].items() if key[0] == "A"}
    one = result({"a": METHODS["a"], "b": METHODS["b"], "c": partly})
    assert one.ranking.others["c"] is None and not one.ranking.outright
    assert "methods with missing cells were not tested" in bold_note(one)
    whole = [stats.wilcoxon(list(patients(METHODS["b"]).values()), list(patients(METHODS["a"]).values())).pvalue, 1.0]
    assert one.ranking.others["b"].p == pytest.approx(holm(whole)[0])  # the test that is still to come counts too
    assert ranking_table(one).rows[1][-1].text == "not tested, as cells are missing"
    assert scores_table(one, ["dice"]).cell("C", "mean").text == "missing"
    nothing = result({"a": partly, "b": partly})
    assert nothing.ranking.best is None and ranking_table(nothing) is None
    assert bold_note(nothing).startswith("No method has a score at every site yet")


def test_missing_seeds_are_marked_in_every_number_they_touch() -> None:
    once = {key: value for key, value in METHODS["c"].items() if key != ("B", 1)}
    table = scores_table(result({"a": METHODS["a"], "c": once}), ["dice"])
    assert "†" not in table.cell("C", "A").text
    assert table.cell("C", "B").text.endswith("†") and table.cell("C", "mean").text.endswith("†")
    assert any(note.startswith("†: some seeds are missing") for note in table.notes)
    assert "±" in table.cell("A", "mean").text and "±" not in table.cell("C", "mean").text


def test_one_method_is_best_of_nothing() -> None:
    one = result({"a": METHODS["a"]})
    assert not one.ranking.outright and "one method only" in bold_note(one) and ranking_table(one) is None


def test_federated_minus_centralised_by_hand() -> None:
    """A constant gap has an interval of no width, so the verdict is known."""
    exact = {name: shifted(shift, noise=0.0) for name, shift in (("m", 0.0), ("f", -0.01), ("g", -0.05), ("h", 0.01))}
    pairs = (("f", "m"), ("g", "m"), ("h", "m"))
    one = result(exact, pairs=pairs)
    assert [pair.verdict for pair in one.pairs] == ["non-inferior", "inferior", "superior"]
    gaps = [pair.versus.pooled for pair in one.pairs]
    assert [(gap.mean, gap.low, gap.high) for gap in gaps] == [pytest.approx((x, x, x)) for x in (-0.01, -0.05, 0.01)]
    assert [gap.mean for gap in one.pairs[0].versus.sites.values()] == pytest.approx([-0.01, -0.01])
    raw = stats.wilcoxon([-0.01] * 24).pvalue
    assert one.pairs[0].versus.p == pytest.approx(3 * raw)
    assert [cells[3].text for cells in pairs_table(one).rows] == ["non-inferior", "inferior", "superior"]
    said = verdict(one, one.pairs[0])
    assert said.startswith("F minus M is -0.010 [-0.010, -0.010] Dice (p < 0.001, n = 24): F is non-inferior")
    assert result(exact, pairs=pairs, margin=0.06).pairs[1].verdict == "non-inferior"


def test_a_pair_waits_for_missing_cells() -> None:
    partly = {key: value for key, value in METHODS["c"].items() if key[0] == "A"}
    one = result({"a": METHODS["a"], "c": partly}, pairs=(("c", "a"),))
    assert one.pairs[0].verdict is None
    assert verdict(one, one.pairs[0]) == "C minus A waits for missing cells."
    assert [cell.text for cell in pairs_table(one).rows[0]] == ["C minus A", "missing", "–", "missing", "–", "–"]


def test_pairs_must_name_two_methods_of_the_study() -> None:
    check_pairs([("a", "b")], ["a", "b"])
    with pytest.raises(UserError, match="no method 'fedmsb': did you mean 'fedmsa'"):
        check_pairs([("fedmsb", "msa")], ["fedmsa", "msa"])
    with pytest.raises(UserError, match="its own counterpart"):
        check_pairs([("a", "a")], ["a", "b"])
