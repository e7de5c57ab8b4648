"""Many requests at the same moment: more than there are connections to PostgreSQL."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from sqlalchemy import text

from service.users.exports import EXPORTS_AT_ONCE
from tests.service.conftest import Stack, TenantClient
from tests.waiting import wait_until

AT_ONCE = 120
LONG_ANSWERS = 40


async def _statuses(url: str, key: str, paths: list[str]) -> list[int]:
    limits = httpx.Limits(max_connections=len(paths))
    async with httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {key}"}, limits=limits, timeout=60
    ) as client:
        answers = await asyncio.gather(*(client.get(path) for path in paths))
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("path", ["/v1/regret", "/v1/users/user-{}/weights"])
def test_more_requests_than_connections_wait_for_each_other(new_tenant: Callable[[], TenantClient], path: str) -> None:
    tenant = new_tenant()
    key = tenant.key
    paths = [path.format(number) for number in range(AT_ONCE)]
    statuses = asyncio.run(_statuses(str(tenant.http.base_url), key, paths))
    assert set(statuses) == {200}


def test_clients_who_do_not_read_their_exports_leave_connections_to_others(tenant: TenantClient, stack: Stack) -> None:
    _fill_with_words(stack, tenant.tenant_id, tenant.ask(max_tokens=2)["id"])
    pool = stack.services.database.engine.pool
    with ExitStack() as open_exports:
        for _ in range(15):
            open_exports.enter_context(_unread(stack.url, "/v1/users/ada/export", tenant.key))
        wait_until(lambda: pool.checkedout() >= EXPORTS_AT_ONCE)  # type: ignore[attr-defined]
        assert tenant.http.get("/v1/regret").status_code == 200
        assert pool.checkedout() <= EXPORTS_AT_ONCE + 2  # type: ignore[attr-defined]
    document = tenant.http.get("/v1/users/ada/export").raise_for_status().json()
    assert len(document["answers"]) == LONG_ANSWERS + 1


def test_an_export_that_is_not_read_ends(tenant: TenantClient, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.users.exports.EXPORT_SECONDS", 0.2)
    _fill_with_words(stack, tenant.tenant_id, tenant.ask(max_tokens=2)["id"])
    with _unread(stack.url, "/v1/users/ada/export", tenant.key):
        pool = stack.services.database.engine.pool
        wait_until(lambda: pool.checkedout() > 0)  # type: ignore[attr-defined]
        wait_until(lambda: pool.checkedout() == 0)  # type: ignore[attr-defined]


def _fill_with_words(stack: Stack, tenant_id: str, answer_id: str) -> None:
    """Gives the answer's user more words than sockets hold."""
    columns = (
        "tenant_id, user_id, created_at, model, mode, parameter_version, principals, theta, weights, features, "
        "prompt_tokens, completion_tokens, finish_reason"
    )
    with stack.services.database.engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO generations (id, {columns}) SELECT id || '-' || n, {columns} FROM generations, "
                "generate_series(1, :count) n WHERE id = :id"
            ),
            {"count": LONG_ANSWERS, "id": answer_id},
        )
        connection.execute(
            text(
                "INSERT INTO transcripts (generation_id, tenant_id, created_at, answer) "
                "SELECT id, tenant_id, created_at, repeat('word ', 100000) FROM generations WHERE tenant_id = :tenant"
            ),
            {"tenant": tenant_id},
        )


@contextmanager
def _unread(url: str, path: str, key: str) -> Iterator[None]:
    """A request whose answer nobody reads."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        yield
