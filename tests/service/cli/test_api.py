"""Commands that talk to a running server, in processes of their own."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from learner.store.keys import SCOPES, create_key
from tests.service.cli.test_main import cage
from tests.service.conftest import Stack, TenantClient
from tests.waiting import wait_until

Run = Callable[..., Any]


@pytest.fixture
def as_tenant(stack: Stack, tenant: TenantClient) -> dict[str, str]:
    """The environment of somebody with a tenant's key."""
    return {"CAGE_URL": stack.url, "CAGE_API_KEY": tenant.key}


@pytest.fixture
def operate(stack: Stack) -> Run:
    """Runs a command with an operator's key; returns what it printed as JSON, which is all that it printed."""
    with stack.services.database.session() as session:
        _, key = create_key(session, None, "operator", SCOPES)
    settings = stack.services.settings
    servers = {"CAGE_DATABASE_URL": settings.database_url, "CAGE_REDIS_URL": settings.redis_url}

    def run(*arguments: str) -> Any:
        done = cage(*arguments, "--json", CAGE_URL=stack.url, CAGE_API_KEY=key, **servers)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_question_is_answered_and_weights_and_regret_are_shown(
    tenant: TenantClient, as_tenant: dict[str, str]
) -> None:
    asked = cage("chat", "How can I sleep better?", "--user", "ada", **as_tenant)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
    answer = json.loads(cage("chat", "How can I sleep better?", "--user", "ada", "--json", **as_tenant).stdout)
    tenant.vote(answer["id"])
    tenant.wait_for_votes(1)
    state = json.loads(cage("weights", "ada", "--json", **as_tenant).stdout)
    assert (state["feedback_count"], state["weights"]) == (1, tenant.state()["weights"])
    shown = cage("weights", "ada", **as_tenant).stdout
    assert all(f"{name}  " in shown and f"{weight:.2f}" in shown for name, weight in state["weights"].items())

    def measured() -> list[Any]:
        points: list[Any] = json.loads(cage("regret", "--user", "ada", "--json", **as_tenant).stdout)["data"]
        return points

    wait_until(measured)
    assert measured()[0]["measured"] <= measured()[0]["bound"]
    assert cage("regret", **as_tenant).returncode == 0


class Terminal:
    """A person at a terminal."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._screen, end = pty.openpty()
        command = [sys.executable, "-m", "service", *arguments]
        environment = {**os.environ, "TERM": "dumb", **environment}
        self.process = subprocess.Popen(command, env=environment, stdin=end, stdout=end, stderr=end)
        os.close(end)
        self._seen = b""

    def type(self, keys: bytes) -> None:
        os.write(self._screen, keys)

    def sees(self, *said: bytes, seconds: float = 60) -> bool:
        deadline = time.monotonic() + seconds
        while not all(each in self._seen for each in said):
            if not select.select([self._screen], [], [], max(deadline - time.monotonic(), 0))[0]:
                return False
            self._seen += os.read(self._screen, 4096)
        return True

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._screen)


def test_a_key_press_is_a_thumb_and_the_weights_move(tenant: TenantClient, as_tenant: dict[str, str]) -> None:
    terminal = Terminal("chat", "--user", "ada", **as_tenant)
    try:
        assert terminal.sees(b"you>")
        terminal.type(b"How can I sleep better?\n")
        assert terminal.sees(b"any other key")
        # What is typed before the terminal listens to single keys is dropped, so a machine has to try again.
        while not terminal.sees(b"caution", b"warmth", b"brevity", b"detail", seconds=2):
            terminal.type(b"u")
        assert tenant.state()["feedback_count"] == 1
        terminal.type(b"\x15\n")  # an empty line
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()


def test_tenants_and_keys_are_managed_from_the_command_line(operate: Run, stack: Stack) -> None:
    created = operate("tenants", "create", "managed")
    assert "managed" in {each["name"] for each in operate("tenants", "list")}
    changed = operate("tenants", "set", "managed", "strength=1.5", "principals.caution=3", "principals.warmth=1")
    assert (changed["strength"], changed["principals"]) == (1.5, {"caution": 0.75, "warmth": 0.25})
    assert operate("tenants", "show", created["id"]) == changed

    key = operate("keys", "create", "shop", "--tenant", "managed", "--scope", "read")
    with_it = {"CAGE_URL": stack.url, "CAGE_API_KEY": key["key"]}
    assert cage("weights", "ada", **with_it).returncode == 0
    rotated = operate("keys", "rotate", key["id"], "--tenant", "managed", "--grace-seconds", "0")
    refused = cage("weights", "ada", **with_it)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("cage: this API key is unknown, expired or revoked")
    assert operate("keys", "revoke", rotated["id"], "--tenant", "managed")["revoked_at"]
    assert {"first key", "shop"} == {each["label"] for each in operate("keys", "list", "--tenant", "managed")}

    actions = [each["action"] for each in operate("audit", "--tenant", "managed")]
    assert actions == ["key.revoke", "key.rotate", "key.create", "tenant.change", "tenant.create"]
    assert operate("tenants", "delete", "managed", "--yes")["id"] == created["id"]
    assert "managed" not in {each["name"] for each in operate("tenants", "list")}


def test_the_first_operator_key_needs_no_server(database_url: str, redis_url: str, tmp_path: Path) -> None:
    servers = {"CAGE_DATABASE_URL": database_url, "CAGE_REDIS_URL": redis_url}
    made = cage("keys", "create", "ops", "--operator", "--json", "--data-dir", str(tmp_path), **servers)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["scopes"] == list(SCOPES)
    assert cage("keys", "create", "ops", **servers).returncode == 2


def test_what_cannot_be_done_is_one_line(stack: Stack, tmp_path: Path, as_tenant: dict[str, str]) -> None:
    for arguments, environment, said in (
        (("weights", "ada"), {"CAGE_URL": "http://127.0.0.1:1", "CAGE_API_KEY": "k"}, "no server answers"),
        (("weights", "ada", "--data-dir", str(tmp_path)), {}, "there is no key"),
        (("keys", "list"), as_tenant, "this key may not"),
        (("chat", "x" * 100_000), as_tenant, "context"),
    ):
        failed = cage(*arguments, **environment)
        assert failed.returncode == 1
        assert failed.stderr.startswith("cage: ")
        assert said in failed.stderr
        assert len(failed.stderr.splitlines()) == 1
