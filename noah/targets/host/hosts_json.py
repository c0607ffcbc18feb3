"""The JSON in which a command or an HTTP API lists hosts, read value by value.

No other thread of the gateway runs while one value is read, and debuggers' bytes wait: 16 MiB at once take some 0.2 s.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

LONGEST_VALUE = 64 << 10  # characters; a host has some 500, and 64 Ki take a millisecond

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def read_list(text: bytes) -> list[Any]:
    """Return the values of a list. Raises ValueError for anything else."""
    reader = _Reader(text)
    values = list(reader.values())
    reader.end()
    return values


def read_page(text: bytes) -> tuple[list[Any], Any]:
    """Return the hosts of a list, or those of an object with "hosts" and "next", and what it has as "next"."""
    reader = _Reader(text)
    if not reader.takes("{"):
        return read_list(text), None
    hosts, after = None, None
    if not reader.takes("}"):
        while True:
            key = reader.value()
            reader.take(":")
            if key == "hosts":
                hosts = list(reader.values())
            elif key == "next":
                after = reader.value()
            else:
                reader.value()
            if reader.takes("}"):
                break
            reader.take(",")
    reader.end()
    if hosts is None:
        raise ValueError('there is no list "hosts"')
    return hosts, after


class _Reader:
    def __init__(self, text: bytes) -> None:
        self._text = text.decode("utf-8-sig")
        self._at = 0

    def values(self) -> Iterator[Any]:
        self.take("[")
        if self.takes("]"):
            return
        yield self.value()
        while not self.takes("]"):
            self.take(",")
            yield self.value()

    def value(self) -> Any:
        self._skip()
        piece = self._text[self._at : self._at + LONGEST_VALUE]
        try:
            value, length = _DECODER.raw_decode(piece)
        except (ValueError, RecursionError):
            or_long = f", or has more than {LONGEST_VALUE} of them" if len(piece) == LONGEST_VALUE else ""
            raise ValueError(f"what begins at character {self._at + 1} is not JSON{or_long}") from None
        self._at += length
        return value

    def takes(self, sign: str) -> bool:
        """Go behind *sign* if it is the next one; return whether it is."""
        self._skip()
        is_next = self._text.startswith(sign, self._at)
        self._at += is_next
        return is_next

    def take(self, sign: str) -> None:
        if not self.takes(sign):
            raise ValueError(f"there is no {sign} at character {self._at + 1}")

    def end(self) -> None:
        self._skip()
        if self._at < len(self._text):
            raise ValueError(f"it goes on at character {self._at + 1}, behind its end")

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
