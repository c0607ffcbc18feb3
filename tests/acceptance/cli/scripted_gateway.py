"""What a gateway says in stories that a real one cannot be brought to tell on demand: it is slow, cut, broken, gone.

Everything else is tested with the real one.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]
Say = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    what: str  # "POST /api/v1/sessions"
    query: Mapping[str, str]
    authorization: str
    last_event_id: str | None
    body: Json


@dataclass
class ScriptedGateway:
    """For each question its answers in their order, the last one again and again."""

    url: str = ""
    script: dict[str, list[Say]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(self, what: str, *answers: Say) -> None:
        method, path = what.split(" ")
        self.script[f"{method} /api/v1{path}"] = list(answers)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        what = f"{request.method} {request.path}"
        body = await request.text()
        self.asked.append(
            Asked(
                what,
                dict(request.query),
                request.headers.get("Authorization", ""),
                request.headers.get("Last-Event-ID"),
                json.loads(body) if body else {},
            )
        )
        answers = self.script.get(what)
        if not answers:
            return problem(404, f"Nothing is scripted for {what}.")
        say = answers.pop(0) if len(answers) > 1 else answers[0]
        return await say(request)

    async def until_asked(self, what: str, times: int = 1, within: float = 60) -> None:
        method, path = what.split(" ")
        async with asyncio.timeout(within):
            while sum(asked.what == f"{method} /api/v1{path}" for asked in self.asked) < times:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def scripted_gateway(port: int = 0) -> AsyncIterator[ScriptedGateway]:
    gateway = ScriptedGateway()
    site = web.Application()
    site.router.add_route("*", "/{path:.*}", gateway.answer)
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        listener = web.TCPSite(runner, "127.0.0.1", port)
        await listener.start()
        gateway.url = listener.name
        yield gateway
    finally:
        await runner.cleanup()


def says(body: Any, status: int = 200, *, content_type: str = "application/json") -> Say:
    text = body if isinstance(body, str) else json.dumps(body)

    async def say(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, content_type=content_type)

    return say


def refuses(status: int, detail: str, **more: Any) -> Say:
    async def say(_: web.Request) -> web.StreamResponse:
        return problem(status, detail, **more)

    return say


def streams(*events: str, cut: bool = False, forever: bool = False) -> Say:
    """A piece of an event stream, which then ends, is cut, or stays quiet."""

    async def say(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(event.encode())
        if cut:
            assert request.transport is not None
            request.transport.abort()
        if forever:
            await asyncio.Event().wait()
        return response

    return say


def file(name: str, text: str) -> Say:
    async def say(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    return say


def event(event_id: str, kind: str, **data: Any) -> str:
    return f"id: {event_id}\nevent: {kind}\ndata: {json.dumps({'kind': kind, **data})}\n\n"


def problem(status: int, detail: str, **more: Any) -> web.Response:
    text = json.dumps({"type": "about:blank", "title": "No", "status": status, "detail": detail, **more})
    return web.Response(status=status, text=text, content_type="application/problem+json")
