"""Answers on record: what was in force, what was said of them, and their words where a tenant wants them kept."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import update

from learner.keeping import drop_old_transcripts
from learner.store.models import Transcript
from tests.learner.conftest import now
from tests.service.clients import client_with
from tests.service.conftest import Stack, TenantClient
from tests.traces import rows_naming

QUESTION = "what do quokkas dream of"


@pytest.fixture
def admin(stack: Stack, tenant: TenantClient) -> Iterator[httpx.Client]:
    with client_with(stack, tenant.tenant_id, "admin") as client:
        yield client


def keep(admin: httpx.Client, tenant: TenantClient, **settings: object) -> None:
    admin.patch(f"/v1/tenants/{tenant.tenant_id}", json=settings).raise_for_status()


def stored(tenant: TenantClient, answer_id: str) -> dict[str, object]:
    view: dict[str, object] = tenant.http.get(f"/v1/generations/{answer_id}").raise_for_status().json()
    return view


def test_an_answer_on_record_is_the_answer_that_was_given(tenant: TenantClient) -> None:
    answer = tenant.ask(seed=5)
    vote = tenant.vote(answer["id"], "down", comment="too long", tags=["length"])
    view = stored(tenant, answer["id"])
    report = answer["cage"]
    assert view["weights"] == report["weights"]
    assert view["features"] == pytest.approx(report["features"])
    assert (view["mode"], view["largest_gap"], view["seed"]) == (report["mode"], report["largest_gap"], 5)
    assert view["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert view["coefficients"] == pytest.approx(report["weights"])
    (on_record,) = view["votes"]  # type: ignore[misc]
    assert (on_record["feedback_id"], on_record["value"]) == (vote["feedback_id"], "down")
    assert (on_record["comment"], on_record["user"]) == ("too long", "ada")
    assert view["messages"] is view["answer"] is view["tokens"] is None


def test_no_words_are_kept_unless_the_tenant_says_so(tenant: TenantClient, stack: Stack) -> None:
    tenant.ask(QUESTION)
    assert rows_naming(stack.services.database, QUESTION) == {}


def test_words_and_traces_are_kept_where_they_are_wanted(admin: httpx.Client, tenant: TenantClient) -> None:
    keep(admin, tenant, stores_text=True)
    answer = tenant.ask(QUESTION, seed=1)
    assert answer["cage"]["tokens"] is None
    view = stored(tenant, answer["id"])
    assert view["messages"] == [{"role": "user", "content": QUESTION}]
    assert view["answer"] == answer["choices"][0]["message"]["content"]
    assert view["tokens"] is None
    keep(admin, tenant, stores_text=False, stores_traces=True)
    silent = tenant.ask(QUESTION, seed=1)
    assert silent["cage"]["tokens"] is None
    explained = tenant.ask(QUESTION, seed=1, cage={"explain": True})
    view = stored(tenant, silent["id"])
    assert view["messages"] is view["answer"] is None
    assert view["tokens"] == explained["cage"]["tokens"]
    assert len(view["tokens"]) == silent["usage"]["completion_tokens"]  # type: ignore[arg-type]


def test_each_of_several_answers_has_its_words(admin: httpx.Client, tenant: TenantClient) -> None:
    keep(admin, tenant, stores_text=True)
    completion = tenant.ask(QUESTION, n=2, seed=3)
    for choice in completion["choices"]:
        view = stored(tenant, choice["cage"]["inference_id"])
        assert view["answer"] == choice["message"]["content"]


def test_words_go_when_their_time_is_up_or_they_are_not_wanted(
    admin: httpx.Client, tenant: TenantClient, stack: Stack
) -> None:
    database = stack.services.database
    keep(admin, tenant, stores_text=True, stores_traces=True, retention_days=2)
    old, young = (tenant.ask(QUESTION, max_tokens=3)["id"] for _ in range(2))
    with database.session() as session:
        aged = update(Transcript).where(Transcript.generation_id == old)
        session.execute(aged.values(created_at=now() - timedelta(days=2, minutes=1)))
    drop_old_transcripts(database, now())
    assert stored(tenant, old)["answer"] is stored(tenant, old)["tokens"] is None
    assert stored(tenant, young)["answer"] is not None
    keep(admin, tenant, stores_text=False)
    drop_old_transcripts(database, now())
    assert stored(tenant, young)["answer"] is stored(tenant, young)["messages"] is None
    assert stored(tenant, young)["tokens"] is not None
    keep(admin, tenant, stores_traces=False)
    drop_old_transcripts(database, now())
    assert stored(tenant, young)["tokens"] is None


def test_answers_by_page(tenant: TenantClient) -> None:
    ids = [tenant.ask(user=user, max_tokens=2)["id"] for user in ("ada", "bob", "ada", "ada")]
    page = tenant.http.get("/v1/generations", params={"user": "ada", "limit": 2}).raise_for_status().json()
    assert [each["id"] for each in page["data"]] == [ids[3], ids[2]]
    rest = tenant.http.get("/v1/generations", params={"user": "ada", "limit": 2, "before": page["next_before"]}).json()
    assert ([each["id"] for each in rest["data"]], rest["next_before"]) == ([ids[0]], None)
    assert [each["id"] for each in tenant.http.get("/v1/generations").json()["data"]] == ids[::-1]


def test_another_tenants_answers_do_not_exist(tenant: TenantClient, new_tenant: Callable[[], TenantClient]) -> None:
    theirs = new_tenant().ask(max_tokens=2)["id"]
    for path in (f"/v1/generations/{theirs}", f"/v1/generations?before={theirs}", "/v1/generations/none"):
        assert tenant.http.get(path).status_code == 404
    assert tenant.http.get("/v1/generations").json()["data"] == []
