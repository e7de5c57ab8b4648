"""Traces, as a collector receives them from real processes over OTLP."""

import gzip
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from learner.settings import LearnerSettings
from learner.store.database import Database
from service.settings import ServiceSettings
from service.tenants.operators import make_tenant_with_key
from tests.conftest import WorkerProcess
from tests.waiting import wait_until

USER = "somebody-in-particular"
WORDS = "how do I hide a tattoo"


class Collector(ThreadingHTTPServer):
    """Receives spans as OpenTelemetry's collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received: list[tuple[str, Span]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def span(self, name: str) -> Span | None:
        return next((span for _, span in self.received if span.name == name), None)


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            name = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            self.server.received += [(name, span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


@pytest.fixture
def api_url(collector: Collector, learner_settings: LearnerSettings) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    addresses = {
        "CAGE_DATABASE_URL": learner_settings.database_url,
        "CAGE_REDIS_URL": learner_settings.redis_url,
        "CAGE_PORT": str(port),
    }
    server = subprocess.Popen([sys.executable, "-m", "service", "serve"], env={**os.environ, **addresses})
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return httpx.get(f"{url}/ready").is_success
        except httpx.TransportError:
            return False

    wait_until(is_ready, seconds=60)
    yield url
    server.terminate()
    server.wait(20)


@pytest.fixture
def key(database: Database, learner_settings: LearnerSettings) -> str:
    urls = {"database_url": learner_settings.database_url, "redis_url": learner_settings.redis_url}
    with database.session() as session:
        return make_tenant_with_key(session, ServiceSettings(**urls), "traced")[1]


def test_one_trace_runs_from_a_thumb_through_the_queue_into_the_worker(
    collector: Collector, api_url: str, worker: WorkerProcess, key: str
) -> None:
    with httpx.Client(base_url=api_url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        question = {"model": "cage-pocket", "user": USER, "messages": [{"role": "user", "content": WORDS}]}
        answer = client.post("/v1/chat/completions", json={**question, "max_tokens": 5}).raise_for_status().json()
        trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        vote = {"inference_id": answer["id"], "value": "up", "comment": WORDS}
        headers = {"traceparent": f"00-{trace_id}-{parent}-01"}
        client.post("/v1/feedback", json=vote, headers=headers).raise_for_status()
        client.get(f"/v1/users/{USER}/weights").raise_for_status()

    wait_until(lambda: collector.span("learner.tasks.learn") and collector.span("decode"), seconds=20)
    wait_until(lambda: collector.span("POST /v1/feedback") and collector.span("GET /v1/users/{user_id:path}/weights"))
    request, sent = collector.span("POST /v1/feedback"), collector.span("enqueue learner.tasks.learn")
    learned = collector.span("learner.tasks.learn")
    assert {span.trace_id.hex() for span in (request, sent, learned)} == {trace_id}
    assert request.parent_span_id.hex() == parent
    assert sent.parent_span_id == request.span_id
    assert learned.parent_span_id == sent.span_id
    services = {span.name: service for service, span in collector.received}
    assert (services["POST /v1/feedback"], services["learner.tasks.learn"]) == ("cage-api", "cage-worker")
    assert collector.span("decode").parent_span_id == collector.span("POST /v1/chat/completions").span_id
    assert USER not in str(collector.received)
    assert WORDS not in str(collector.received)


WITHOUT_THE_EXTRA = """
import sys
sys.modules.update({"opentelemetry.sdk": None, "opentelemetry.exporter": None})
import service.app, learner.tasks
from learner.tracing import start_tracing
start_tracing("cage-api")
"""


@pytest.mark.parametrize("configured", [False, True])
def test_the_extra_is_needed_only_where_a_collector_is_configured(configured: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    if configured:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    command = [sys.executable, "-c", WITHOUT_THE_EXTRA]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == int(configured), run.stderr
    assert ("pip install -e '.[telemetry]'" in run.stderr) == configured
