"""The hours of a site: any two times of day, across midnight too; what is no such thing is told at load."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sammit.errors import UserError
from sammit.policy import SitePolicy, load_policy

minutes = st.times().map(lambda t: t.replace(second=0, microsecond=0))


def hours(first: time, last: time) -> SitePolicy:
    return SitePolicy(hours=f"{first:%H:%M}-{last:%H:%M}")


@pytest.mark.parametrize(
    ("text", "open_at", "closed_at"),
    [
        ("20:00-06:00", ["20:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "19:59"]),
        ("08:30-17:00", ["08:30", "16:59"], ["00:00", "08:29", "17:00", "23:59"]),
        ("00:00-23:59", ["00:00", "12:00", "23:58"], ["23:59"]),
        ("22:00-00:00", ["22:00", "23:59"], ["00:00", "21:59"]),
        ("", ["00:00", "12:00"], []),
    ],
)
def test_the_first_minute_counts_and_the_last_does_not(text: str, open_at: list[str], closed_at: list[str]) -> None:
    policy = SitePolicy(hours=text)
    policy.check()
    assert all(policy.open_at(time.fromisoformat(at)) for at in open_at)
    assert not any(policy.open_at(time.fromisoformat(at)) for at in closed_at)


@given(minutes, minutes, st.times())
def test_two_times_part_the_day(first: time, last: time, now: time) -> None:
    """It is open in the one part or in the other, never in both."""
    if first != last:
        assert hours(first, last).open_at(now) != hours(last, first).open_at(now)


@given(minutes, minutes, st.times())
def test_hours_are_counted_from_their_beginning(first: time, last: time, now: time) -> None:
    """Minutes since the first, around the clock, are fewer than the hours are long."""

    def since(at: time) -> float:
        seconds = [t.hour * 3600 + t.minute * 60 + t.second + t.microsecond / 1e6 for t in (at, first)]
        return (seconds[0] - seconds[1]) % 86400

    if first != last:
        assert hours(first, last).open_at(now) == (since(now) < since(last))


@pytest.mark.parametrize(
    "text", ["8-20", "20:00", "24:00-06:00", "20:60-06:00", "20:00 - 06:00", "8:00-20:00", "20:00-20:00", "night"]
)
def test_what_is_no_time_of_day_is_told_at_load(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.toml").write_text(f'hours = "{text}"\n')
    with pytest.raises(UserError) as refused:
        load_policy(tmp_path)
    wanted = f"hours: must be two times of day, such as '20:00-06:00', not '{text}'"
    assert str(refused.value) == f"{tmp_path / 'site.toml'}: {wanted}"
