"""Router use: means over blocks, entropy by hand, pictures that hold every block of every site."""

from __future__ import annotations

import math

import pytest

from sammit.reporting import router_figures

from .test_figures import well_formed, words

ROUTER = {
    "A": {"layers.0": [1.0, 0.0], "layers.1": [0.5, 0.5]},
    "B": {"layers.0": [0.2, 0.8], "layers.1": [0.4, 0.6]},
}


def test_shares_are_means_over_blocks() -> None:
    assert router_figures.shares(ROUTER) == {"A": [0.75, 0.25], "B": pytest.approx([0.3, 0.7])}
    assert router_figures.shares({"A": {"x": [0.4, 0.6], "y": [0.2, 0.3, 0.5]}}) == {
        "A": pytest.approx([0.3, 0.45, 0.5])
    }
    assert router_figures.shares({"A": {}}) == {}


def test_evenness_is_one_for_an_even_router_and_zero_for_one_expert() -> None:
    assert router_figures.evenness([0.25] * 4) == pytest.approx(1)
    assert router_figures.evenness([0.0, 1.0, 0.0]) == 0
    entropy = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8)) / math.log(2)
    assert router_figures.evenness([0.2, 0.8]) == pytest.approx(entropy) == pytest.approx(0.7219, abs=1e-4)
    assert router_figures.evenness([1.0]) == 1


def test_the_sentence_names_the_expert_and_the_evenness_of_each_site() -> None:
    even = (0.7219 + 0.9710) / 2
    assert router_figures.reading(ROUTER) == (
        "Over all blocks A leans most on expert 0 (0.75) and B leans most on expert 1 (0.70); an even router gives "
        "each expert 0.50. Block by block the entropy of the mean gates is in the mean 0.50 at A and "
        f"{even:.2f} at B, where 1 is even and 0 is one expert alone."
    )
    assert router_figures.reading({}) == ""


def test_pictures_hold_every_gate() -> None:
    by_site = words(well_formed(router_figures.by_site(ROUTER, "x")))
    assert all(said in by_site for said in (".75", ".25", ".30", ".70", "A", "B", "expert"))
    (picture,) = router_figures.by_block(ROUTER, "x")
    text = words(well_formed(picture))
    assert all(said in text for said in ("1.00", ".00", ".50", ".20", ".80", ".40", ".60", "block"))
    assert router_figures.by_site({}, "x") is None and router_figures.by_block({}, "x") == []


def test_many_sites_take_several_pictures_with_titles_of_their_own() -> None:
    router = {f"site {i}": {f"layers.{b}": [0.5, 0.5] for b in range(12)} for i in range(7)}
    pictures = router_figures.by_block(router, "x")
    titles = [picture.title for picture in pictures]
    assert len(pictures) == 4 and titles[:2] == ["Router use by block, x", "Router use by block (1), x"]
    text = " ".join(words(well_formed(picture)) for picture in pictures)
    assert all(site in text for site in router)


def test_names_are_no_markup_and_no_formula() -> None:
    for site in ("<b>&", "$x^$", "_hidden", "病院"):
        router = {site: {"b": [1.0]}}
        for picture in (router_figures.by_site(router, site), *router_figures.by_block(router, site)):
            assert site in words(well_formed(picture))
