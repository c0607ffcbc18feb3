"""Values as they are written in JSON and in queries, and the pages of lists."""

import base64
import binascii
import bisect
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from noah.core.page import Page
from noah.duration import parse_duration
from noah.errors import BadInput

_T = TypeVar("_T")
_R = TypeVar("_R")

LONGEST_WAIT = 120.0  # seconds; a client that waits longer asks again
MOST = 1000  # items of a page
MOST_WORDS = 8  # of a search, and labels of one: each takes 5 ms of the event loop where there are 90,000 targets
_LONGEST_LENGTH = 10**9  # seconds; a timedelta can hold it. What a session may last is said elsewhere.


def _printable(text: str) -> str:
    # No database takes a NUL or half a surrogate.
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed")
    return text


def _few_words(text: str) -> str:
    if len(words_of(text)) > MOST_WORDS:
        raise ValueError(f"at most {MOST_WORDS} different words are looked for at once")
    return text


def words_of(text: str | None) -> Sequence[str]:
    """Return the words of a search, each once, in lower case."""
    return list(dict.fromkeys((text or "").lower().split()))


def _length(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("write a length of time: 90s, 45m, 2h, 1h30m, or a number of seconds")
    if isinstance(value, str):
        return parse_duration(value)
    if not 0 < value <= _LONGEST_LENGTH:
        raise ValueError(
            f"{value if abs(value) <= _LONGEST_LENGTH else 'this'} is not a number of seconds that a session can last"
        )
    return timedelta(seconds=value)


# A name in a query; no name in the gateway is longer.
Text = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]
Words = Annotated[Text, AfterValidator(_few_words)]
Length = Annotated[
    timedelta,
    BeforeValidator(_length),
    WithJsonSchema(
        {
            "description": "a length of time: 2h, 45m, 90s, 1h30m, or a number of seconds",
            "anyOf": [{"type": "string", "examples": ["2h"]}, {"type": "integer", "minimum": 1}],
        }
    ),
]
Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class Model(BaseModel):
    """A query or a body as clients send it. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class Nothing(Model):
    pass


class WaitQuery(Model):
    wait: float = Field(0, ge=0, le=LONGEST_WAIT, allow_inf_nan=False, description="seconds to wait for it, at most")


class Paged(Model):
    limit: int = Field(100, ge=1, le=MOST)
    after: Text | None = Field(None, alias="continue", description="what the page before gave as `continue`")


def moment(at: datetime) -> str:
    """Write it as RFC 3339 does, in UTC, with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe(make: Callable[[_T], _R], value: _T | None) -> _R | None:
    return None if value is None else make(value)


def plain(value: Any) -> Any:
    """Return what json.dumps writes for a value that JSON does not have."""
    if isinstance(value, datetime):
        return moment(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def page_of(rows: Iterable[tuple[str, _T]], *, after: str | None, limit: int) -> Page[_T]:
    """Return the *limit* rows that come after the token, in the order of their keys."""
    ordered = sorted(rows, key=itemgetter(0))
    first = bisect.bisect_right(ordered, _read(after), key=itemgetter(0)) if after else 0
    shown = ordered[first : first + limit]
    following = _token(shown[-1][0]) if first + limit < len(ordered) else None
    before = None
    if first:
        before = _token(ordered[first - limit - 1][0]) if first > limit else ""
    return Page([row for _, row in shown], following, len(ordered), before)


def with_tokens(page: Page[_T]) -> Page[_T]:
    """Return a page whose cursors are keys with tokens in their place."""
    return page._replace(after=maybe(_token, page.after), before=page.before and _token(page.before))


def cursor_of(token: str | None) -> str | None:
    return maybe(_read, token)


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _read(token: str) -> str:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars="-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise BadInput("continue: this is not a token; take the one that the page before gave.") from None
