"""The whole product, running: API on a real port, Celery worker, PostgreSQL, Redis. Each test has its own tenant."""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from learner.redis_connection import connect
from learner.settings import normalised_database_url
from service.app import create_app
from service.running.servers import EmbeddedServers
from service.services import Services
from service.settings import ServiceSettings
from service.tenants.operators import make_tenant_with_key
from tests.conftest import TEMPLATE, WorkerProcess
from tests.waiting import wait_until

MODEL = "cage-pocket"
_names = itertools.count()


@dataclass(frozen=True)
class Stack:
    """A running system."""

    url: str
    services: Services
    worker: WorkerProcess


@dataclass(frozen=True)
class TenantClient:
    """One tenant's way in."""

    tenant_id: str
    key: str
    http: httpx.Client

    def ask(self, content: str = "How can I sleep better?", **more: Any) -> dict[str, Any]:
        """A chat completion that must succeed."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "user": "ada", "max_tokens": 24}
        response = self.http.post("/v1/chat/completions", json={**body, **more})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def vote(self, inference_id: str, value: object = "up", **more: Any) -> dict[str, Any]:
        """A vote that must succeed."""
        response = self.http.post("/v1/feedback", json={"inference_id": inference_id, "value": value, **more})
        assert response.is_success, response.text
        receipt: dict[str, Any] = response.json()
        return receipt

    def state(self, user: str = "ada") -> dict[str, Any]:
        """What the decoder uses for a user."""
        state: dict[str, Any] = self.http.get(f"/v1/users/{user}/weights").raise_for_status().json()
        return state

    def wait_for_votes(self, count: int, user: str = "ada") -> dict[str, Any]:
        """The user's state once `count` votes are in the weights in use."""
        wait_until(lambda: self.state(user)["feedback_count"] == count)
        return self.state(user)


@pytest.fixture
def redis_url(servers: EmbeddedServers) -> str:
    """A database of Redis of a test's own: the stack's worker takes none of its messages. Emptied before the test."""
    url = servers.redis_url.removesuffix("/0") + "/1"
    with connect(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def stack(servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One system for all tests of this folder."""
    settings = ServiceSettings(
        database_url=_new_database(servers, "service"),
        redis_url=servers.redis_url,
        principals=tmp_path_factory.mktemp("principals"),
        sweep_interval_seconds=0.5,
        version_check_seconds=0.5,
        keep_alive_seconds=0.2,
    )
    services = Services.start(settings)
    worker = WorkerProcess(settings, tmp_path_factory.mktemp("worker") / "worker.log")
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(services), log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield Stack(f"http://127.0.0.1:{listening.getsockname()[1]}", services, worker)
    server.should_exit = True
    thread.join()
    listening.close()
    worker.stop()
    services.stop()


@pytest.fixture
def new_tenant(stack: Stack) -> Iterator[Callable[[], TenantClient]]:
    """Makes tenants that have learned nothing."""
    clients: list[httpx.Client] = []

    def make() -> TenantClient:
        with stack.services.database.session() as session:
            tenant, key = make_tenant_with_key(session, stack.services.settings, f"tenant {next(_names)}")
        http = httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=30)
        clients.append(http)
        return TenantClient(tenant.id, key, http)

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def tenant(new_tenant: Callable[[], TenantClient]) -> TenantClient:
    """A tenant that has learned nothing."""
    return new_tenant()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty data directory."""
    return tmp_path / "data"


def _new_database(servers: EmbeddedServers, name: str) -> str:
    engine = create_engine(
        normalised_database_url(servers.database_url), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}"))
    return make_url(normalised_database_url(servers.database_url)).set(database=name).render_as_string(False)
