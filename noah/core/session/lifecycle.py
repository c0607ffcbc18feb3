"""What to do next for a session: one function of what was asked for, what is true and the time.

The rules stand in the order in which they are judged. Nothing here remembers anything: a restart of the gateway,
a killed forwarder, a replaced pod are seen by the next look and need no code of their own.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from noah.core.session.session import EndReason, Facts, Presence, Session, Vm, VmState, Word
from noah.core.session.target import Target

# A rollout has its successor within seconds; a Recreate rollout or a node that is drained needs a moment.
GONE_AFTER = timedelta(seconds=60)
# Debuggers stop the VM for a moment and resume it by themselves: an exception that nobody waits for, a condition that
# does not hold. Only a stop that lasts is written; the probe looks twice, with checkurl's deadline between, so that is
# in time.
STANDS_AFTER = timedelta(seconds=0.25)
# Stepping resumes and stops again and again; the word stays suspended until the last lasting stop is so long ago, which
# errs on the side of the person who debugs.
RUNNING_AFTER = timedelta(seconds=3)
# What a forwarder that cannot be reached at a session's end needs to end by its own deadline, its clock a bit off.
FORWARDER_ENDS_ITSELF = timedelta(seconds=30)
WARN_BEFORE = timedelta(minutes=1)  # ahead of the end of a pause budget, or half of a short one


@dataclass(frozen=True, slots=True)
class OpenPort:
    pass


@dataclass(frozen=True, slots=True)
class ClosePort:
    pass


@dataclass(frozen=True, slots=True)
class StartForwarder:
    """Start it, or hold the one that is there."""


@dataclass(frozen=True, slots=True)
class StopForwarder:
    pass


@dataclass(frozen=True, slots=True)
class Follow:
    target: Target


@dataclass(frozen=True, slots=True)
class WarnOfResume:
    at: datetime  # when the VM will be resumed


@dataclass(frozen=True, slots=True)
class ResumeVm:
    pass


@dataclass(frozen=True, slots=True)
class EndSession:
    reason: EndReason
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing of the session is left anywhere: note when, and forget it."""


@dataclass(frozen=True, slots=True)
class Wait:
    until: datetime  # at the latest; any change of the facts comes first


Action = (
    OpenPort
    | ClosePort
    | StartForwarder
    | StopForwarder
    | Follow
    | WarnOfResume
    | ResumeVm
    | EndSession
    | Finish
    | Wait
)


def next_action(session: Session, facts: Facts, now: datetime) -> Action:
    if session.is_over:
        return _towards_the_end(session, facts, now)
    if session.has_expired(now):
        return EndSession(EndReason.EXPIRED)
    if not facts.port_open:
        # Even while the target is away: a debugger that comes early is held, instead of being refused by the machine.
        return OpenPort()
    if not facts.looked:
        return Wait(session.expires_at)
    paused = _pause_budget(session, facts, now)
    if not isinstance(paused, Wait):
        return paused
    match facts.presence:
        case Presence.GONE:
            return _gone(session, facts, now)
        case Presence.REMOVED:
            return EndSession(EndReason.TARGET_GONE, facts.reason)
        case Presence.MOVED | Presence.LEAVING if facts.attached is None and facts.successor is not None:
            return Follow(facts.successor)
        case Presence.NOT_READY | Presence.MOVED | Presence.LEAVING:
            # A debugger stays in a pod that is being deleted until that has ended; nothing probes it meanwhile.
            return paused
    if facts.taken_elsewhere:
        # To hold its forwarder would be to write over the words of a gateway that knows what the debugger does.
        return paused
    return paused if facts.forwarder_alive and facts.forwarder_held else StartForwarder()


def passes_by(vm: VmState | None, now: datetime) -> bool:
    """Return whether it is suspended, and not yet for so long that it is published."""
    return vm is not None and vm.stands and now < vm.since + STANDS_AFTER


def word_on(facts: Facts, now: datetime) -> Word:
    """Return what the target's probe should read now."""
    if facts.attached is None:
        # A debugger that is attached all the same came past the gateway.
        return Word.FREE
    if facts.vm is None:
        return Word.UNKNOWN
    if facts.is_silent:
        # A breakpoint may have been hit behind a network that is cut.
        return Word.SUSPENDED if facts.vm.stands else Word.UNKNOWN
    if facts.vm.stands:
        unseen = passes_by(facts.vm, now) and facts.word is not Word.SUSPENDED
        return Word.RUNNING if unseen else Word.SUSPENDED
    if facts.vm.vm is Vm.RUNNING and facts.word is Word.SUSPENDED and facts.stood_until is not None:
        return Word.SUSPENDED if now < facts.stood_until + RUNNING_AFTER else Word.RUNNING
    return Word.RUNNING if facts.vm.vm is Vm.RUNNING else Word.UNKNOWN


def word_changes_at(facts: Facts) -> datetime | None:
    """Return when word_on() says something else with nothing else changed, if ever."""
    if facts.vm is None:
        return None
    if facts.vm.stands:
        return None if facts.word is Word.SUSPENDED else facts.vm.since + STANDS_AFTER
    if facts.word is Word.SUSPENDED and facts.stood_until is not None:
        return facts.stood_until + RUNNING_AFTER
    return None


def _towards_the_end(session: Session, facts: Facts, now: datetime) -> Action:
    # The port goes first: a session half ended must not take a new IDE.
    if facts.port_open:
        return ClosePort()
    if facts.forwarder_stopped or facts.presence is Presence.GONE:
        return Finish()
    if now >= session.expires_at + FORWARDER_ENDS_ITSELF:
        return Finish()
    return StopForwarder()


def _gone(session: Session, facts: Facts, now: datetime) -> Action:
    since = facts.gone_since or now
    if session.workload is None or now >= since + GONE_AFTER:
        return EndSession(EndReason.TARGET_GONE, facts.reason or f"{session.target} is gone.")
    return Wait(since + GONE_AFTER)


def _pause_budget(session: Session, facts: Facts, now: datetime) -> Action:
    if session.pause_budget is None or facts.vm is None or facts.vm.vm is not Vm.SUSPENDED:
        return Wait(session.expires_at)
    ends = facts.vm.since + session.pause_budget
    warn = ends - min(WARN_BEFORE, session.pause_budget / 2)
    if now >= ends:
        return ResumeVm()
    if now >= warn and not facts.warned:
        return WarnOfResume(ends)
    return Wait(min(session.expires_at, ends if facts.warned else warn))
