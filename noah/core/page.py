"""One page of a listing, and the cursors that lead on and back."""

from typing import Generic, NamedTuple, TypeVar

_T = TypeVar("_T")


class Page(NamedTuple, Generic[_T]):
    items: list[_T]
    after: str | None  # the cursor of the page after this one; None: there is none
    total: int  # of all pages
    before: str | None  # the cursor of the page before this one, "" for the first one; None: there is none
