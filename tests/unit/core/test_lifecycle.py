"""The rules of a session's life, each as one row: what is asked for, what is true, what comes next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from noah.core.session.lifecycle import (
    GONE_AFTER,
    RUNNING_AFTER,
    STANDS_AFTER,
    Action,
    ClosePort,
    EndSession,
    Finish,
    Follow,
    OpenPort,
    ResumeVm,
    StartForwarder,
    StopForwarder,
    Wait,
    WarnOfResume,
    next_action,
    word_changes_at,
    word_on,
)
from noah.core.session.session import (
    Attachment,
    EndReason,
    Facts,
    Presence,
    Session,
    Status,
    Vm,
    VmState,
    Word,
    status_of,
)
from noah.core.session.target import PodTarget
from tests.principals import person

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
TARGET = PodTarget("dev", "team-a", "shop-7d9f-abcde", "app")
SUCCESSOR = replace(TARGET, pod="shop-7d9f-fghij")

ASKED = Session(
    id="s-1",
    target=TARGET,
    workload="Deployment/shop",
    app="shop",
    environment="test",
    owner=person("ada"),
    port=20000,
    created_at=NOW - HOUR,
    expires_at=NOW + HOUR,
    allow=("127.0.0.1",),
)
NOT_LOOKED = Facts(presence=Presence.NOT_READY, looked=False)
READY = Facts(
    presence=Presence.READY,
    forwarder_alive=True,
    port_open=True,
    forwarder_held=True,
    word=Word.FREE,
)
ADA = Attachment(address="127.0.0.1:5000", since=NOW)


def vm(state: Vm, *, ago: float = 0) -> VmState:
    return VmState(vm=state, since=NOW - timedelta(seconds=ago))


def attached(state: Vm, *, ago: float = 0, word: Word = Word.RUNNING, **more: object) -> Facts:
    return replace(READY, attached=ADA, vm=vm(state, ago=ago), word=word, **more)  # type: ignore[arg-type]


OVER = replace(ASKED, end_reason=EndReason.CLOSED)
BUDGET = replace(ASKED, pause_budget=timedelta(minutes=10))
GONE = replace(READY, presence=Presence.GONE, forwarder_alive=False, gone_since=NOW)

RULES = {
    "a new session opens its port": (ASKED, NOT_LOOKED, OpenPort()),
    "the port opens while the pod is away": (ASKED, replace(GONE, port_open=False), OpenPort()),
    "nothing is decided before a look": (ASKED, replace(NOT_LOOKED, port_open=True), Wait(NOW + HOUR)),
    "a pod that is not ready is waited for": (
        ASKED,
        replace(READY, presence=Presence.NOT_READY, forwarder_alive=False),
        Wait(NOW + HOUR),
    ),
    "a ready pod without a forwarder gets one": (
        ASKED,
        replace(READY, forwarder_alive=False, word=None),
        StartForwarder(),
    ),
    "a killed socat at a breakpoint is started again": (
        ASKED,
        attached(Vm.SUSPENDED, ago=1, forwarder_alive=False),
        StartForwarder(),
    ),
    "a forwarder that is not held is held again": (ASKED, replace(READY, forwarder_held=False), StartForwarder()),
    "all is well": (ASKED, READY, Wait(NOW + HOUR)),
    "a moved workload is followed": (
        ASKED,
        replace(READY, presence=Presence.MOVED, successor=SUCCESSOR),
        Follow(SUCCESSOR),
    ),
    "a debugger at a dying pod is left alone": (
        ASKED,
        replace(attached(Vm.RUNNING), presence=Presence.LEAVING, successor=SUCCESSOR, forwarder_held=False),
        Wait(NOW + HOUR),
    ),
    "a dying pod without a debugger is left": (
        ASKED,
        replace(READY, presence=Presence.LEAVING, successor=SUCCESSOR),
        Follow(SUCCESSOR),
    ),
    "a dying pod has all of its grace period": (
        ASKED,
        replace(READY, presence=Presence.LEAVING, forwarder_alive=False),
        Wait(NOW + HOUR),
    ),
    "a connection to a pod that has gone is not followed before it ends": (
        ASKED,
        replace(attached(Vm.RUNNING), presence=Presence.MOVED, successor=SUCCESSOR),
        Wait(NOW + HOUR),
    ),
    "a workload may take a while to replace a pod": (ASKED, GONE, Wait(NOW + GONE_AFTER)),
    "a workload without a pod ends the session": (
        ASKED,
        replace(GONE, gone_since=NOW - GONE_AFTER, reason="Gone."),
        EndSession(EndReason.TARGET_GONE, "Gone."),
    ),
    "a pod of no workload ends the session at once": (
        replace(ASKED, workload=None),
        replace(GONE, reason="Gone."),
        EndSession(EndReason.TARGET_GONE, "Gone."),
    ),
    "time is up": (replace(ASKED, expires_at=NOW), attached(Vm.SUSPENDED), EndSession(EndReason.EXPIRED)),
    "time is up before anybody looked": (replace(ASKED, expires_at=NOW), NOT_LOOKED, EndSession(EndReason.EXPIRED)),
    "the port goes first": (OVER, attached(Vm.SUSPENDED), ClosePort()),
    "then the forwarder": (OVER, replace(READY, port_open=False), StopForwarder()),
    "a gateway that comes back stops it unseen": (OVER, NOT_LOOKED, StopForwarder()),
    "then it is over": (OVER, replace(READY, port_open=False, forwarder_stopped=True), Finish()),
    "what the configuration has no more ends at once": (
        ASKED,
        replace(GONE, presence=Presence.REMOVED, reason="Removed."),
        EndSession(EndReason.TARGET_GONE, "Removed."),
    ),
    "what the configuration has no more is left in order": (
        OVER,
        replace(GONE, presence=Presence.REMOVED, port_open=False),
        StopForwarder(),
    ),
    "a gone pod needs no stop": (OVER, replace(GONE, port_open=False), Finish()),
    "a forwarder out of reach ends by itself": (
        replace(OVER, expires_at=NOW - timedelta(minutes=1)),
        replace(READY, port_open=False),
        Finish(),
    ),
    "a pause within its budget": (
        BUDGET,
        attached(Vm.SUSPENDED, ago=60, word=Word.SUSPENDED),
        Wait(NOW + timedelta(minutes=8)),
    ),
    "the holder is warned": (
        BUDGET,
        attached(Vm.SUSPENDED, ago=9 * 60, word=Word.SUSPENDED),
        WarnOfResume(NOW + timedelta(minutes=1)),
    ),
    "and warned once": (
        BUDGET,
        attached(Vm.SUSPENDED, ago=9 * 60, word=Word.SUSPENDED, warned=True),
        Wait(NOW + timedelta(minutes=1)),
    ),
    "then the VM is resumed": (
        BUDGET,
        attached(Vm.SUSPENDED, ago=600, word=Word.SUSPENDED, warned=True),
        ResumeVm(),
    ),
    "a budget counts while the pod is not reached": (
        BUDGET,
        attached(Vm.SUSPENDED, ago=600, word=Word.SUSPENDED, warned=True, forwarder_held=False),
        ResumeVm(),
    ),
    "no budget, no end": (ASKED, attached(Vm.SUSPENDED, ago=36000, word=Word.SUSPENDED), Wait(NOW + HOUR)),
}


@pytest.mark.parametrize(("session", "facts", "action"), RULES.values(), ids=RULES)
def test_what_comes_next(session: Session, facts: Facts, action: Action) -> None:
    assert next_action(session, facts, NOW) == action


STATUS = {
    "nobody has looked": (ASKED, NOT_LOOKED, Status.PENDING),
    "no forwarder yet": (ASKED, replace(READY, forwarder_alive=False), Status.STARTING),
    "not held yet": (ASKED, replace(READY, forwarder_held=False), Status.STARTING),
    "no port yet": (ASKED, replace(READY, port_open=False), Status.STARTING),
    "ready": (ASKED, READY, Status.READY),
    "attached": (ASKED, attached(Vm.RUNNING), Status.ATTACHED),
    "one thread is held": (ASKED, attached(Vm.THREAD), Status.ATTACHED),
    "at a breakpoint": (ASKED, attached(Vm.SUSPENDED), Status.SUSPENDED),
    "at a breakpoint while the API server is away": (
        ASKED,
        replace(attached(Vm.SUSPENDED), presence=Presence.NOT_READY),
        Status.SUSPENDED,
    ),
    "the pod restarts": (ASKED, replace(READY, presence=Presence.NOT_READY), Status.WAITING),
    "somebody is attached past the gateway": (ASKED, replace(READY, taken=True), Status.WAITING),
    "our own debugger takes the slot": (ASKED, replace(attached(Vm.RUNNING), taken=True), Status.ATTACHED),
    "being ended": (OVER, attached(Vm.SUSPENDED), Status.ENDING),
    "ended": (replace(OVER, ended_at=NOW), READY, Status.ENDED),
}


@pytest.mark.parametrize(("session", "facts", "status"), STATUS.values(), ids=STATUS)
def test_the_status_is_a_function_of_what_was_asked_and_what_is_true(
    session: Session, facts: Facts, status: Status
) -> None:
    assert status_of(session, facts) is status


def at(seconds_ago: float) -> datetime:
    return NOW - timedelta(seconds=seconds_ago)


WORDS = {
    "nobody is attached": (READY, Word.FREE, None),
    "a debugger left at a breakpoint": (replace(READY, word=Word.SUSPENDED), Word.FREE, None),
    "nothing is known of it yet": (replace(attached(Vm.RUNNING), vm=None), Word.UNKNOWN, None),
    "running": (attached(Vm.RUNNING), Word.RUNNING, None),
    "a breakpoint that lasts": (attached(Vm.SUSPENDED, ago=1), Word.SUSPENDED, at(1) + STANDS_AFTER),
    "a stop that a debugger resumes by itself": (
        attached(Vm.SUSPENDED, ago=0.05),
        Word.RUNNING,
        at(0.05) + STANDS_AFTER,
    ),
    "such stops do not change a word of suspended": (
        attached(Vm.SUSPENDED, ago=0.05, word=Word.SUSPENDED, stood_until=at(60)),
        Word.SUSPENDED,
        None,
    ),
    "running between such stops": (
        attached(Vm.RUNNING, ago=0.05, word=Word.SUSPENDED, stood_until=at(60)),
        Word.RUNNING,
        at(60) + RUNNING_AFTER,
    ),
    "a held thread may hold checkurl's lock": (attached(Vm.THREAD, ago=1), Word.SUSPENDED, at(1) + STANDS_AFTER),
    "an unknown state": (attached(Vm.UNKNOWN), Word.UNKNOWN, None),
    "a step": (
        attached(Vm.RUNNING, ago=1, word=Word.SUSPENDED, stood_until=at(1)),
        Word.SUSPENDED,
        at(1) + RUNNING_AFTER,
    ),
    "a VM that has run for a while": (
        attached(Vm.RUNNING, ago=4, word=Word.SUSPENDED, stood_until=at(4)),
        Word.RUNNING,
        at(4) + RUNNING_AFTER,
    ),
}


@pytest.mark.parametrize(("facts", "word", "changes_at"), WORDS.values(), ids=WORDS)
def test_the_word_is_a_function_of_what_is_true(facts: Facts, word: Word, changes_at: datetime | None) -> None:
    assert (word_on(facts, NOW), word_changes_at(facts)) == (word, changes_at)
