"""Traces by OpenTelemetry, of what people ask for down to the commands in containers.

Off, with nothing imported, unless OTEL_EXPORTER_OTLP_ENDPOINT or its like names a collector; OpenTelemetry's other
variables count too. A task that a request begins inherits its span: so a session's commands have the trace of the
request that enabled it, whose `traceparent` may be a page's or a command's.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

from noah.errors import BadSettings

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_tracers: list[Any] = []  # OpenTelemetry's, of the gateway that runs in this process, if it traces


@asynccontextmanager
async def tracing() -> AsyncIterator[None]:
    endpoint = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        sentence = f"{endpoint} is set, and what sends traces is not installed: pip install 'noah-gateway[traces]'."
        raise BadSettings(sentence) from None
    name = os.environ.get("OTEL_SERVICE_NAME", "noah-gateway")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=5)))
    _tracers.append(provider.get_tracer("noah"))
    try:
        yield
    finally:
        _tracers.clear()
        await asyncio.to_thread(provider.shutdown)  # sends the rest, and may wait for a collector


def span(name: str, *, traceparent: str | None = None, **attributes: str) -> AbstractContextManager[object]:
    """Begin a span, in the trace of *traceparent* (W3C) or of the span around it, or in a trace of its own."""
    if not _tracers:
        return nullcontext()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent}) if traceparent else None
    begun: AbstractContextManager[object] = _tracers[0].start_as_current_span(
        name, context=context, attributes=attributes
    )
    return begun


def span_within(name: str, **attributes: str) -> AbstractContextManager[object]:
    """Begin a span where another one has not ended: looks, which go on for hours, are in no trace."""
    if not _tracers:
        return nullcontext()
    from opentelemetry.trace import get_current_span

    return span(name, **attributes) if get_current_span().is_recording() else nullcontext()
