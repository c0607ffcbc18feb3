"""What passes between the gateway and inpod/forwarder.sh: its arguments, and the lines it answers with."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import ceil

from noah.core.session.session import Session, Vm

LAST_LINE = "done"


class Agent(StrEnum):
    """The JDWP agent's only slot, as /proc/net/tcp shows it."""

    FREE = "free"
    TAKEN = "taken"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    tools: frozenset[str] = frozenset()  # which of socat, curl and wget the image has
    writable: bool = False  # the place of reports
    agent: Agent = Agent.NONE
    java: int | None = None  # the JVM's process id
    java_age: int = 0  # seconds
    container_age: int = 0  # seconds since process 1 began
    forwarder_port: int | None = None  # None: no forwarder; 0: it is not reached by TCP
    reported: Vm | None = None
    reported_for: int = 0  # seconds that the report is still in force
    error: str | None = None
    complete: bool = False


def arguments(verb: str, session: str, *, name: str, jdwp_port: int) -> list[str]:
    """*session*: its id, or a word that is none for a look on nobody's behalf."""
    return [verb, session, name, str(jdwp_port)]


def report_arguments(session: Session, vm: Vm, now: datetime) -> list[str]:
    """How long it lasts and what the VM is doing: a duration, since the target's clock is its own."""
    seconds = max(0, ceil((session.expires_at - now).total_seconds()))
    state = Vm.SUSPENDED if vm is Vm.THREAD else vm
    return [str(seconds), str(state)]


def read_answer(lines: Iterable[str]) -> Answer:
    """Lines that are not understood are skipped; an answer without its last line is not `complete`."""
    found: dict[str, object] = {}
    tools = set[str]()
    for line in lines:
        match line.split():
            case ["tool", name]:
                tools.add(name)
            case ["writable"]:
                found["writable"] = True
            case ["agent", word] if word in list(Agent):
                found["agent"] = Agent(word)
            case ["java", pid, _]:
                found["java"] = int(pid)
            case ["java-age", age]:
                found["java_age"] = int(age)
            case ["container-age", age]:
                found["container_age"] = int(age)
            case ["forwarder", _, _, port]:
                found["forwarder_port"] = int(port)
            case ["report", word, seconds] if word in list(Vm):
                found |= {"reported": Vm(word), "reported_for": int(seconds)}
            case ["error", *words]:
                found |= {"error": " ".join(words), "complete": True}
            case [word] if word == LAST_LINE:
                found["complete"] = True
    return Answer(tools=frozenset(tools), **found)  # type: ignore[arg-type]
