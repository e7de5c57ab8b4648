"""Requests that do not arrive, or are no HTTP: refused in the error form, and the connection closed."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.another_server import another_server
from tests.service.conftest import MODEL, Stack, TenantClient

HOST = b"Host: x\r\n"


@pytest.fixture(scope="module")
def address(stack: Stack) -> Iterator[tuple[str, int]]:
    """Where a server of little patience listens."""
    with another_server(stack, arrival_seconds=0.4) as url:
        yield "127.0.0.1", httpx.URL(url).port or 0


@pytest.fixture
def connection(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=20) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def one_answer(connection: socket.socket) -> bytes:
    """The answer of `/health`."""
    received = b""
    while not received.endswith(b'"ok"}'):
        received += connection.recv(65536)
    return received


def refusal(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    head, _, body = everything(connection).partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return int(head.split()[1]), error


def test_a_body_that_stops(connection: socket.socket, tenant: TenantClient) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    connection.sendall(
        head + f"Authorization: Bearer {tenant.key}\r\n".encode() + b'Content-Length: 500\r\n\r\n{"model"'
    )
    status, error = refusal(connection)
    assert (status, error["code"]) == (408, "body_too_slow")


def test_a_body_that_trickles(connection: socket.socket, tenant: TenantClient) -> None:
    """Every byte restarts no clock: the time is for the whole body."""
    head = b"POST /v1/feedback HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    connection.sendall(
        head + f"Authorization: Bearer {tenant.key}\r\n".encode() + b"Transfer-Encoding: chunked\r\n\r\n"
    )
    connection.settimeout(0.05)
    received = b""
    while not received:
        connection.sendall(b"1\r\n \r\n")
        try:
            received = connection.recv(65536)
        except TimeoutError:
            continue
    connection.settimeout(20)
    received += everything(connection)
    assert received.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in received


def test_headers_that_stop(connection: socket.socket) -> None:
    connection.sendall(b"GET /health HTTP/1.1\r\nHos")
    status, error = refusal(connection)
    assert (status, error["code"]) == (408, "headers_too_slow")


def test_headers_of_a_further_request_that_stop(connection: socket.socket) -> None:
    connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
    assert one_answer(connection).startswith(b"HTTP/1.1 200")
    connection.sendall(b"GET /hea")
    status, error = refusal(connection)
    assert (status, error["code"]) == (408, "headers_too_slow")


def test_a_connection_that_says_nothing(connection: socket.socket) -> None:
    assert everything(connection) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"HELO there\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + HOST + b"Content-Length: many\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + HOST + b"X-Long: " + b"x" * 200_000,
    ],
)
def test_what_is_no_http(connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)
    status, error = refusal(connection)
    assert (status, error["type"]) == (400, "invalid_request_error")


def test_an_answer_may_take_longer_than_a_request(address: tuple[str, int], tenant: TenantClient) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 400, "temperature": 2}
    headers = {"Authorization": f"Bearer {tenant.key}"}
    url = f"http://{address[0]}:{address[1]}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200


def test_connections_are_kept_for_further_requests(connection: socket.socket) -> None:
    for _ in range(3):
        connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        assert one_answer(connection).startswith(b"HTTP/1.1 200")


def test_a_body_that_is_too_large_gets_its_answer_and_an_end(connection: socket.socket, tenant: TenantClient) -> None:
    head = b"POST /v1/feedback HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    connection.sendall(head + f"Authorization: Bearer {tenant.key}\r\n".encode() + b"Content-Length: 9000000\r\n\r\n")
    connection.sendall(b" " * 3_000_000)
    answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in answer
