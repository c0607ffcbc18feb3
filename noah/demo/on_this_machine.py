"""The demonstration on this machine: what the gateway exists for, with a real debugger on real JVMs.

First an app whose probe only asks checkurl: a breakpoint gets it killed. Then the same app with the liveness expression
and a debug session: it stays at the breakpoint for as long as one likes.
"""

import asyncio
import sys

from noah.client.gateway_client import GatewayClient, Json, session_path
from noah.core.printable import printable
from noah.demo.debugger import Jdb, jdb
from noah.demo.sample_app import Sample
from noah.demo.supervisor import FAILURES, PERIOD
from noah.errors import NoahError, Unavailable

AT_BREAKPOINT_S = 12.0  # at the second breakpoint: well past what killed the first app
KILLED_WITHIN_S = 60.0


async def run_on_this_machine(plain: Sample, wise: Sample, gateway: GatewayClient) -> None:
    """Show both apps at a breakpoint. Raises Unavailable if something does not go as it should."""
    say(f"\n1. {plain.name}: the probe asks checkurl, every {PERIOD:.0f} s; {FAILURES} failures and it is killed.\n")
    await killed_at_a_breakpoint(plain)
    say(f"\n2. {wise.name}: the probe is (checkurl == 200) || (debugging && java alive); a session is on.\n")
    await lives_at_a_breakpoint(wise, gateway)


async def killed_at_a_breakpoint(sample: Sample) -> None:
    async with jdb("127.0.0.1", sample.jdwp) as debugger, asyncio.TaskGroup() as group:
        order = await stopped_at_a_breakpoint(debugger, sample, group)
        began = asyncio.get_running_loop().time()
        say("   jdb stops in OrderService.price. The whole VM is suspended, and checkurl hangs ...")
        try:
            async with asyncio.timeout(KILLED_WITHIN_S):
                await sample.app.restarted.wait()
        except TimeoutError:
            raise Unavailable(f"{sample.name} was not killed within {KILLED_WITHIN_S:.0f} s.") from None
        after = asyncio.get_running_loop().time() - began
        say(f"   ✗ killed after {after:.0f} s, with everything that was on the screen.")
        order.cancel()


async def lives_at_a_breakpoint(sample: Sample, gateway: GatewayClient) -> None:
    session = await enable(gateway, f"local/{sample.name}")
    say(f"   noah enable local/{sample.name}   ->  {session['host']}:{session['port']}")
    async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
        order = await stopped_at_a_breakpoint(debugger, sample, group)
        say(f"   jdb stops in OrderService.price; now {AT_BREAKPOINT_S:.0f} s of looking at variables ...")
        await asyncio.sleep(AT_BREAKPOINT_S)
        shown = await asyncio.to_thread(gateway.get, session_path(session["id"]))
        where = (shown.get("vm") or {}).get("location") or "a breakpoint"
        say(f"   the gateway: {shown['status']} at {where}, held by {shown['owner']}")
        if sample.app.restarts or shown["status"] != "suspended":
            why = shown["end_detail"] or shown["reason"] or f"{sample.app.restarts} restarts"
            raise Unavailable(f"It should be suspended and alive, and it is {shown['status']}: {why}")
        debugger.type("clear OrderService.price")
        debugger.type("cont")
        await order
    ended = await end(gateway, session)
    if sample.app.restarts:
        raise Unavailable(f"{sample.name} was killed {sample.app.restarts} times.")
    say(f"   ✓ {sample.app.restarts} restarts, the order was answered, the session {ended['status']}.")


async def enable(gateway: GatewayClient, target: str) -> Json:
    """Return a session that is ready. Raises Unavailable if it does not become ready."""
    _, session = await asyncio.to_thread(gateway.post, "/sessions", {"target": target, "for": "1h"}, wait_s=60)
    if session["status"] != "ready":
        raise Unavailable(f"The session did not become ready: {session.get('end_detail') or session.get('reason')}")
    return session


async def end(gateway: GatewayClient, session: Json) -> Json:
    return await asyncio.to_thread(gateway.delete, session_path(session["id"]), wait_s=30)


async def stopped_at_a_breakpoint(debugger: Jdb, sample: Sample, group: asyncio.TaskGroup) -> asyncio.Task[None]:
    """Return the order that hit it."""
    debugger.type("stop in OrderService.price")
    await debugger.says("breakpoint")
    order = group.create_task(sample.order(), name="an order")
    await debugger.says("Breakpoint hit")
    return order


def say(text: str) -> None:
    print(printable(text, keep="\n"), flush=True)


def complain(error: NoahError) -> None:
    print(printable(error.sentence), file=sys.stderr, flush=True)
