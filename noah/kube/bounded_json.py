"""JSON from an API server, read only if that holds up nobody: everything else in the gateway waits meanwhile.

Who may make objects in a cluster chooses their size and their shape, and who owns the API server all that it answers.
"""

import json
from typing import Any

from noah.errors import Unavailable

LONGEST = 4 << 20  # bytes; etcd refuses objects of more than half of that
LONGEST_HEAD = 16 << 10  # bytes; a list's own metadata come first
MOST_S = 0.025  # that parsing may take, on a quiet machine
# Seconds that each occurrence takes at most, as measured: of keys, lists, mappings, strings, and all other values.
_COST_S = ((b":", 250e-9), (b"[", 120e-9), (b"{", 60e-9), (b',"', 25e-9 - 180e-9), (b",", 180e-9))


class TooLarge(Unavailable):
    """The answer is larger than what is read at once."""

    def __init__(self, sentence: str, beginning: bytes | bytearray = b"") -> None:
        super().__init__(sentence)
        self.beginning = bytes(beginning[:LONGEST_HEAD])


def parse(text: bytes | bytearray) -> Any:
    """Return what *text* says. Raises TooLarge, and ValueError if it is not JSON."""
    if len(text) > LONGEST:
        raise TooLarge(f"It sent more than {LONGEST >> 20} MiB at once.")
    if sum(text.count(sign) * seconds for sign, seconds in _COST_S) > MOST_S:
        raise TooLarge("It sent more values at once than can be read in a moment.")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
