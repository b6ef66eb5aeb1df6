"""Traces, by OpenTelemetry: of requests, of the commits that carry them, of what follows.

What is not sampled costs one look at a header and one random number for each request, and nothing
beyond it: no span is made, and no text travels.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streamtable.streams.traces import TRACE

__all__ = ["TracedStep", "Traces"]

_PATH: Final = "/v1/traces"
_HEADER: Final = TRACE.encode()
_STATE: Final = b"tracestate"
_STOP_S: Final = 5.0
_FIRST_SERVER_ERROR: Final = 500
_texts = TraceContextTextMapPropagator()


class TracedStep:
    """A span under way; see `streams.traces.Step`."""

    __slots__ = ("_span", "trace")

    def __init__(self, span: Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _texts.inject(carrier, trace.set_span_in_context(span, Context()))
        self.trace = carrier[TRACE]

    def end(self, error: BaseException | None = None, **attributes: Any) -> None:
        """Tell that it has ended; see `Step.end`."""
        if error is not None:
            self._span.record_exception(error)
            self._span.set_status(StatusCode.ERROR, repr(error))
        self._span.set_attributes(attributes)
        self._span.end()

    def answered(self, request_id: str, status: int) -> None:
        """Tell that a request was answered with this HTTP status."""
        self._span.set_attributes(
            {"aws.request_id": request_id, "http.response.status_code": status}
        )
        if status >= _FIRST_SERVER_ERROR:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Have what is called inside, also in threads that copy the context, follow from it."""
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield


class Traces:
    """Makes spans and sends them, by OTLP over HTTP, in the background. A `Tracer`.

    What the collector does not take in time is dropped, with a line in the log: nobody waits.

    Args:
        url: the collector, for example `http://127.0.0.1:4318`. Its headers and certificate come
            from OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_HEADERS` and the like).
        service: the service's name in traces.
        attributes: what tells this process from others of the service.
        ratio: the share of requests that are sampled, of those that do not say themselves whether
            they are.
        chance: a random number from 0 to 1 each time.
    """

    def __init__(
        self,
        url: str,
        service: str,
        attributes: Mapping[str, str],
        *,
        ratio: float = 1.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        # Whether a request is sampled is decided before there is a span.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": service, **attributes}),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=url.rstrip("/").removesuffix(_PATH) + _PATH)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("streamtable")
        self._ratio = ratio
        self._chance = chance

    def request(self, operation: str, headers: Mapping[bytes, bytes]) -> TracedStep | None:
        """Tell that a request has come; None where it is not sampled.

        A `traceparent` among its headers says whether it is, and what it is part of.
        """
        context = None
        brought = headers.get(_HEADER)
        if brought is not None:
            carrier = {TRACE: brought.decode("latin-1")}
            if _STATE in headers:
                carrier[_STATE.decode()] = headers[_STATE].decode("latin-1")
            context = _texts.extract(carrier, Context())
            parent = trace.get_current_span(context).get_span_context()
            if not parent.is_valid:
                context = None
            elif not parent.trace_flags.sampled:
                return None
        if context is None:
            if self._chance() >= self._ratio:
                return None
            context = Context()
        attributes = {"rpc.system": "aws-api", "rpc.method": operation}
        return TracedStep(self._tracer.start_span(operation, context, SpanKind.SERVER, attributes))

    def begin(self, name: str, causes: Sequence[str], attributes: Mapping[str, Any]) -> TracedStep:
        """Tell that a step begins; see `streams.traces.Tracer.begin`."""
        first, *others = (_texts.extract({TRACE: cause}, Context()) for cause in causes)
        links = [Link(trace.get_current_span(other).get_span_context()) for other in others]
        return TracedStep(
            self._tracer.start_span(name, first, SpanKind.CONSUMER, dict(attributes), links)
        )

    async def close(self) -> None:
        """Send what is left; where the collector does not take it in time, it is lost."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, _STOP_S)
