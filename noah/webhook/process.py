"""The webhook in a process of its own: what API servers and strangers send it costs the gateway's event loop nothing.

The process lives as long as its stdin is open, so it ends with the gateway however that ends. It is started again when
it ends by itself.
"""

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable

from noah.backoff import Backoff
from noah.errors import BadSettings
from noah.settings import WebhookSettings

log = logging.getLogger(__name__)

READY = "ready"
STARTS_WITHIN_S = 60.0  # an import and a key; a busy machine takes some seconds
ENDS_WITHIN_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0  # before it is started again
STEADY_S = 60.0  # a process that lasted so long did not fail at its start


@contextlib.asynccontextmanager
async def webhook_process(wanted: WebhookSettings) -> AsyncIterator[Awaitable[None]]:
    """Have the webhook served as long as the context lasts.

    Yield what to wait for: it raises BadSettings if the webhook cannot be served. Meanwhile others can start as well.
    """
    is_served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        kept = group.create_task(_keep(wanted, is_served), name="keep the webhook's process")
        try:
            yield is_served
        finally:
            kept.cancel()


async def _keep(wanted: WebhookSettings, is_served: asyncio.Future[None]) -> None:
    backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await _run(wanted, is_served)
        except BadSettings as e:
            if not is_served.done():
                is_served.set_exception(e)
                return
            log.warning("the webhook's process cannot be started: %s", e.sentence)
        except Exception:  # the task's outermost loop
            log.exception("the webhook's process cannot be started")
        if loop.time() - began > STEADY_S:
            backoff.reset()
        await asyncio.sleep(backoff.next_s())


async def _run(wanted: WebhookSettings, is_served: asyncio.Future[None]) -> None:
    process = await _begun(wanted)
    try:
        await _served(process)
        if not is_served.done():
            is_served.set_result(None)
        code = await process.wait()
        log.warning("the webhook's process has ended (%s), and is started again", code)
    finally:
        await _end(process)


async def _begun(wanted: WebhookSettings) -> Process:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "noah.webhook", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    process.stdin.write(wanted.model_dump_json().encode() + b"\n")
    return process


async def _served(process: Process) -> None:
    """Return when it serves. Raises BadSettings with what it says instead."""
    assert process.stdout is not None
    said = ""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(STARTS_WITHIN_S):
            said = (await process.stdout.readline()).decode(errors="replace").strip()
    if said != READY:
        raise BadSettings(said or "The webhook's process did not start.")


async def _end(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDS_WITHIN_S):
                await process.wait()
    finally:  # also when this is canceled
        if process.returncode is None:
            process.kill()
            await process.wait()
