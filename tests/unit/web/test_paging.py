"""Lists that are in memory: pages lead on and back, whatever comes and goes."""

from itertools import pairwise

import pytest

from noah.errors import BadInput
from noah.web.wire import page_of

ROWS = [(f"k{n}", n) for n in range(7)]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
def test_pages_lead_on_and_back(limit: int) -> None:
    pages = [page_of(ROWS, after=None, limit=limit)]
    while token := pages[-1].after:
        pages.append(page_of(ROWS, after=token, limit=limit))
    assert [n for one in pages for n in one.items] == list(range(7))
    assert pages[0].before is None
    for earlier, later in pairwise(pages):
        assert later.before is not None
        assert page_of(ROWS, after=later.before or None, limit=limit).items == earlier.items


def test_before_a_page_that_begins_in_the_midst_comes_the_first_one() -> None:
    token = page_of(ROWS, after=None, limit=2).after
    assert page_of(ROWS, after=token, limit=5).before == ""


def test_what_is_gone_still_marks_its_place() -> None:
    token = page_of(ROWS, after=None, limit=3).after
    left = [row for row in ROWS if row != ("k2", 2)]
    assert page_of(left, after=token, limit=2).items == [3, 4]


def test_a_token_that_no_page_gave_is_refused() -> None:
    with pytest.raises(BadInput, match="continue"):
        page_of(ROWS, after="ö", limit=2)
