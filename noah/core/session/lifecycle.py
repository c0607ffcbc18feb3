"""What to do next for a session: one function of what was asked for, what is true and the time.

The rules stand in the order in which they are judged. Nothing here remembers anything: a restart of the gateway,
a killed forwarder, a replaced pod are seen by the next look and need no code of their own.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from noah.core.session.session import EndReason, Facts, Presence, Session, Vm, VmState
from noah.core.session.target import Target

# A rollout has its successor within seconds; a Recreate rollout or a node that is drained needs a moment.
GONE_AFTER = timedelta(seconds=60)
# Debuggers stop the VM for a moment and resume it by themselves: an exception that nobody waits for, a condition that
# does not hold. Only a stop that lasts is reported; the probe looks twice, with checkurl's deadline between, so that is
# in time.
STANDS_AFTER = timedelta(seconds=0.25)
# Stepping resumes and stops again and again; the report goes on saying suspended until the last lasting stop is so long
# ago, which errs on the side of the person who debugs.
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
    vm: Vm


@dataclass(frozen=True, slots=True)
class StopForwarder:
    pass


@dataclass(frozen=True, slots=True)
class Report:
    vm: Vm


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
class End:
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
    | Report
    | Follow
    | WarnOfResume
    | ResumeVm
    | End
    | Finish
    | Wait
)


def next_action(session: Session, facts: Facts, now: datetime) -> Action:
    if session.is_over:
        return _towards_the_end(session, facts, now)
    if session.has_expired(now):
        return End(EndReason.EXPIRED)
    if not facts.port_open:
        # Even while the target is away: who connects early is told why, instead of being refused by the machine.
        return OpenPort()
    if not facts.looked:
        return Wait(session.expires_at)
    match facts.presence:
        case Presence.GONE:
            return _gone(session, facts, now)
        case Presence.MOVED if facts.attached is None and facts.successor is not None:
            return Follow(facts.successor)
        case Presence.NOT_READY:
            return Wait(session.expires_at)
    if not facts.forwarder_alive:
        return StartForwarder(vm_to_report(facts, now))
    return _while_ready(session, facts, now)


def passes_by(vm: VmState | None, now: datetime) -> bool:
    """It stands, and has not stood for so long yet that anybody is told."""
    return vm is not None and vm.stands and now < vm.since + STANDS_AFTER


def vm_to_report(facts: Facts, now: datetime) -> Vm:
    """What the target's probe should believe. A thread that is held may hold the lock that checkurl wants."""
    if facts.attached is None or facts.vm is None:
        # A debugger that has gone took its suspends with it; the report lags behind it by the same grace.
        return Vm.RUNNING
    if facts.vm.stands:
        unseen = passes_by(facts.vm, now) and facts.reported is not Vm.SUSPENDED
        return Vm.RUNNING if unseen else Vm.SUSPENDED
    if facts.vm.vm is Vm.RUNNING and facts.reported is Vm.SUSPENDED and facts.stood_until is not None:
        return Vm.SUSPENDED if now < facts.stood_until + RUNNING_AFTER else Vm.RUNNING
    return facts.vm.vm


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
        return End(EndReason.TARGET_GONE, facts.reason or f"{session.target} is gone.")
    return Wait(since + GONE_AFTER)


def _while_ready(session: Session, facts: Facts, now: datetime) -> Action:
    vm = vm_to_report(facts, now)
    if facts.reported is not vm or facts.reported_until is None or facts.reported_until < session.expires_at:
        return Report(vm)
    paused = _over_budget(session, facts, now)
    if not isinstance(paused, Wait):
        return paused
    return Wait(min(paused.until, _report_changes(session, facts)))


def _report_changes(session: Session, facts: Facts) -> datetime:
    """When vm_to_report() would say something else, with nothing else changed."""
    if facts.vm is not None and facts.vm.stands and facts.reported is not Vm.SUSPENDED:
        return facts.vm.since + STANDS_AFTER
    if facts.vm is not None and facts.reported is Vm.SUSPENDED and facts.stood_until is not None:
        return facts.stood_until + RUNNING_AFTER if not facts.vm.stands else session.expires_at
    return session.expires_at


def _over_budget(session: Session, facts: Facts, now: datetime) -> Action:
    if session.pause_budget is None or facts.vm is None or facts.vm.vm is not Vm.SUSPENDED:
        return Wait(session.expires_at)
    ends = facts.vm.since + session.pause_budget
    warn = ends - min(WARN_BEFORE, session.pause_budget / 2)
    if now >= ends:
        return ResumeVm()
    if now >= warn and not facts.warned:
        return WarnOfResume(ends)
    return Wait(min(session.expires_at, ends if facts.warned else warn))
