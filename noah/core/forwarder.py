"""What passes between the gateway and inpod/forwarder.sh: its arguments, its answer, and the words while it is held."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import ceil
from urllib.parse import urlsplit

from noah.core.session.session import Session, Word

LAST_LINE = "done"


class Agent(StrEnum):
    """The JDWP agent's only slot, as /proc/net/tcp shows it."""

    FREE = "free"
    TAKEN = "taken"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    tools: frozenset[str] = frozenset()  # which of socat, curl, wget and bash the image has
    writable: bool = False  # the place of reports
    agent: Agent = Agent.NONE
    java: int | None = None  # the JVM's process id
    jvms: int = 0  # in this container, or on this machine
    java_age: int = 0  # seconds
    container_age: int = 0  # seconds since process 1 began
    forwarder_port: int | None = None  # None: no forwarder; 0: it is not reached by TCP
    report_only: bool = False  # the bytes have to go another way: there is no socat
    clock: int | None = None  # seconds since 1970, where the answer comes from beside the JVM's container
    error: str | None = None
    complete: bool = False


class Where(StrEnum):
    """The place where the script runs: in a pod it tells its own container's processes from the others'."""

    POD = "pod"
    BESIDE = "beside"  # in another container of the pod
    HOST = "host"


LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def arguments(
    verb: str, session: str, *, name: str, jdwp_port: int, where: Where, checkurl: str | None = None, own_ip: str = ""
) -> list[str]:
    """Return the arguments of every verb. *session*: its id, or another word for a look on nobody's behalf.

    *own_ip*: an address besides loopback at which checkurl asks this very pod.
    """
    return [verb, session, name, str(jdwp_port), where, _port_of(checkurl, own_ip)]


def _port_of(checkurl: str | None, own_ip: str) -> str:
    """Return checkurl's port, or "-" where there is none or checkurl asks another machine."""
    try:
        parts = urlsplit(checkurl or "")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "-"
    return str(port) if port and parts.hostname in LOOPBACK | {own_ip} else "-"


def token_line(token: str) -> bytes:
    """Return what a forwarder by TCP is sent first on each connection."""
    return f"{token}\n".encode()


def with_token(script: str, token: str) -> bytes:
    """Return what the shell gets by stdin: the token is not for a command line, which everybody may read."""
    return f"token={token}\n{script}".encode()


def word_arguments(session: Session, word: Word, now: datetime) -> list[str]:
    """Return how long the session lasts from *now* (a duration: the target's clock is its own), and the word."""
    return [str(max(0, ceil((session.expires_at - now).total_seconds()))), word]


def word_line(session: Session, word: Word, now: datetime) -> bytes:
    """Return the line that a held forwarder reads from its stdin."""
    seconds, state = word_arguments(session, word, now)
    return f"{state} {seconds}\n".encode()


def read_answer(lines: Iterable[str]) -> Answer:
    """Return what the lines say. Lines that are not understood are skipped; `complete` needs the last one."""
    found: dict[str, object] = {}
    tools = set[str]()
    for line in lines:
        match [_number(word) for word in line.split()]:
            case ["tool", str(name)]:
                tools.add(name)
            case ["writable"]:
                found["writable"] = True
            case ["agent", str(word)] if word in list(Agent):
                found["agent"] = Agent(word)
            case ["jvms" | "java-age" | "container-age" | "clock" as key, int(number)]:
                found[str(key).replace("-", "_")] = number
            case ["java", int(pid), _]:
                found["java"] = pid
            case ["forwarder", _, _, int(port)]:
                found["forwarder_port"] = port
            case ["way", "report"]:
                found["report_only"] = True
            case ["error", *_]:
                found |= {"error": line.partition(" ")[2], "complete": True}
            case [word] if word == LAST_LINE:
                found["complete"] = True
    return Answer(tools=frozenset(tools), **found)  # type: ignore[arg-type]


def _number(word: str) -> int | str:
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 16 else word
