"""A hostile Kubernetes API in a thread of its own: what it costs itself is not counted, and it may block."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.unit.kube.fake_api import Answer, FakeApi, fake_api


@asynccontextmanager
async def api_in_a_thread(answer: Answer) -> AsyncIterator[FakeApi]:
    loop, over = asyncio.new_event_loop(), asyncio.Event()
    started: asyncio.Future[FakeApi] = asyncio.get_running_loop().create_future()
    ours = asyncio.get_running_loop()

    async def serve() -> None:
        async with fake_api() as api:
            api.on_anything = answer
            ours.call_soon_threadsafe(started.set_result, api)
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="hostile API")
    thread.start()
    try:
        yield await started
    finally:
        loop.call_soon_threadsafe(over.set)
        await asyncio.to_thread(thread.join)
        loop.close()
