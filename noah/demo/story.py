"""The story that the gateway exists for, told with a real debugger on real JVMs of this machine.

First an app whose probe only asks checkurl: a breakpoint gets it killed. Then the same app with the liveness expression
and a debug session: it stands at the breakpoint for as long as one likes.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from noah.demo.debugger import Jdb, jdb
from noah.demo.supervisor import FAILURES, PERIOD, Supervised
from noah.errors import NoahError, Unavailable
from noah.inpod import script

STANDS = 12.0  # seconds at the second breakpoint: well past what killed the first app
KILLED_WITHIN = 60.0  # seconds
USER = "ada"


class Gateway:
    """The HTTP API, as far as the story needs it."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self.url = url

    async def enable(self, target: str) -> dict[str, Any]:
        return await self._ask("POST", "sessions?wait=60", {"target": target, "for": "1h"})

    async def show(self, session: str) -> dict[str, Any]:
        return await self._ask("GET", f"sessions/{session}")

    async def end(self, session: str) -> dict[str, Any]:
        return await self._ask("DELETE", f"sessions/{session}?wait=30")

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with self._http.request(method, f"{self.url}/api/v1/{path}", json=body) as answer:
            got: dict[str, Any] = await answer.json(content_type=None)
            if answer.status >= 400:
                raise Unavailable(str(got.get("detail")))
            return got


@asynccontextmanager
async def talking_to(url: str) -> AsyncIterator[Gateway]:
    async with aiohttp.ClientSession(headers={"Noah-User": USER}) as http:
        yield Gateway(http, url.rstrip("/"))


class Sample:
    """One copy of the sample app: its ports, how it is started and how it is probed."""

    def __init__(self, name: str, *, classes: Path, knows_debugging: bool) -> None:
        self.name = name
        self.port, self.jdwp = free_port(), free_port()
        self.checkurl = f"http://127.0.0.1:{self.port}/checkurl"
        agent = f"transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{self.jdwp},quiet=y"
        plain = ["curl", "-fs", "-o", "/dev/null", "-m", "1", "--noproxy", "*", self.checkurl]
        expression = ["sh", "-c", script("liveness"), "noah-liveness", self.checkurl, "1", name]
        self.app = Supervised(
            argv=["java", f"-agentlib:jdwp={agent}", "-Xshare:auto", "-cp", str(classes), "OrderService"],
            env={"PORT": str(self.port)},
            probe=expression if knows_debugging else plain,
            log=classes / f"{name}.log",
        )

    async def order(self) -> None:
        """Somebody orders something; nobody waits for the answer."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as http:
                await http.get(f"http://127.0.0.1:{self.port}/orders")


async def told(plain: Sample, wise: Sample, gateway: Gateway) -> None:
    """Unavailable when the story does not go as it should."""
    say(f"\n1. {plain.name}: the probe asks checkurl, every {PERIOD:.0f} s; {FAILURES} failures and it is killed.\n")
    await killed_at_a_breakpoint(plain)
    say(f"\n2. {wise.name}: the probe is (checkurl == 200) || (debugging && java alive); a session is on.\n")
    await lives_at_a_breakpoint(wise, gateway)


async def killed_at_a_breakpoint(sample: Sample) -> None:
    async with jdb("127.0.0.1", sample.jdwp) as debugger, asyncio.TaskGroup() as group:
        order = await stopped_at_a_breakpoint(debugger, sample, group)
        began = asyncio.get_running_loop().time()
        say("   jdb stops in OrderService.price. The whole VM stands still, and so does checkurl ...")
        try:
            async with asyncio.timeout(KILLED_WITHIN):
                await sample.app.restarted.wait()
        except TimeoutError:
            raise Unavailable(f"{sample.name} was not killed within {KILLED_WITHIN:.0f} s.") from None
        after = asyncio.get_running_loop().time() - began
        say(f"   ✗ killed after {after:.0f} s, with everything that was on the screen.")
        order.cancel()


async def lives_at_a_breakpoint(sample: Sample, gateway: Gateway) -> None:
    session = await gateway.enable(f"local/{sample.name}")
    if session["status"] != "ready":
        raise Unavailable(f"The session did not become ready: {session.get('end_detail') or session.get('reason')}")
    say(f"   noah enable local/{sample.name}   ->  {session['host']}:{session['port']}")
    async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
        order = await stopped_at_a_breakpoint(debugger, sample, group)
        say(f"   jdb stops in OrderService.price; now {STANDS:.0f} s of looking at variables ...")
        await asyncio.sleep(STANDS)
        shown = await gateway.show(session["id"])
        where = (shown.get("vm") or {}).get("location") or "a breakpoint"
        say(f"   the gateway: {shown['status']} at {where}, held by {shown['owner']}")
        if sample.app.restarts or shown["status"] != "suspended":
            why = shown["end_detail"] or shown["reason"] or f"{sample.app.restarts} restarts"
            raise Unavailable(f"It should stand still and live, and is {shown['status']}: {why}")
        debugger.type("clear OrderService.price")
        debugger.type("cont")
        await order
    ended = await gateway.end(session["id"])
    if sample.app.restarts:
        raise Unavailable(f"{sample.name} was killed {sample.app.restarts} times.")
    say(f"   ✓ {sample.app.restarts} restarts, the order was answered, the session {ended['status']}.")


async def stopped_at_a_breakpoint(debugger: Jdb, sample: Sample, group: asyncio.TaskGroup) -> asyncio.Task[None]:
    """The order that hit it."""
    debugger.type("stop in OrderService.price")
    await debugger.says("breakpoint")
    order = group.create_task(sample.order(), name="an order")
    await debugger.says("Breakpoint hit")
    return order


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(text: str) -> None:
    print(text, flush=True)


def complain(error: NoahError) -> None:
    print(error.sentence, file=sys.stderr, flush=True)
