"""How commands reach a running server, and how they print."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console

from service.running.addresses import KEY_FILE, OPERATOR_KEY_FILE, find_running

DATA_DIR = Path(".cage")
DataDir = Annotated[Path, typer.Option(help="Where `cage up` keeps its data, its address and its keys.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
TenantOption = Annotated[
    str, typer.Option("--tenant", help="Name or id of the tenant to act for, with an operator's key.")
]

_TIMEOUT_SECONDS = 60.0

console = Console()
"""Results."""
messages = Console(stderr=True)
"""Everything else: progress, remarks."""


class ApiFailed(Exception):
    """The server refused, or there is none; the message says what and what to do."""


@dataclass(frozen=True)
class Api:
    """A server, as one key sees it."""

    http: httpx.Client

    def call(self, method: str, path: str, body: object = None, query: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON of a successful answer.

        Raises:
            ApiFailed: there is no server, or it refuses.
        """
        try:
            response = self.http.request(method, path, json=body, params=query)
        except httpx.HTTPError as error:
            raise ApiFailed(f"no server answers at {self.http.base_url} ({error}); start one with `cage up`") from error
        check(response)
        answer: dict[str, Any] = response.json()
        return answer

    def pages(self, path: str, cursor: str = "after") -> Iterator[dict[str, Any]]:
        """Every entry of a list that comes in pages."""
        query: dict[str, Any] = {}
        while True:
            page = self.call("GET", path, query=query)
            yield from page["data"]
            following = page.get(f"next_{cursor}")
            if following is None:
                return
            query = {cursor: following}

    def for_tenant(self, name_or_id: str) -> str:
        """Let further calls be about this tenant; returns its id."""
        found = next((each for each in self.pages("/v1/tenants") if name_or_id in (each["id"], each["name"])), None)
        if found is None:
            raise ApiFailed(f"no tenant is called {name_or_id!r} and none has this id; see `cage tenants list`")
        self.http.headers["X-Cage-Tenant"] = found["id"]
        return str(found["id"])


@contextmanager
def connected(data_dir: Path, *, tenant: str = "", as_operator: bool = False) -> Iterator[Api]:
    """The running server: CAGE_URL and CAGE_API_KEY, else what `cage up` left in the data directory.

    Raises:
        ApiFailed: no key is known, or there is no such tenant.
    """
    running = find_running(data_dir)
    url = os.environ.get("CAGE_URL") or (running.api_url if running else f"http://127.0.0.1:{_port()}")
    headers = {"Authorization": f"Bearer {_key(data_dir, operator=as_operator or bool(tenant))}"}
    with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS) as http:
        api = Api(http)
        if tenant:
            api.for_tenant(tenant)
        yield api


def check(response: httpx.Response) -> None:
    """See that an answer is a success.

    Raises:
        ApiFailed: it is not; says what the server says.
    """
    if response.is_success:
        return
    response.read()
    try:
        said = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = f"the server answered {response.status_code}"
    raise ApiFailed(said)


def segment(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


def show_json(value: object) -> None:
    """Print a result for machines."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def _port() -> str:
    return os.environ.get("CAGE_PORT", "8080")


def _key(data_dir: Path, *, operator: bool) -> str:
    if given := os.environ.get("CAGE_API_KEY"):
        return given
    kept = data_dir / (OPERATOR_KEY_FILE if operator else KEY_FILE)
    try:
        return kept.read_text().strip()
    except OSError as error:
        raise ApiFailed(f"there is no key in {kept}; set CAGE_API_KEY, or pass --key before the command") from error
