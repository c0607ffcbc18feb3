from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noah.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("45m", 2700),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h0m5s", 3605),
        ("60", 60),
        (" 2h ", 7200),
        ("2d", 172_800),
    ],
)
def test_people_write_lengths_in_these_forms(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "0s", "0h0m", "-5", "-2h", "1.5h", "2 h", "2D", "h", "30m1h", "1h1h", "2H", "nan", "1e3", "٣h", "٣",
     "9" * 10, "9" * 5000, "9999999h", "2h\n;", "x" * 10_000],
)  # fmt: skip
def test_anything_else_is_refused_in_a_short_sentence(text: str) -> None:
    with pytest.raises(
        ValueError, match="is not a length of time: write something like 90s, 45m, 2h or 1h30m"
    ) as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 200


@given(st.text(alphabet="0123456789hms -", max_size=12))
def test_what_is_accepted_is_longer_than_nothing(text: str) -> None:
    with suppress(ValueError):
        assert parse_duration(text) > timedelta(0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-5, "0s"), (0.9, "0s"), (12, "12s"), (2700, "45m"), (5400, "1h30m"), (5415, "1h30m"), (90000, "25h")],
)
def test_lengths_are_said_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.integers(1, 10**6))
def test_whole_minutes_come_back_the_same(minutes: int) -> None:
    length = timedelta(minutes=minutes)
    assert parse_duration(format_duration(length)) == length
