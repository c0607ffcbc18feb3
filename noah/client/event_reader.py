"""Server-sent events, as far as the gateway sends them: bytes in, events out, whatever the pieces they come in."""

from dataclasses import dataclass

# An event is some hundred bytes; something that never ends a line is no event stream.
LONGEST = 1 << 20  # bytes
_UNNUMBERED = frozenset({"reload", "anew"})  # they have the number of the event before them


class NotAnEventStream(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    id: str | None
    kind: str
    data: str


class EventReader:
    """Of one connection. *last_id*: where an earlier one was cut; what that had already brought does not come twice."""

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id
        self._rest = b""
        self._fields: dict[str, list[str]] = {}

    def feed(self, piece: bytes) -> list[ServerEvent]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LONGEST:
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
        # Without data it is a comment, the gateway's ping, or only an ID to go on from.
        return ServerEvent(new_id, kind, "\n".join(fields["data"])) if "data" in fields else None


def _is_before(new: str | None, last: str | None) -> bool:
    """Whether EPOCH-N was there by the time that *last* was; numbers of two epochs say nothing."""
    (epoch, _, number), (last_epoch, _, last_number) = (new or "").rpartition("-"), (last or "").rpartition("-")
    return epoch == last_epoch and number.isdecimal() and last_number.isdecimal() and int(number) <= int(last_number)
