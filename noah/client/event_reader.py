"""Reads server-sent events, as far as the gateway sends them: bytes in, events out, whatever the pieces are."""

from dataclasses import dataclass

from noah.core.release.release_event import ReleaseEventKind
from noah.core.session.event_kind import EventKind

# An event has some hundred bytes; a line that is longer than this is not part of an event stream.
LONGEST_LINE_BYTES = 1 << 20
_UNNUMBERED = frozenset(
    {EventKind.RELOAD, ReleaseEventKind.RESTARTED}
)  # they carry the number of the event before them


class NotAnEventStream(ValueError):
    """A line does not end."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    id: str | None
    kind: str
    data: str


class EventReader:
    """Reads the events of one connection.

    *last_id* is the ID at which an earlier connection was cut; events up to that one are dropped.
    """

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id
        self._rest = b""
        self._fields: dict[str, list[str]] = {}

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """Return the events that *piece* completes. Raises NotAnEventStream."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LONGEST_LINE_BYTES:
            raise NotAnEventStream
        found = [self._line(line.removesuffix(b"\r").decode(errors="replace")) for line in lines]
        return [event for event in found if event is not None]

    def _line(self, line: str) -> ServerEvent | None:
        if line:
            name, _, value = line.partition(":")
            self._fields.setdefault(name, []).append(value.removeprefix(" "))
            return None
        fields, self._fields = self._fields, {}
        new_id, kind = fields.get("id", [self.last_id])[-1], fields.get("event", ["message"])[-1]
        if "id" in fields and kind not in _UNNUMBERED and _is_before(new_id, self.last_id):
            return None
        self.last_id = new_id
        # Without data it is a comment, the gateway's ping, or only an ID from which to continue.
        return ServerEvent(new_id, kind, "\n".join(fields["data"])) if "data" in fields else None


def _is_before(new: str | None, last: str | None) -> bool:
    """Return whether the event EPOCH-N is *last* or older. Numbers of two epochs cannot be compared."""
    (epoch, _, number), (last_epoch, _, last_number) = (new or "").rpartition("-"), (last or "").rpartition("-")
    return epoch == last_epoch and number.isdecimal() and last_number.isdecimal() and int(number) <= int(last_number)
