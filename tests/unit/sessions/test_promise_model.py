"""The promise, tried on a simulated pod: every sequence of what can happen, against the real lifecycle and the probe.

    never killed while suspended, before the session's end
    never alive for longer than the bound when dead and not suspended

A second is the smallest time; what happens between two seconds happens in every order. The probe is the table that
inpod/liveness.sh carries, which test_liveness.py holds against the script itself.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

from noah.core.session.lifecycle import StartForwarder, next_action, word_on
from noah.core.session.session import Attachment, Facts, Presence, Session, Vm, VmState, Word
from noah.core.session.target import PodTarget
from tests.principals import ADA

PERIOD, THRESHOLD = 2, 3  # the quickest probe that inject writes: (THRESHOLD - 1) * PERIOD is 4 s
FRESH = 3  # seconds, in whole ones: liveness.sh
LENGTH = 90  # seconds of the session
KEEPALIVE = 35  # seconds until both ends of a cut connection give it up
SILENT = 3  # seconds until the gateway notices that the JVM's network does not answer, rounded up
BOUND = 2 * PERIOD * THRESHOLD
# What keeps the last sure word from the probe also hides a dead app, as long as a debugger is attached.
NOW = datetime(2026, 5, 4, tzinfo=UTC)
SESSION = Session(
    id="s-1",
    target=PodTarget("dev", "team-a", "shop", "app"),
    workload=None,
    app="shop",
    environment="test",
    owner=ADA,
    port=20000,
    created_at=NOW - timedelta(hours=1),
    expires_at=NOW + timedelta(hours=1),
    allow=(),
)
ATTACHED = Attachment(address="127.0.0.1:5000", since=NOW)


class World(NamedTuple):
    # in the pod
    attached: bool = False
    suspended: bool = False
    dead: bool = False
    tool: bool = False  # a second JVM listens at the agent's port
    full: bool = False  # /dev/shm
    socat: bool = True
    word: Word | None = Word.FREE  # None: it cannot be read
    age: int = 0  # of the word
    # the gateway
    up: bool = True
    frozen: bool = False
    api: bool = True
    network: bool = True
    held: bool = True
    believes: Vm | None = None  # what it saw of the VM; None: nobody is attached
    cut_for: int = 0
    # the kubelet
    failures: int = 0
    to_probe: int = 1  # seconds to the next one
    left: int = LENGTH  # of the session
    doomed_for: int = 0  # seconds that the app has been dead, not suspended, and nobody could take it for suspended
    killed: bool = False
    wrong: str = ""


def facts_of(w: World) -> Facts:
    vm = None if w.believes is None else VmState(vm=w.believes, since=NOW - timedelta(seconds=1))
    return Facts(
        presence=Presence.READY,
        forwarder_alive=w.socat,
        forwarder_held=w.held,
        port_open=True,
        attached=ATTACHED if vm is not None else None,
        vm=vm,
        is_silent=w.cut_for >= SILENT,
        word=w.word,
    )


def is_spared(w: World) -> bool:
    """The table of inpod/liveness.sh."""
    if w.left <= 0:
        return False
    if w.word is Word.SUSPENDED and w.age <= FRESH:
        return True
    if not w.attached:
        return False
    state = w.word if w.word is Word.SUSPENDED or w.age <= FRESH else None
    return state is not Word.RUNNING


def detached(w: World) -> World:
    """A JVM whose debugger has gone runs; an agent that finds its port taken ends the JVM, which is a new one then."""
    w = w._replace(attached=False, suspended=False)
    return restarted(w) if w.tool else w


def restarted(w: World) -> World:
    return w._replace(attached=False, suspended=False, dead=False, tool=False, failures=0, doomed_for=0, believes=None)


def attach(w: World) -> World:
    free = w.up and not w.frozen and w.network and w.socat and not w.attached and w.believes is None and w.left > 0
    return w._replace(attached=True, believes=Vm.RUNNING) if free else w


def stop(w: World) -> World:
    """A breakpoint is hit, which a dead app does not do. What it sends arrives, or does not."""
    if not w.attached or w.suspended or w.dead:
        return w
    seen = w.up and not w.frozen and w.network
    return w._replace(suspended=True, believes=Vm.SUSPENDED if seen else w.believes)


def resume(w: World) -> World:
    if not w.suspended or not (w.up and not w.frozen and w.network):
        return w
    return w._replace(suspended=False, believes=Vm.RUNNING)


def detach(w: World) -> World:
    if not w.attached or w.frozen or not w.network:
        return w  # nobody hears of it
    return detached(w)._replace(believes=None)


def kill_gateway(w: World) -> World:
    w = w._replace(up=False, held=False, believes=None)
    return detached(w) if w.network and w.attached else w


def freeze(w: World) -> World:
    return w._replace(frozen=True)


def cut_api(w: World) -> World:
    return w._replace(api=False, held=False)


def cut_network(w: World) -> World:
    return w._replace(network=False)


def fill(w: World) -> World:
    return w._replace(full=True)


def second_jvm(w: World) -> World:
    return w._replace(tool=w.attached)  # while nobody is attached the port is not free


def kill_socat(w: World) -> World:
    return w._replace(socat=False, held=False)  # its children go on


def die(w: World) -> World:
    return w if w.suspended else w._replace(dead=True)


def second(w: World) -> World:
    """A second passes: the gateway, the network, the kubelet."""
    if w.killed or w.wrong:
        return w
    w = w._replace(left=w.left - 1, age=min(w.age + 1, 99), cut_for=0 if w.network else w.cut_for + 1)
    if w.left == 0 and w.attached:
        w = detached(w)._replace(believes=None)  # the forwarder's own deadline
    if w.cut_for == KEEPALIVE:
        w = (detached(w) if w.attached else w)._replace(believes=None)
    if w.up and not w.frozen and w.left > 0:
        w = gateway(w)
    return kubelet(w)


def gateway(w: World) -> World:
    if isinstance(next_action(SESSION, facts_of(w), NOW), StartForwarder) and w.api:
        w = w._replace(held=True, socat=True)
    if not w.held or not w.api:
        return w
    if w.full:
        return w._replace(word=None)
    return w._replace(word=word_on(facts_of(w), NOW), age=0)


def kubelet(w: World) -> World:
    hidden = w.suspended or (w.attached and not (w.word is Word.RUNNING and w.age == 0))
    w = w._replace(doomed_for=w.doomed_for + 1 if w.dead and not hidden else 0)
    w = w._replace(to_probe=w.to_probe - 1)
    if w.to_probe <= 0:
        healthy = is_spared(w) or not (w.suspended or w.dead)
        w = w._replace(to_probe=PERIOD, failures=0 if healthy else w.failures + 1)
    if w.failures >= THRESHOLD:
        wrong = "killed at a breakpoint" if w.suspended and w.left > 0 else ""
        return restarted(w)._replace(killed=True, wrong=wrong)
    return w._replace(wrong="dead and hidden") if w.doomed_for > BOUND else w


@cache
def seconds(w: World, count: int) -> World:
    for _ in range(count):
        w = second(w)
    return w


EVENTS: dict[str, Callable[[World], World]] = {
    "attach": attach,
    "stop": stop,
    "resume": resume,
    "detach": detach,
    "gateway killed": kill_gateway,
    "gateway frozen": freeze,
    "API cut": cut_api,
    "network cut": cut_network,
    "/dev/shm full": fill,
    "second JVM": second_jvm,
    "socat killed": kill_socat,
    "app dead": die,
    "a second passes": second,
    "time passes": lambda w: seconds(w, 20),
}


@cache
def happens(event: str, w: World) -> World:
    return w if w.killed or w.wrong else EVENTS[event](w)


def sequences(length: int) -> Iterator[tuple[tuple[str, ...], World]]:
    """All of that length or less, with the world after each."""
    found: list[tuple[tuple[str, ...], World]] = [((), World())]
    for _ in range(length):
        found = [((*story, event), happens(event, w)) for story, w in found for event in EVENTS]
        yield from found


def test_nothing_kills_a_jvm_at_a_breakpoint_and_nothing_dead_is_hidden() -> None:
    tried, at_breakpoints, dead = 0, 0, 0
    for story, w in sequences(5):
        tried += 1
        at_breakpoints += w.suspended
        dead += w.dead
        end = seconds(w, LENGTH + BOUND + PERIOD)
        assert not end.wrong, (story, end)
        assert end.killed or not end.dead, (story, end)
    assert tried == sum(len(EVENTS) ** n for n in range(1, 6))
    # A model in which nothing ever happens would pass as well.
    assert at_breakpoints > 10_000
    assert dead > 10_000


def test_the_model_finds_what_was_wrong() -> None:
    """Stories that killed or hid before: the model without the rule that mends each must say so."""
    believed_for_ever = World(attached=True, believes=Vm.RUNNING, word=Word.RUNNING, api=False, held=False)
    fooled = stop(believed_for_ever)
    assert not seconds(fooled, 20).wrong
    for _ in range(20):
        fooled = second(fooled._replace(age=0))
    assert fooled.wrong == "killed at a breakpoint"

    left_suspended = die(kill_gateway(World(attached=True, suspended=True, believes=Vm.SUSPENDED, word=Word.SUSPENDED)))
    assert seconds(left_suspended, BOUND).killed
    assert not seconds(left_suspended._replace(attached=True), BOUND).killed
