"""A collector of traces on loopback: it keeps the spans that OpenTelemetry's exporters send."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.waiting import wait_until

__all__ = ["Collector", "Seen", "collecting"]


@dataclass(frozen=True)
class Seen:
    """A span.

    Attributes:
        name: what it is.
        service: the service that it is of.
        process: which of the service's processes it is of; empty where that is not told.
        trace: its trace, hexadecimal.
        id: its own id.
        parent: the id of what it is part of, empty for a root.
        links: the traces and ids of what else it follows from.
        attributes: what is known of it.
        failed: whether its status is an error.
    """

    name: str
    service: str
    process: str
    trace: str
    id: str
    parent: str
    links: list[tuple[str, str]]
    attributes: dict[str, Any]
    failed: bool


class Collector:
    """What has come.

    Attributes:
        url: where exporters send to.
        spans: in the order in which they came.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Seen] = []

    def wait(self, name: str, count: int = 1) -> list[Seen]:
        """Return the spans of a name as soon as there are so many."""

        def found() -> list[Seen] | None:
            named = [span for span in self.spans if span.name == name]
            return named if len(named) >= count else None

        return wait_until(found, f"{count} spans {name!r}, there are {self.spans}")

    def take(self, body: bytes) -> None:
        """Keep the spans of a request."""
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [
                    Seen(
                        span.name,
                        about["service.name"],
                        about.get("service.instance.id", ""),
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                        _attributes(span.attributes),
                        span.status.code == span.status.STATUS_CODE_ERROR,
                    )
                    for span in scope.spans
                ]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield collector
        finally:
            server.shutdown()
            serving.join()


def _attributes(found: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
        for each in found
    }
