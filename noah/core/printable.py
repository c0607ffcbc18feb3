"""Text from elsewhere (pods, API servers, other people), made safe for a terminal, and for a database.

An escape sequence, a C1 control character or a bidi control in it could clear the screen, set its title, or make a line
read as another one. Such characters are replaced, so that a reader sees that something was there.
"""

from collections.abc import Mapping
from typing import Any

_REPLACEMENT = "\ufffd"


def printable(text: str, *, keep: str = "") -> str:
    """Return *text* with each character that is not printable replaced, except those in *keep*."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _REPLACEMENT for c in text)


def storable(text: str) -> str:
    """Return *text* as every database can hold it: without NUL, and without half of a surrogate pair."""
    return text.replace("\0", "").encode(errors="replace").decode()


def storable_json(value: Any) -> Any:
    """Return a value of JSON with each text in it made storable."""
    match value:
        case str():
            return storable(value)
        case Mapping():
            return {storable(name): storable_json(one) for name, one in value.items()}
        case list() | tuple():
            return [storable_json(one) for one in value]
        case _:
            return value
