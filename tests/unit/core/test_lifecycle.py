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
    End,
    Finish,
    Follow,
    OpenPort,
    Report,
    ResumeVm,
    StartForwarder,
    StopForwarder,
    Wait,
    WarnOfResume,
    next_action,
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
    status_of,
)
from noah.core.session.target import PodTarget

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
TARGET = PodTarget("dev", "team-a", "shop-7d9f-abcde", "app")
SUCCESSOR = replace(TARGET, pod="shop-7d9f-fghij")

ASKED = Session(
    id="s-1",
    target=TARGET,
    workload="Deployment/shop",
    app="shop",
    owner="ada",
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
    reported=Vm.RUNNING,
    reported_until=NOW + HOUR,
)
ADA = Attachment(address="127.0.0.1:5000", since=NOW)


def vm(state: Vm, *, ago: float = 0) -> VmState:
    return VmState(vm=state, since=NOW - timedelta(seconds=ago))


def attached(state: Vm, *, ago: float = 0, reported: Vm = Vm.RUNNING, **more: object) -> Facts:
    return replace(READY, attached=ADA, vm=vm(state, ago=ago), reported=reported, **more)  # type: ignore[arg-type]


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
        replace(READY, forwarder_alive=False, reported=None),
        StartForwarder(Vm.RUNNING),
    ),
    "a killed socat at a breakpoint is started as suspended": (
        ASKED,
        attached(Vm.SUSPENDED, ago=1, forwarder_alive=False),
        StartForwarder(Vm.SUSPENDED),
    ),
    "all is well": (ASKED, READY, Wait(NOW + HOUR)),
    "a lost report is written again": (ASKED, replace(READY, reported=None), Report(Vm.RUNNING)),
    "an extended session is reported again": (
        replace(ASKED, expires_at=NOW + 2 * HOUR),
        READY,
        Report(Vm.RUNNING),
    ),
    "a breakpoint that lasts is reported": (ASKED, attached(Vm.SUSPENDED, ago=1), Report(Vm.SUSPENDED)),
    "a stop that a debugger resumes by itself is not": (
        ASKED,
        attached(Vm.SUSPENDED, ago=0.05),
        Wait(NOW - timedelta(seconds=0.05) + STANDS_AFTER),
    ),
    "such stops do not keep the report at suspended": (
        ASKED,
        attached(Vm.SUSPENDED, ago=0.05, reported=Vm.SUSPENDED, stood_until=NOW - timedelta(seconds=60)),
        Wait(NOW + HOUR),
    ),
    "nor does running between them": (
        ASKED,
        attached(Vm.RUNNING, ago=0.05, reported=Vm.SUSPENDED, stood_until=NOW - timedelta(seconds=60)),
        Report(Vm.RUNNING),
    ),
    "a held thread may hold checkurl's lock": (ASKED, attached(Vm.THREAD, ago=1), Report(Vm.SUSPENDED)),
    "an unknown state is reported as such": (ASKED, attached(Vm.UNKNOWN), Report(Vm.UNKNOWN)),
    "a step does not write": (
        ASKED,
        attached(Vm.RUNNING, ago=1, reported=Vm.SUSPENDED, stood_until=NOW - timedelta(seconds=1)),
        Wait(NOW - timedelta(seconds=1) + RUNNING_AFTER),
    ),
    "a VM that has run for a while is reported as running": (
        ASKED,
        attached(Vm.RUNNING, ago=4, reported=Vm.SUSPENDED, stood_until=NOW - timedelta(seconds=4)),
        Report(Vm.RUNNING),
    ),
    "a debugger that left at a breakpoint is reported": (
        ASKED,
        replace(READY, reported=Vm.SUSPENDED),
        Report(Vm.RUNNING),
    ),
    "a moved workload is followed": (
        ASKED,
        replace(READY, presence=Presence.MOVED, successor=SUCCESSOR),
        Follow(SUCCESSOR),
    ),
    "a debugger at a dying pod is left alone": (
        ASKED,
        replace(attached(Vm.RUNNING), presence=Presence.MOVED, successor=SUCCESSOR),
        Wait(NOW + HOUR),
    ),
    "a workload may take a while to replace a pod": (ASKED, GONE, Wait(NOW + GONE_AFTER)),
    "a workload without a pod ends the session": (
        ASKED,
        replace(GONE, gone_since=NOW - GONE_AFTER, reason="Gone."),
        End(EndReason.TARGET_GONE, "Gone."),
    ),
    "a pod of no workload ends the session at once": (
        replace(ASKED, workload=None),
        replace(GONE, reason="Gone."),
        End(EndReason.TARGET_GONE, "Gone."),
    ),
    "time is up": (replace(ASKED, expires_at=NOW), attached(Vm.SUSPENDED), End(EndReason.EXPIRED)),
    "time is up before anybody looked": (replace(ASKED, expires_at=NOW), NOT_LOOKED, End(EndReason.EXPIRED)),
    "the port goes first": (OVER, attached(Vm.SUSPENDED), ClosePort()),
    "then the forwarder": (OVER, replace(READY, port_open=False), StopForwarder()),
    "a gateway that comes back stops it unseen": (OVER, NOT_LOOKED, StopForwarder()),
    "then it is over": (OVER, replace(READY, port_open=False, forwarder_stopped=True), Finish()),
    "a gone pod needs no stop": (OVER, replace(GONE, port_open=False), Finish()),
    "a forwarder out of reach ends by itself": (
        replace(OVER, expires_at=NOW - timedelta(minutes=1)),
        replace(READY, port_open=False),
        Finish(),
    ),
    "a pause within its budget": (
        BUDGET,
        attached(Vm.SUSPENDED, ago=60, reported=Vm.SUSPENDED),
        Wait(NOW + timedelta(minutes=8)),
    ),
    "the holder is warned": (
        BUDGET,
        attached(Vm.SUSPENDED, ago=9 * 60, reported=Vm.SUSPENDED),
        WarnOfResume(NOW + timedelta(minutes=1)),
    ),
    "and warned once": (
        BUDGET,
        attached(Vm.SUSPENDED, ago=9 * 60, reported=Vm.SUSPENDED, warned=True),
        Wait(NOW + timedelta(minutes=1)),
    ),
    "then the VM is resumed": (
        BUDGET,
        attached(Vm.SUSPENDED, ago=600, reported=Vm.SUSPENDED, warned=True),
        ResumeVm(),
    ),
    "no budget, no end": (ASKED, attached(Vm.SUSPENDED, ago=36000, reported=Vm.SUSPENDED), Wait(NOW + HOUR)),
}


@pytest.mark.parametrize(("session", "facts", "action"), RULES.values(), ids=RULES)
def test_what_comes_next(session: Session, facts: Facts, action: Action) -> None:
    assert next_action(session, facts, NOW) == action


STATUS = {
    "nobody has looked": (ASKED, NOT_LOOKED, Status.PENDING),
    "no forwarder yet": (ASKED, replace(READY, forwarder_alive=False), Status.STARTING),
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
