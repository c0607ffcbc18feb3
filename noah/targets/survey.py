"""One look at all of the inventory, side by side: what stands in the way in each cluster, on each host, of each JVM.

Each has a line, and a deadline: one that hangs costs the others nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from noah.catalog.target_info import TargetInfo
from noah.core.printable import printable
from noah.errors import NoahError
from noah.targets.host.hosts import Hosts
from noah.targets.pod.doctor import Doctor, Level

log = logging.getLogger(__name__)

AT_ONCE = 16  # of all kinds; each host is a handshake, which costs the event loop milliseconds, and a shell there
EACH_TAKES_S = 20.0
LONGEST_MESSAGE = 500  # characters; hosts and clusters say what they like


@dataclass(frozen=True, slots=True)
class Examined:
    """The outcome of one look at a part of the inventory."""

    what: str  # "cluster/dev", "host/kvm-1", "local/shop"
    level: Level
    message: str
    took_s: float


Look = Callable[[], Awaitable[tuple[Level, str]]]


async def survey(
    clusters: Iterable[str], doctor: Doctor, hosts: Hosts, local: Iterable[TargetInfo], *, within_s: float
) -> list[Examined]:
    """Return a line for each, in order; what is not looked at *within_s* seconds has one that says so."""
    looks: dict[str, Look] = {f"cluster/{name}": partial(_of_cluster, doctor, name) for name in clusters}
    looks |= {f"host/{name}": partial(_of_host, hosts, name) for name in hosts.names()}
    turns, found = asyncio.Semaphore(AT_ONCE), dict[str, Examined]()

    async def take(what: str, look: Look) -> None:
        found[what] = await _line(what, look, turns)

    with suppress(TimeoutError):
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
            for what, look in looks.items():
                group.create_task(take(what, look), name=f"examine {what}")
    late = f"It was not looked at to the end within {within_s:.0f} s: run `noah doctor` again."
    return [
        *(found.get(what) or Examined(what, Level.WARNING, late, within_s) for what in looks),
        *(_of_local(info) for info in local),
    ]


async def _line(what: str, look: Look, turns: asyncio.Semaphore) -> Examined:
    async with turns:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(EACH_TAKES_S):
                level, message = await look()
        except NoahError as e:
            level, message = Level.ERROR, e.sentence
        except TimeoutError:
            level, message = Level.ERROR, f"It does not answer within {EACH_TAKES_S:.0f} s."
        except Exception:  # the outermost of each look: the others have their lines
            log.exception("%s cannot be looked at", what)
            level, message = Level.ERROR, "It cannot be looked at, for a reason that only the gateway's log has."
        return Examined(what, level, printable(" ".join(message.split()))[:LONGEST_MESSAGE], clock() - began)


async def _of_cluster(doctor: Doctor, name: str) -> tuple[Level, str]:
    findings = await doctor.cluster(name)
    for level in (Level.ERROR, Level.WARNING):
        if bad := [one.message for one in findings if one.level is level]:
            return level, bad[0] + (f" (and {len(bad) - 1} more: noah doctor {name})" if len(bad) > 1 else "")
    return Level.OK, findings[-1].message


async def _of_host(hosts: Hosts, name: str) -> tuple[Level, str]:
    good, bad = await hosts.examine(name)
    return (Level.ERROR, " ".join(bad)) if bad else (Level.OK, " ".join(good))


def _of_local(info: TargetInfo) -> Examined:
    if info.ready:
        return Examined(info.name, Level.OK, "Something listens on its port.", 0.0)
    return Examined(info.name, Level.ERROR, "Nothing listens on its port: start it with its debug agent.", 0.0)
