"""What a report says of merged low-rank factors."""

from __future__ import annotations

import pytest

from sammit.reporting import sentences, wording
from sammit.reporting.folder import Round


def rounds(*servers: dict[str, float]) -> list[Round]:
    return [Round(number, {}, {}, {}, {}, {}, server) for number, server in enumerate(servers)]


def test_the_last_and_the_worst_error_are_told() -> None:
    (said,) = sentences.merging(rounds({"lora_error": 0.5}, {"lora_error": 0.031}))
    assert f"by 3.1{wording.SPACE}% in the last round and by 50{wording.SPACE}% at most" in said


def test_an_exact_merge_is_called_so() -> None:
    (said,) = sentences.merging(rounds({"lora_error": 2e-8}))
    assert said.startswith("Low-rank factors were merged exactly")


def test_without_pairs_nothing_is_said() -> None:
    assert sentences.merging(rounds({}, {"gap": 1.0})) == [] == sentences.merging([])


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0"), (1.0, "100"), (0.5, "50"), (0.0312, "3.1"), (0.00042, "0.042"), (1.2e-5, "0.0012")]
)
def test_shares_have_two_digits(share: float, text: str) -> None:
    assert wording.percent(share) == f"{text}{wording.SPACE}%"
