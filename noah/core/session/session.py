"""One debug session: who wants to debug what, and until when.

A Session holds what people asked for and how it ended. What is true of the target right now is in Facts, is looked up
again each time, and is never stored. The status that people see is a function of the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from noah.core.session.principal import Principal
from noah.core.session.target import Target


class Status(StrEnum):
    PENDING = "pending"  # asked for
    STARTING = "starting"  # the forwarder is not up
    READY = "ready"  # the port is open, nobody is attached
    ATTACHED = "attached"
    SUSPENDED = "suspended"  # the whole VM stands still because a debugger asked for it
    WAITING = "waiting"  # the target is gone or not ready; the session follows it
    ENDING = "ending"
    ENDED = "ended"


class EndReason(StrEnum):
    CLOSED = "closed"
    EXPIRED = "expired"
    CANCELED = "canceled"  # by somebody else; ended_by says by whom
    TARGET_GONE = "target_gone"
    FAILED = "failed"  # detail has the sentence
    RIGHT_LOST = "right_lost"  # its owner may not debug the target any more; detail has the sentence


class Share(StrEnum):
    """The ways in which an owner lets a colleague use a session. They need the right to debug all the same."""

    JOIN = "join"  # attach from an address of their own, extend it, resume
    TAKE = "take"  # become its owner as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    id: str
    target: Target  # the JVM that it is on; changes when the session follows its workload to another pod
    workload: str | None  # "Deployment/shop": where a successor comes from; None: there will be none
    app: str
    environment: str  # in which its target is, or was when it was there last
    owner: Principal
    port: int
    created_at: datetime
    expires_at: datetime
    # Networks in CIDR notation that a debugger may come from.
    allow: tuple[str, ...]
    shares: Mapping[str, Share] = field(default_factory=dict)  # by the IDs of colleagues (Principal.id)
    allow_exit: bool = False  # let VirtualMachine.Exit pass
    may_restart: bool = False  # the app may be restarted to get its debug flags; a host's only
    pause_budget: timedelta | None = None  # how long the whole VM may stand still; None: as long as they like
    # The end was asked for when end_reason is set, and is over when ended_at is.
    end_reason: EndReason | None = None
    end_detail: str | None = None
    ended_by: Principal | None = None
    ended_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        return self.end_reason is not None

    def has_expired(self, now: datetime) -> bool:
        return now >= self.expires_at


class Vm(StrEnum):
    """The JVM's state, as far as passing JDWP traffic shows it."""

    RUNNING = "running"
    THREAD = "thread-suspended"  # a debugger holds one or some threads; the VM as a whole runs
    SUSPENDED = "suspended"  # the whole VM stands still
    UNKNOWN = "unknown"  # traffic that the observer did not understand; treated as suspended until a sure sign


@dataclass(frozen=True, slots=True, kw_only=True)
class VmState:
    vm: Vm
    since: datetime
    thread: str | None = None  # the thread of the stop
    location: str | None = None  # "OrderService.compute:88", as much of it as is known

    @property
    def stands(self) -> bool:
        """A thread that is held may hold the lock that checkurl wants: for the probe that is a VM that stands."""
        return self.vm in (Vm.SUSPENDED, Vm.THREAD)


class Word(StrEnum):
    """The gateway's word on a JVM, written into its target for the liveness probe; inpod/liveness.sh reads it."""

    FREE = "free"  # nobody is attached through the gateway
    RUNNING = "running"
    SUSPENDED = "suspended"  # the whole VM, or a thread that may hold the lock that checkurl wants
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """The one debugger that is attached through the session's port."""

    address: str  # the client's address and port, "10.1.2.3:51514"
    since: datetime
    debugger: str | None = None  # "IntelliJ IDEA", if what it asks shows it
    vm_name: str | None = None  # what the JVM answered to VirtualMachine.Version


class Presence(StrEnum):
    """The state of a target as a whole."""

    READY = "ready"  # runs, and its agent can be reached
    NOT_READY = "not ready"  # is coming up, or restarting
    LEAVING = "leaving"  # is being deleted, and runs until it has ended
    GONE = "gone"  # and nothing has taken its place
    MOVED = "moved"  # a successor of the same workload is ready
    REMOVED = "removed"  # from the configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The observed truth about a session's target."""

    presence: Presence
    reason: str = ""  # one sentence, why it is not ready or cannot be debugged
    gone_since: datetime | None = None
    successor: Target | None = None  # with presence MOVED, or LEAVING
    forwarder_alive: bool = False
    forwarder_held: bool = False  # the gateway's words get to it
    taken: bool = False  # a debugger has the agent's only slot
    taken_elsewhere: bool = False  # through the gateway that had the session before this one, and may still live
    port_open: bool = False
    attached: Attachment | None = None
    vm: VmState | None = None
    is_silent: bool = False  # the JVM's side of the connection gives no sign of life: what it does is not known
    stood_until: datetime | None = None  # the end of the last stop that lasted (lifecycle.STANDS_AFTER)
    word: Word | None = None  # the last one that was written in the target; None: none since this gateway began
    forwarder_stopped: bool = False  # stop was asked for at the session's end, and seen to be done
    warned: bool = False  # the holder has been warned that the pause budget ends soon
    looked: bool = True  # False: nobody has looked yet; of the target nothing is known


def status_of(session: Session, facts: Facts) -> Status:
    if session.ended_at is not None:
        return Status.ENDED
    if session.is_over:
        return Status.ENDING
    if facts.attached is not None:
        return Status.SUSPENDED if facts.vm is not None and facts.vm.vm is Vm.SUSPENDED else Status.ATTACHED
    if not facts.looked:
        return Status.PENDING
    if facts.presence is not Presence.READY or facts.taken:
        return Status.WAITING
    if not (facts.forwarder_alive and facts.forwarder_held and facts.port_open):
        return Status.STARTING
    return Status.READY
