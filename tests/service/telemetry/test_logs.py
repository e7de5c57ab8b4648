"""Log lines: JSON, with the request they belong to, and without what users are called or write."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from learner.logs import JsonLines, TextLines, set_log_context
from tests.service.conftest import Stack, TenantClient
from tests.waiting import wait_until

USER = "somebody-in-particular"
WORDS = "how do I hide a tattoo"


class Lines(logging.Handler):
    """Keeps what is logged, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # The client of these tests runs in the server's process and logs whom it asks for.
        if record.name != "httpx":
            self.lines.append(self.format(record))


@pytest.fixture
def logged() -> Iterator[list[str]]:
    handler, root = Lines(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler.lines
    root.setLevel(before)
    root.removeHandler(handler)


def test_a_request_is_one_line_that_names_nobody(stack: Stack, tenant: TenantClient, logged: list[str]) -> None:
    answer = tenant.ask(WORDS, user=USER)
    tenant.vote(answer["id"], comment=WORDS)
    response = tenant.http.get(f"/v1/users/{USER}/weights", headers={"x-request-id": "mine"})
    assert response.status_code == 200
    wait_until(lambda: any('"mine"' in line for line in logged))
    line = next(json.loads(line) for line in logged if '"mine"' in line)
    assert (line["message"], line["level"], line["route"]) == ("request", "info", "/v1/users/{user_id:path}/weights")
    assert (line["status"], line["method"], line["tenant"]) == (200, "GET", tenant.tenant_id)
    assert line["seconds"] > 0
    assert USER not in "".join(logged)
    assert WORDS not in "".join(logged)
    assert tenant.key not in "".join(logged)


def test_a_worker_logs_json_that_names_nobody(stack: Stack, tenant: TenantClient) -> None:
    answer = tenant.ask(WORDS, user=USER)
    tenant.vote(answer["id"])
    tenant.wait_for_votes(1, user=USER)
    text = stack.worker.log.read_text()
    # Before it logs, Celery warns those who run a worker as root.
    lines = [json.loads(line) for line in text[text.index("{") :].splitlines()]
    assert any(line.get("tenant") == tenant.tenant_id and line["task"] == "learner.tasks.learn" for line in lines)
    assert USER not in text


def test_an_error_has_its_stack_but_not_the_row_at_fault() -> None:
    said = "duplicate key\nDETAIL:  Key (user_id)=(ada) exists\n[SQL: INSERT]"
    try:
        raise ValueError(said)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "it failed", (), sys.exc_info())
    line = json.loads(JsonLines().format(record))
    assert (line["message"], line["error"]) == ("it failed", "ValueError")
    assert "duplicate key" in line["stack"]
    assert "ada" not in line["stack"] + TextLines().format(record)


def test_text_lines_carry_the_same_fields() -> None:
    record = logging.LogRecord("cage.requests", logging.INFO, "f", 1, "request", (), None)
    record.event = {"status": 200}
    set_log_context(request_id="abc")
    line = TextLines().format(record)
    set_log_context()
    assert line.endswith("request  request_id=abc  status=200")


@pytest.mark.parametrize("form", ["json", "text", None])
def test_the_form_is_chosen_by_the_environment(form: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if form is not None:
        monkeypatch.setenv("CAGE_LOG_FORMAT", form)
    program = "import logging; from learner.logs import *; configure_logs(LogSettings()); logging.warning('said')"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "said" in run.stderr
    assert run.stderr.startswith("{") == (form != "text")
