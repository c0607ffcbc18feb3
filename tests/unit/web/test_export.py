"""No cell of an export is a formula, whatever takes the file for a table of whichever separator."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noah.web.api.export import plain_cell

SIGNS = "=+-@＝＋－＠"


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("before", ["", "x;", "x;;", "x\t", "x\n", ";", "\t", "\r\n", " ", "x; ", "'x';"])
def test_a_formula_is_text_wherever_a_cell_may_begin(before: str, sign: str) -> None:
    shown = plain_cell(f"{before}{sign}cmd|' /C calc'!A0")
    assert isinstance(shown, str)
    for cell in re.split(r"[;\t\r\n]", shown):
        assert not cell.strip().startswith(tuple(SIGNS)), shown
    assert shown.replace("'", "") == f"{before}{sign}cmd| /C calc!A0".replace("'", "")


@pytest.mark.parametrize(
    "value", ["bob", "a=1", "a-b+c", "2026-01-01T00:00:00Z", "Eclipse, jdb", "a@b.example", 5, None]
)
def test_what_is_not_a_formula_stays_as_it_is(value: object) -> None:
    assert plain_cell(value) == value


@given(st.text(st.sampled_from([*SIGNS, ";", "\t", "\r", "\n", " ", "'", "a", "1", "　"])))
def test_no_text_makes_a_cell_that_begins_with_a_sign(text: str) -> None:
    shown = str(plain_cell(text))
    assert not any(cell.strip().startswith(tuple(SIGNS)) for cell in re.split(r"[;\t\r\n]", shown))
