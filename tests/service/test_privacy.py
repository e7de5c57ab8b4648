"""What users write is nowhere but where it was asked for: not in logs, whatever goes wrong, nor in the store."""

import logging
from collections.abc import Iterator

import pytest

from learner.logs import JsonLines
from learner.store.models import Tenant
from tests.service.conftest import MODEL, Stack, TenantClient
from tests.traces import everything_in, rows_naming

CANARY = "canary-7f3a-my-bank-pin"


# Line breaks, since PostgreSQL quotes rows as they are.
COMMENT = f"first line\n{CANARY}\nDETAIL: {CANARY}\nCONTEXT: {CANARY}"


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that this project's own loggers say, from DEBUG on."""
    caplog.handler.setFormatter(JsonLines())
    with caplog.at_level(logging.DEBUG):
        for name in ("service", "learner", "cage_core"):
            caplog.set_level(logging.DEBUG, name)
        yield caplog


def chat(content: object = CANARY, **more: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 4, "user": "ada", **more}


def test_request_text_is_in_no_log_and_no_store(
    tenant: TenantClient, stack: Stack, everything_logged: pytest.LogCaptureFixture
) -> None:
    answer = tenant.http.post("/v1/chat/completions", json=chat()).raise_for_status().json()
    with tenant.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as stream:
        stream.read()
    tenant.vote(answer["id"], "up")
    tenant.wait_for_votes(1)
    logging.getLogger("service").debug("a line of this test")
    assert "a line of this test" in everything_logged.text
    assert CANARY not in everything_logged.text
    assert CANARY.encode() not in stack.worker.log.read_bytes()
    assert rows_naming(stack.services.database, CANARY) == {}
    assert CANARY.encode() not in everything_in(stack.services.redis)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat(role=CANARY)),
        ("/v1/chat/completions", chat(content={"secret": CANARY})),
        ("/v1/chat/completions", chat(content=CANARY * 1000)),
        ("/v1/chat/completions", chat(temperature=CANARY)),
        ("/v1/chat/completions", chat(max_tokens=10**6)),
        ("/v1/chat/completions", chat(cage={"mode": "duel"})),
        ("/v1/chat/completions", chat(user=f"\x00{CANARY}")),
        ("/v1/feedback", {"inference_id": "none", "value": "up", "comment": CANARY}),
        ("/v1/feedback", {"inference_id": "none", "value": CANARY}),
        ("/v1/feedback", {"inference_id": "none", "value": "up", "tags": [CANARY * 10]}),
    ],
)
def test_what_is_refused_is_not_logged_either(
    tenant: TenantClient, everything_logged: pytest.LogCaptureFixture, path: str, body: dict[str, object]
) -> None:
    assert tenant.http.post(path, json=body).status_code in (404, 422)
    assert CANARY not in everything_logged.text


def test_a_body_that_is_no_json_is_not_logged(
    tenant: TenantClient, everything_logged: pytest.LogCaptureFixture
) -> None:
    headers = {"content-type": "application/json"}
    refused = tenant.http.post("/v1/chat/completions", content=f'{{"x": {CANARY}', headers=headers)
    assert refused.status_code == 422
    assert CANARY not in everything_logged.text


def test_a_fault_of_the_server_is_logged_without_the_text(
    tenant: TenantClient, stack: Stack, everything_logged: pytest.LogCaptureFixture
) -> None:
    """A row that the database refuses is the worst case: PostgreSQL quotes it in the error's details."""
    with stack.services.database.session() as session:
        row = session.get(Tenant, tenant.tenant_id)
        assert row is not None
        row.stores_text = True
    stack.services.callers.forget()
    with stack.services.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE transcripts ADD CONSTRAINT refuses CHECK (position('canary' IN messages::text) = 0)"
        )
    try:
        refused = tenant.http.post("/v1/chat/completions", json=chat())
    finally:
        with stack.services.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE transcripts DROP CONSTRAINT refuses")
    assert refused.status_code == 500
    assert CANARY not in refused.text
    assert "CheckViolation" in everything_logged.text
    assert CANARY not in everything_logged.text


def test_a_refused_vote_is_logged_without_its_comment(
    tenant: TenantClient, stack: Stack, everything_logged: pytest.LogCaptureFixture
) -> None:
    """No formatter helps here: the text is not in the exception at all."""
    everything_logged.handler.setFormatter(logging.Formatter())
    answer = tenant.ask(max_tokens=3)["id"]
    with stack.services.database.engine.begin() as connection:
        refusal = "CHECK (position('canary' IN comment) = 0)"
        connection.exec_driver_sql(f"ALTER TABLE feedback ADD CONSTRAINT refuses {refusal}")
    try:
        refused = tenant.http.post("/v1/feedback", json={"inference_id": answer, "value": "up", "comment": COMMENT})
    finally:
        with stack.services.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE feedback DROP CONSTRAINT refuses")
    assert refused.status_code == 500
    assert 'violates check constraint "refuses"' in everything_logged.text
    assert CANARY not in everything_logged.text + refused.text
