"""Keyed draws: equal everywhere, so known numbers are written down here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sammit.randomness import generator, key_to_seed

GOLDEN = {
    (0,): 6711488920161924273,
    (0, "site-a", 3, "case_07"): 8598949094904672892,
    ("0", "site-a", 3, "case_07"): 8949359248190437881,
    (42, "Klinikum Süd", 0, "train"): 6372269567895365735,
}
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"), max_size=8)
keys = st.lists(st.one_of(st.integers(), WORDS), min_size=1, max_size=4).map(tuple)


@pytest.mark.parametrize("key", GOLDEN)
def test_known_seeds(key: tuple[object, ...]) -> None:
    """A change here changes every run's draws: old runs could no longer be repeated."""
    assert key_to_seed(*key) == GOLDEN[key]


def test_known_draws() -> None:
    assert generator(7, "a").integers(0, 1000, 5).tolist() == [904, 580, 517, 560, 683]


@pytest.mark.parametrize("hash_seed", ["0", "1", "12345"])
def test_another_process_draws_the_same(hash_seed: str) -> None:
    code = "from sammit.randomness import generator as g; print(g(1, 'a', 2).integers(0, 2**62))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == int(generator(1, "a", 2).integers(0, 2**62))


@given(keys)
def test_a_seed_is_of_63_bits(key: tuple[object, ...]) -> None:
    assert 0 <= key_to_seed(*key) < 2**63
    assert key_to_seed(*key) == key_to_seed(*key)


@given(keys, keys)
def test_different_keys_differ(first: tuple[object, ...], second: tuple[object, ...]) -> None:
    """Text and number, and the places where a key is cut, are part of it."""
    assert (key_to_seed(*first) == key_to_seed(*second)) == (first == second)


def test_draws_do_not_depend_on_earlier_ones() -> None:
    expected = generator(0, "b").random(3).tolist()
    generator(0, "a").random(1000)
    assert generator(0, "b").random(3).tolist() == expected
