"""Stories of minutes that are told side by side: each is observed to its end, and judged by a test of its own."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LONGEST_S = 200.0  # a story that takes longer hangs; the others are judged nevertheless


class Rows(Generic[T]):
    """What was observed, by name. Asking for a story that broke off raises what broke it."""

    def __init__(self, observed: dict[str, T | BaseException]) -> None:
        self._observed = observed

    def __getitem__(self, name: str) -> T:
        one = self._observed[name]
        if isinstance(one, BaseException):
            raise one
        return one

    def items(self) -> list[tuple[str, T]]:
        return [(name, self[name]) for name in self._observed]


async def side_by_side(stories: dict[str, Coroutine[Any, Any, T]]) -> Rows[T]:
    each = [asyncio.wait_for(story, LONGEST_S) for story in stories.values()]
    observed = await asyncio.gather(*each, return_exceptions=True)
    return Rows(dict(zip(stories, observed, strict=True)))
