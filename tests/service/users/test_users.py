"""What is stored of a user: looked at, exported, reset, erased without a trace."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from learner.replay import replay
from learner.scope import Scope
from learner.store.models import IdempotentRequest
from learner.tasks import enqueue_learning
from tests.learner.conftest import now
from tests.service.clients import client_with
from tests.service.conftest import MODEL, Stack, TenantClient
from tests.traces import everything_in, rows_naming
from tests.waiting import wait_until

_numbers = itertools.count()
SECRET = "my-secret-password-is-swordfish"


@pytest.fixture
def gone() -> str:
    """A user id that appears nowhere else; with characters that mean something in paths, patterns and SQL."""
    return f"leaving/{next(_numbers)}:*?%'"


@pytest.fixture
def operator(stack: Stack, tenant: TenantClient) -> Iterator[httpx.Client]:
    with client_with(stack, tenant.tenant_id, "operate", "read", "admin") as client:
        yield client


def path_of(user: str, suffix: str = "") -> str:
    quoted = "".join(f"%{byte:02X}" if chr(byte) in "/:*?%'" else chr(byte) for byte in user.encode())
    return f"/v1/users/{quoted}{suffix}"


def erased(client: httpx.Client, user: str) -> dict[str, Any]:
    proof: dict[str, Any] = client.delete(path_of(user)).raise_for_status().json()
    return proof


def test_a_users_state(tenant: TenantClient) -> None:
    first = tenant.ask(seed=1)["id"]
    vote = tenant.vote(first, "up")
    tenant.wait_for_votes(1)
    state = tenant.http.get("/v1/users/ada").raise_for_status().json()
    assert (state["user"], state["answers"], state["votes"], state["parameter_version"]) == ("ada", 1, 1, 1)
    assert state["weights"]["weights"] == tenant.state()["weights"]
    tenant.http.delete(f"/v1/feedback/{vote['feedback_id']}").raise_for_status()
    state = tenant.http.get("/v1/users/ada").json()
    assert (state["votes"], state["retracted_votes"]) == (0, 1)
    assert tenant.http.get("/v1/users/nobody").status_code == 404


def test_users_by_page(tenant: TenantClient, new_tenant: Callable[[], TenantClient]) -> None:
    new_tenant().ask(user="theirs", max_tokens=2)
    answer = ""
    for user in ("b", "d", "a"):
        answer = tenant.ask(user=user, max_tokens=2)["id"]
    tenant.vote(answer, "up", user="c")
    first = tenant.http.get("/v1/users", params={"limit": 3}).raise_for_status().json()
    assert [(each["user"], each["answers"], each["votes"]) for each in first["data"]] == [
        ("a", 1, 0),
        ("b", 1, 0),
        ("c", 0, 1),
    ]
    rest = tenant.http.get("/v1/users", params={"limit": 3, "after": first["next_after"]}).json()
    assert ([each["user"] for each in rest["data"]], rest["next_after"]) == (["d"], None)


def test_history_names_the_votes_of_each_version(tenant: TenantClient) -> None:
    votes = []
    for count in (1, 2, 3):
        votes.append(tenant.vote(tenant.ask(seed=count, max_tokens=4)["id"], "up")["feedback_id"])
        tenant.wait_for_votes(count)
    history = tenant.http.get("/v1/users/ada/history").raise_for_status().json()
    assert [each["parameter_version"] for each in history["data"]] == [3, 2, 1]
    assert [each["feedback_ids"] for each in history["data"]] == [[vote] for vote in reversed(votes)]
    assert history["data"][0]["weights"] == tenant.state()["weights"]
    older = tenant.http.get("/v1/users/ada/history", params={"before": 2}).json()
    assert [each["parameter_version"] for each in older["data"]] == [1]


def test_an_export_holds_everything(tenant: TenantClient, operator: httpx.Client) -> None:
    operator.patch(f"/v1/tenants/{tenant.tenant_id}", json={"stores_text": True}).raise_for_status()
    answer = tenant.ask("a question of ada")
    vote = tenant.vote(answer["id"], "up", comment="thanks", tags=["kind"])
    tenant.vote(answer["id"], "down", user="bob")
    tenant.wait_for_votes(1)
    wait_until(lambda: tenant.state()["regret"] is not None)
    response = tenant.http.get("/v1/users/ada/export")
    assert response.headers["content-type"] == "application/json"
    export = response.json()
    assert export["user"] == "ada"
    assert [each["id"] for each in export["answers"]] == [answer["id"]]
    assert export["texts"][0]["messages"][0]["content"] == "a question of ada"
    assert [(each["id"], each["comment"], each["tags"]) for each in export["votes"]] == [
        (vote["feedback_id"], "thanks", ["kind"])
    ]
    assert export["parameters"][0]["weights"] == list(tenant.state()["weights"].values())
    assert len(export["regret"]) == 1
    assert "bob" not in response.text
    assert tenant.tenant_id not in response.text
    empty = tenant.http.get("/v1/users/nobody/export").json()
    assert empty["answers"] == empty["votes"] == []


def test_a_reset_user_decodes_like_a_new_one(tenant: TenantClient, operator: httpx.Client) -> None:
    for seed in range(3):
        tenant.vote(tenant.ask(seed=seed, max_tokens=4)["id"], "up" if seed else "down")
    tenant.wait_for_votes(3)
    prior = {"detail": 0.25, "brevity": 0.25, "caution": 0.25, "warmth": 0.25}
    report = operator.post("/v1/users/ada/reset").raise_for_status().json()
    assert report["forgotten_votes"] == 3
    assert report["weights"]["weights"] == pytest.approx(prior)
    assert tenant.ask(max_tokens=2)["cage"]["weights"] == pytest.approx(prior)
    assert operator.post("/v1/users/ada/reset").json()["forgotten_votes"] == 0
    assert tenant.http.get("/v1/users/ada").json()["answers"] == 4
    log = operator.get("/v1/audit").json()["data"]
    assert [entry["action"] for entry in log[:2]] == ["user.reset", "user.reset"]
    assert "ada" not in str(log)


def test_erasing_leaves_no_trace(tenant: TenantClient, operator: httpx.Client, stack: Stack, gone: str) -> None:
    operator.patch(
        f"/v1/tenants/{tenant.tenant_id}", json={"stores_text": True, "stores_traces": True}
    ).raise_for_status()
    ada = tenant.ask(seed=1, max_tokens=4)["id"]
    tenant.vote(ada, "up")
    tenant.wait_for_votes(1)
    for seed in range(4):
        answer = tenant.ask(SECRET, user=gone, seed=seed)
        tenant.vote(answer["id"], "down" if seed % 2 else "up", comment=SECRET)
        tenant.vote(answer["id"], "up", user="ada")
    tenant.vote(ada, "down", user=gone, comment=SECRET)
    with stack.services.database.session() as session:
        session.add(
            IdempotentRequest(
                tenant_id=tenant.tenant_id, key="k", fingerprint="f", user_id=gone, created_at=now(), status=200
            )
        )
    wait_until(lambda: counted(tenant, gone) == 5)
    tenant.wait_for_votes(5)
    wait_until(lambda: tenant.state("stranger")["feedback_count"] == 10)
    enqueue_learning(Scope(tenant.tenant_id, gone))

    assert rows_naming(stack.services.database, SECRET).keys() == {"transcripts", "feedback"}
    assert len(rows_naming(stack.services.database, gone)) >= 6
    proof = erased(operator, gone)

    assert proof["deleted"]["generations"] == proof["deleted"]["transcripts"] == 4
    assert proof["deleted"]["feedback"] == 9
    assert proof["tenant_parameter_version_after"] == proof["tenant_parameter_version_before"] + 1
    for word in (gone, SECRET):
        assert rows_naming(stack.services.database, word) == {}
        wait_until(lambda word=word: word.encode() not in everything_in(stack.services.redis))
    assert everything_known_to(stack, gone) == []
    assert operator.get(path_of(gone)).status_code == 404
    log = operator.get("/v1/audit").json()["data"][0]
    assert (log["action"], log["target"]) == ("user.erase", proof["receipt"])
    assert log["details"]["deleted"] == proof["deleted"]
    # What is left is what ada's one vote gives.
    assert tenant.state()["feedback_count"] == 1
    assert tenant.state("stranger")["feedback_count"] == 1
    assert replay(stack.services.database, stack.services.settings, lambda done, total: None).differences == ()


def test_weights_afterwards_are_those_of_a_tenant_that_never_had_the_user(
    tenant: TenantClient, operator: httpx.Client, stack: Stack, gone: str
) -> None:
    """The same answers and votes of ada, with and without somebody else: bitwise the same weights."""
    tenant.vote(tenant.ask(seed=1, max_tokens=4)["id"], "up")
    tenant.wait_for_votes(1)
    wait_until(lambda: tenant.state("stranger")["feedback_count"] == 1)
    alone = tenant.state("stranger")["weights"], tenant.state()["weights"]
    for seed in range(3):
        answer = tenant.ask(user=gone, seed=seed, max_tokens=4)["id"]
        tenant.vote(answer, "down")
        tenant.vote(answer, "up", user="ada")
    wait_until(lambda: tenant.state("stranger")["feedback_count"] == 7)
    assert tenant.state("stranger")["weights"] != alone[0]
    erased(operator, gone)
    assert (tenant.state("stranger")["weights"], tenant.state()["weights"]) == alone


def test_an_erased_user_that_comes_back_is_new(tenant: TenantClient, operator: httpx.Client, gone: str) -> None:
    for seed in range(2):
        tenant.vote(tenant.ask(user=gone, seed=seed, max_tokens=4)["id"], "up")
    erased(operator, gone)
    again = tenant.ask(user=gone, max_tokens=4)
    assert (again["cage"]["parameter_version"], again["cage"]["scope"]) == (0, "tenant")
    tenant.vote(again["id"], "down")
    wait_until(lambda: operator.get(path_of(gone)).json()["weights"]["parameter_version"] == 1)
    assert operator.get(path_of(gone)).json()["votes"] == 1


def test_erasing_twice_and_erasing_nobody(tenant: TenantClient, operator: httpx.Client, gone: str) -> None:
    tenant.ask(user=gone, max_tokens=2)
    assert erased(operator, gone)["deleted"]["generations"] == 1
    again = erased(operator, gone)
    assert sum(again["deleted"].values()) == 0
    assert again["receipt"]


def test_what_was_not_cleared_the_first_time_is_cleared_by_the_second(
    tenant: TenantClient, operator: httpx.Client, stack: Stack, gone: str
) -> None:
    """A process that dies right after the commit: rows are gone, Redis still has the weights."""
    tenant.vote(tenant.ask(user=gone, max_tokens=4)["id"], "up")
    wait_until(lambda: counted(tenant, gone) == 1)
    assert gone.encode() in everything_in(stack.services.redis)
    with stack.services.database.session() as session:
        for table in ("parameter_versions", "learner_states", "tenant_shares", "generations"):
            session.execute(text(f"DELETE FROM {table} WHERE user_id = :user"), {"user": gone})
    # How much is left to clear depends on whether the decoder's version check came first.
    erased(operator, gone)
    assert gone.encode() not in everything_in(stack.services.redis)
    assert everything_known_to(stack, gone) == []


def test_answers_and_votes_of_a_user_who_is_being_erased(
    tenant: TenantClient, operator: httpx.Client, stack: Stack, gone: str
) -> None:
    """Nothing ends in a 500, and when all is over one more erasure leaves nothing."""

    def chat_and_vote(seed: int) -> set[int]:
        with httpx.Client(base_url=stack.url, headers=tenant.http.headers, timeout=60) as http:
            message = {"role": "user", "content": "hi"}
            body = {"model": MODEL, "messages": [message], "user": gone, "max_tokens": 3, "seed": seed}
            statuses = set()
            for _ in range(8):
                answer = http.post("/v1/chat/completions", json=body)
                vote = http.post("/v1/feedback", json={"inference_id": answer.json().get("id", "x"), "value": "up"})
                statuses |= {answer.status_code, vote.status_code}
            return statuses

    with ThreadPoolExecutor(4) as threads:
        chats = [threads.submit(chat_and_vote, seed) for seed in range(3)]
        while not all(chat.done() for chat in chats):
            erased(operator, gone)
        statuses = set().union(*(chat.result() for chat in chats))
    assert statuses <= {200, 201, 404}
    erased(operator, gone)
    assert rows_naming(stack.services.database, gone) == {}
    wait_until(lambda: gone.encode() not in everything_in(stack.services.redis))


def test_an_answer_that_is_being_made_is_not_kept_of_a_user_without_votes(
    tenant: TenantClient, operator: httpx.Client, stack: Stack, gone: str
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "user": gone, "stream": True}
    with tenant.http.stream("POST", "/v1/chat/completions", json={**body, "max_tokens": 160}) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data:")
        erased(operator, gone)
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert rows_naming(stack.services.database, gone) == {}


def test_regret_over_time(tenant: TenantClient) -> None:
    for count in (1, 2):
        tenant.vote(tenant.ask(seed=count, max_tokens=4)["id"], "up" if count % 2 else "down")
        tenant.wait_for_votes(count)
    wait_until(lambda: len(tenant.http.get("/v1/regret", params={"user": "ada"}).json()["data"]) == 2)
    series = tenant.http.get("/v1/regret", params={"user": "ada"}).json()["data"]
    assert [point["feedback_count"] for point in series] == [1, 2]
    for point in series:
        assert point["measured"] == pytest.approx(point["incurred_loss"] - point["best_loss"])
        assert point["measured"] <= point["bound"]
    newest = tenant.http.get("/v1/regret", params={"user": "ada", "limit": 1}).json()["data"]
    assert newest == series[-1:]
    wait_until(lambda: tenant.http.get("/v1/regret").json()["data"])


def test_scopes_of_keys(tenant: TenantClient, stack: Stack) -> None:
    with client_with(stack, tenant.tenant_id, "read") as reader, client_with(stack, tenant.tenant_id, "admin") as admin:
        assert reader.delete("/v1/users/ada").status_code == 403
        assert reader.post("/v1/users/ada/reset").status_code == 403
        for path in ("/v1/users", "/v1/users/ada", "/v1/users/ada/export", "/v1/users/ada/history", "/v1/regret"):
            assert admin.get(path).status_code == 403


def counted(tenant: TenantClient, user: str) -> int:
    """Votes in the weights in use."""
    count: int = tenant.http.get(path_of(user, "/weights")).raise_for_status().json()["feedback_count"]
    return count


def everything_known_to(stack: Stack, user: str) -> list[object]:
    """What a running decoder holds under a user's name."""
    cache, prefixes = stack.services.parameters, stack.services.engine.prefixes
    held = [entry for scope, entry in cache._held.items() if scope.user_id == user and entry.parameters is not None]
    return [*held, *(scope for scope in prefixes._conversations if user in str(scope))]
