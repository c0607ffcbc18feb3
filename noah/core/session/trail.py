"""The trail: what people and debuggers did, row after row, each with the hash of the one before it.

A row is text that is never changed: its hash covers it and the hash of its predecessor, so a row that was changed or
taken out shows. Only the newest rows can be cut off unseen: to rule that out too, keep the lines that the
gateway prints elsewhere, or write down the last hash. No secret, token or value of a variable is ever in a row.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from noah.core.printable import printable
from noah.core.session.principal import Principal

LONGEST_TEXT = 1000  # characters
FIRST_HASH = "0" * 64  # before the first row there ever was


class TrailCode(StrEnum):
    """The kinds of rows. Readers of the trail rely on them: they are added to, and never renamed."""

    LOGIN = "login"
    LOGOUT = "logout"
    DENIED = "denied"  # a request that was refused because of a missing login or right
    ENABLED = "session.enabled"
    EXTENDED = "session.extended"
    RESUMED = "session.resumed"
    ASKED = "session.asked"
    SHARED = "session.shared"
    JOINED = "session.joined"
    HANDED_OVER = "session.handed_over"
    ENDED = "session.ended"  # somebody asked for the end, or it came by itself
    RIGHT_LOST = "session.right_lost"  # its owner may not debug any more, so it was ended
    ATTACHED = "debugger.attached"
    DETACHED = "debugger.detached"  # with the commands of the connection, by kind
    REFUSED = "debugger.refused"
    HOST_EDITED = "host.edited"  # the options file of an app
    EXAMINED = "doctor.examined"
    REMOVAL_CONFIRMED = "inventory.removal_confirmed"  # more than half of a list of the configuration, at once
    RIGHTS_CHANGED = "rights.changed"  # the grants of the configuration
    LOST = "trail.lost"  # so many rows could not be kept
    FORGOTTEN = "trail.forgotten"  # rows that were older than the retention


class Outcome(StrEnum):
    DONE = "done"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row before it has a number and a hash."""

    code: TrailCode
    at: datetime
    who: Principal | None = None  # None: the gateway itself, or somebody unknown
    via: str = ""  # through what: "api", "page", "debug port"
    address: str = ""  # from where
    target: str = ""
    session: str = ""
    outcome: Outcome = Outcome.DONE
    sentence: str = ""
    request_id: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)  # JSON: counts and the like

    def text(self) -> str:
        """Return the row's text: one line of JSON whose keys are always in the same order."""
        who = self.who
        row = {
            "code": self.code,
            "at": self.at.isoformat(timespec="microseconds"),
            "who": who and {**who.public(), "proof": _short(who.proof), "actor": who.actor and who.actor.public()},
            "via": self.via,
            "from": _short(self.address),
            "target": _short(self.target),
            "session": self.session,
            "outcome": self.outcome,
            "sentence": _short(self.sentence),
            "request": self.request_id,
            "more": self.more,
        }
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class TrailRow:
    number: int
    text: str
    hash: str


def next_row(before: tuple[int, str] | None, text: str) -> TrailRow:
    """Return the row of *text* that comes after the one with this number and hash."""
    number, hash_before = before or (0, FIRST_HASH)
    return TrailRow(number + 1, text, hash_of(hash_before, number + 1, text))


def hash_of(hash_before: str, number: int, text: str) -> str:
    return hashlib.sha256(f"{hash_before}\n{number}\n{text}".encode(errors="replace")).hexdigest()


@dataclass(slots=True)
class Chain:
    """Checks rows in their order. The first may be any: what was before it has been forgotten, or was cut off."""

    first: int | None = None
    last: TrailRow | None = None
    forgotten_through: int = 0  # the last number that the retention has taken, as a row says
    problems: list[str] = field(default_factory=list)

    def check(self, rows: Iterable[TrailRow]) -> None:
        for row in rows:
            before = self.last
            if before is None:
                self.first = row.number
                if row.number == 1 and row.hash != hash_of(FIRST_HASH, 1, row.text):
                    self.problems.append("Row 1 has been changed.")
            elif row.number != before.number + 1:
                self.problems.append(f"Rows {before.number + 1} to {row.number - 1} are missing.")
            elif row.hash != hash_of(before.hash, row.number, row.text):
                self.problems.append(f"Row {row.number} has been changed, or the hash of the row before it.")
            found = json.loads(row.text)
            if found["code"] == TrailCode.FORGOTTEN:
                self.forgotten_through = max(self.forgotten_through, int(found["more"]["through"]))
            self.last = row

    def verdict(self) -> list[str]:
        """Return what is wrong, a sentence each."""
        cut = self.first is not None and self.first > self.forgotten_through + 1
        missing = f"Rows {self.forgotten_through + 1} to {(self.first or 1) - 1} are missing."
        return [missing, *self.problems] if cut else self.problems


def _short(text: str) -> str:
    # No database takes a NUL or half of a surrogate pair.
    return printable(text.encode(errors="replace").decode())[:LONGEST_TEXT]
