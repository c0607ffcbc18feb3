"""An edit of a host's options file, as it is remembered: recorded before the file is touched, until it is taken back.

What the file really holds is looked up each time; the state says only what is wanted of it.
"""

from dataclasses import dataclass
from enum import StrEnum

from noah.core.session.target import HostTarget


class EditState(StrEnum):
    PLANNED = "planned"  # the file may have been changed and the app restarted, or not yet
    APPLIED = "applied"  # the app has come up with the flags
    ROLLING_BACK = "rolling-back"  # it has not: file back and restart
    UNDOING = "undoing"  # its session is over: the file goes back
    UNDONE = "undone"
    KEPT = "kept"  # its session is over, and the flags stay


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEdit:
    id: str
    target: HostTarget
    session: str  # whose flags they are; changes when the next session takes them over
    file: str
    before: bytes
    after: bytes
    mode: str  # "640"
    owner: str  # "1000:1000"
    state: EditState
    why: str | None = None  # it was rolled back, in one sentence

    @property
    def is_open(self) -> bool:
        return self.state not in (EditState.UNDONE, EditState.KEPT)
