"""One trace from a command, or a page, to the commands in a container, as a collector of OpenTelemetry gets it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from playwright.async_api import expect

from tests.browser.conftest import SOON, launched
from tests.cluster.conftest import Kubectl
from tests.gateway import serving

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, list[Span]]]:
    got: list[Span] = []

    async def take(request: web.Request) -> web.Response:
        export = ExportTraceServiceRequest.FromString(await request.read())
        got.extend(s for resource in export.resource_spans for scope in resource.scope_spans for s in scope.spans)
        return web.Response(content_type="application/x-protobuf")

    async with serves("POST", "/v1/traces", take) as url:
        yield url, got


@asynccontextmanager
async def serves(
    method: str, path: str, answer: Callable[[web.Request], Awaitable[web.Response]]
) -> AsyncIterator[str]:
    """A site with one route."""
    app = web.Application()
    app.router.add_route(method, path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_command_has_the_trace_of_what_it_made_run_in_the_pod(
    kubectl: Kubectl, kubeconfig: Path, tmp_path: Path
) -> None:
    kubectl.run("shop")
    target = f"pod/dev/{kubectl.namespace}/shop/app"
    config = f'[[clusters]]\nname = "dev"\nkubeconfig = "{kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'
    async with collector() as (url, spans):
        # The first makes the command's own trace, the second comes with one.
        async with serving(tmp_path, config, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url}) as (process, api):
            ours = {"NOAH_URL": process.url, "NOAH_TOKEN": api.token("ada")}
            for given in ({}, {"TRACEPARENT": f"00-{TRACE}-{PARENT}-01"}):
                process.env |= ours | given
                code, said = await process.noah("enable", target, "--wait")
                assert code == 0, said
                code, said = await process.noah("end", target)
                assert code == 0, said
        # What was not sent yet is sent when the gateway stops.
        traces: dict[str, list[Span]] = {}
        for one in spans:
            traces.setdefault(one.trace_id.hex(), []).append(one)
    assert len(traces) == 3, {trace: [one.name for one in its] for trace, its in traces.items()}
    by_name = {one.name: one for one in traces[TRACE]}
    request, start, command = (by_name[name] for name in ("POST /api/v1/sessions", "StartForwarder", "exec"))
    assert request.parent_span_id.hex() == PARENT
    assert start.parent_span_id == request.span_id
    assert "exec" in {one.name for one in traces[TRACE] if one.parent_span_id == start.span_id}
    assert {one.key: one.value.string_value for one in start.attributes}["target"] == target
    assert "shop" in {one.key: one.value.string_value for one in command.attributes}["container"]


@pytest.mark.browser
async def test_a_click_on_a_portals_page_has_the_trace_of_what_it_made_run_in_the_pod(
    kubectl: Kubectl, kubeconfig: Path, tmp_path: Path
) -> None:
    await asyncio.to_thread(kubectl.run, "orders")
    target = f"pod/dev/{kubectl.namespace}/orders/app"
    element = ""  # known when the gateway is

    async def portal(_: web.Request) -> web.Response:
        return web.Response(text=f"<!doctype html><title>Portal</title>{element}", content_type="text/html")

    async with collector() as (url, spans), serves("GET", "/", portal) as origin, launched() as chromium:
        config = f'[access]\norigins = ["{origin}"]\n[[clusters]]\nname = "dev"\nkubeconfig = "{kubeconfig}"\n'
        config += f'namespaces = ["{kubectl.namespace}"]\n'
        async with serving(tmp_path, config, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url}) as (process, api):
            element = f'<script type="module" src="{process.url}/static/noah-debug.js"></script>'
            element += f'<noah-debug target="{target}" token="{api.token("ada")}"></noah-debug>'
            page = await chromium.new_page()
            page.set_default_timeout(SOON)
            await page.goto(origin)
            async with page.expect_request(lambda request: request.method == "POST") as clicked:
                await page.get_by_role("button", name="Debug").click()
            await expect(page.get_by_role("status")).to_have_text("ready", timeout=SOON)
            version, trace, parent, sampled = (await clicked.value).headers["traceparent"].split("-")
    assert (version, sampled) == ("00", "01")
    by_name = {one.name: one for one in spans if one.trace_id.hex() == trace}
    request, start = by_name["POST /api/v1/sessions"], by_name["StartForwarder"]
    assert request.parent_span_id.hex() == parent
    assert start.parent_span_id == request.span_id
    assert "exec" in {one.name for one in spans if one.parent_span_id == start.span_id}


async def test_a_release_that_somebody_watches_is_in_the_trace_of_the_command(
    kubectl: Kubectl, kubeconfig: Path, tmp_path: Path
) -> None:
    config = f'[[clusters]]\nname = "dev"\nkubeconfig = "{kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'
    async with (
        collector() as (url, spans),
        serving(tmp_path, config, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url}) as (process, api),
    ):
        process.env |= {"NOAH_URL": process.url, "NOAH_TOKEN": api.token("ada")}
        process.env |= {"TRACEPARENT": f"00-{TRACE}-{PARENT}-01"}
        kubectl.create("billing")
        code, said = await process.noah("release", "watch", "billing", "-n", kubectl.namespace)
        assert code == 0, said
        [release] = (await api.ask("GET", "releases"))["items"]
    by_name = {one.name: one for one in spans if one.trace_id.hex() == TRACE}
    request, span = by_name["POST /api/v1/releases"], by_name["release"]
    assert request.parent_span_id.hex() == PARENT
    assert span.parent_span_id == request.span_id
    assert {one.key: one.value.string_value for one in span.attributes}["release"] == release["id"]


async def test_without_a_collector_nothing_of_opentelemetry_is_imported() -> None:
    code = "import sys, noah.app, noah.traces; noah.traces.span('x'); sys.exit('opentelemetry' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
