"""The dashboard's figures, counted again by hand; who may see them; news as they happen."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from learner.publishing import Notice, announce
from learner.store.dashboard import TimeRange, votes_over_time
from learner.store.keys import SCOPES, create_key, revoke_key
from learner.store.models import Feedback
from service.dashboard.counts import VoteCounts, total
from service.dashboard.ranges import GAP_EDGES, GAP_LABELS, MOST_STEPS, aligned, distribution, step_of
from tests.service.conftest import Stack, TenantClient
from tests.waiting import wait_until

VOTES = ("up", "up", "down", "up")


def new_key(stack: Stack, tenant_id: str | None, *scopes: str) -> tuple[str, str]:
    with stack.services.database.session() as session:
        key, plaintext = create_key(session, tenant_id, "test", scopes)
        return key.id, plaintext


@pytest.fixture
def operator(stack: Stack) -> Iterator[httpx.Client]:
    """A client with an operator's key."""
    _, key = new_key(stack, None, *SCOPES)
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        yield client


@pytest.fixture
def voted(tenant: TenantClient) -> TenantClient:
    """A tenant of which two users voted, all learned."""
    for seed, value in enumerate(VOTES):
        tenant.vote(tenant.ask(seed=seed, user="ada")["id"], value)
    tenant.vote(tenant.ask(user="bob")["id"], "down")
    tenant.wait_for_votes(len(VOTES))
    tenant.wait_for_votes(1, "bob")
    return tenant


def get(client: httpx.Client, path: str, tenant_id: str, **parameters: object) -> dict:
    headers = {"X-Cage-Tenant": tenant_id}
    return client.get(f"/v1/dashboard/{path}", params=parameters, headers=headers).raise_for_status().json()


def test_tenants_at_a_glance(operator: httpx.Client, voted: TenantClient) -> None:
    wait_until(lambda: glance(operator, voted)["regret_per_thumb"] is not None)
    seen = glance(operator, voted)
    assert (seen["users"], seen["thumbs"], seen["approval"]) == (2, 5, 3 / 5)
    assert seen["learn_lag_seconds"] == 0
    assert 0 < seen["feedback_to_decoder_seconds"] < 60
    assert 0 <= seen["largest_gap"] < 1e-9


def glance(operator: httpx.Client, tenant: TenantClient) -> dict:
    rows = operator.get("/v1/dashboard/tenants").raise_for_status().json()["data"]
    return next(row for row in rows if row["id"] == tenant.tenant_id)


def test_one_tenant(operator: httpx.Client, voted: TenantClient) -> None:
    wait_until(lambda: (get(operator, "tenant", voted.tenant_id)["weights"] or [{}])[-1].get("thumbs") == 5)
    wait_until(lambda: get(operator, "tenant", voted.tenant_id)["incentives"] is not None)
    seen = get(operator, "tenant", voted.tenant_id)
    steps = seen["votes"]["steps"]
    assert (sum(step["up"] for step in steps), sum(step["total"] for step in steps)) == (3, 5)
    assert all(sum(point["weights"].values()) == pytest.approx(1) for point in seen["weights"])
    assert all(point["regret"] <= point["bound"] for point in seen["regret"])
    assert seen["answers"] == seen["gaps"]["figures"] == sum(each["count"] for each in seen["gaps"]["bins"]) == 5
    principals = [each["name"] for each in seen["principals"]]
    assert [each["name"] for each in seen["incentives"]["principals"]] == principals
    assert {change["user"] for change in seen["changes"]} == {"ada", "bob"}
    ada = next(change for change in seen["changes"] if change["user"] == "ada")
    assert ada["after"] == voted.state("ada")["weights"]
    assert ada["change"] == pytest.approx(sum(abs(ada["after"][name] - ada["before"][name]) for name in principals) / 2)
    assert seen["health"]["unlearned"] == 0
    assert seen["health"]["failing"] == []


def test_a_tenant_without_data(operator: httpx.Client, tenant: TenantClient) -> None:
    seen = get(operator, "tenant", tenant.tenant_id)
    assert seen["glance"]["approval"] is None
    assert (seen["weights"], seen["regret"], seen["votes"]["steps"], seen["changes"]) == ([], [], [], [])
    assert seen["incentives"] is None
    assert seen["gaps"]["median"] is None


def test_a_retracted_vote_no_longer_counts(operator: httpx.Client, tenant: TenantClient) -> None:
    receipt = tenant.vote(tenant.ask()["id"], "up")
    tenant.wait_for_votes(1)
    tenant.http.delete(f"/v1/feedback/{receipt['feedback_id']}").raise_for_status()
    assert get(operator, "tenant", tenant.tenant_id)["glance"]["thumbs"] == 0
    wait_until(lambda: get(operator, "users/ada", tenant.tenant_id)["thumbs"] == 0)
    (vote,) = get(operator, "users/ada", tenant.tenant_id)["votes"]
    assert vote["value"] is None


def test_old_and_new_votes_add_up(stack: Stack, voted: TenantClient) -> None:
    tenant_id, counts, day = voted.tenant_id, VoteCounts(), timedelta(days=1)
    with stack.services.database.session() as session:
        some = select(Feedback.id).where(Feedback.tenant_id == tenant_id).limit(2).scalar_subquery()
        session.execute(update(Feedback).where(Feedback.id.in_(some)).values(created_at=Feedback.created_at - 3 * day))

    def counted(step: timedelta) -> list:
        now = datetime.now(UTC)
        during = aligned(TimeRange(now - 4 * day, now), step)
        with stack.services.database.session(tenant_id) as session:
            found = counts.over_time(session, [tenant_id], during, step, now)[tenant_id]
            assert found == votes_over_time(session, [tenant_id], during, step)[tenant_id]
        return found

    for step in (timedelta(hours=2), timedelta(hours=2), 2 * day):
        assert total(counted(step)).total == 5
    voted.vote(voted.ask(seed=77)["id"], "up")
    assert total(counted(timedelta(hours=2))).total == 6


def test_the_range_is_kept_to(operator: httpx.Client, voted: TenantClient) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    seen = get(
        operator, "tenant", voted.tenant_id, **{"from": past.isoformat(), "to": (past + timedelta(1)).isoformat()}
    )
    assert (seen["glance"]["thumbs"], seen["weights"], seen["regret"], seen["answers"]) == (0, [], [], 0)
    headers = {"X-Cage-Tenant": voted.tenant_id}
    backwards = {"from": past.isoformat(), "to": (past - timedelta(1)).isoformat()}
    refused = operator.get("/v1/dashboard/tenant", params=backwards, headers=headers)
    assert refused.status_code == 422
    assert "ends before it starts" in refused.json()["error"]["message"]


def test_a_series_has_no_more_points_than_asked_for(operator: httpx.Client, voted: TenantClient) -> None:
    history = get(operator, "users/ada", voted.tenant_id, points=3)["history"]
    assert len(history) == 3
    every = get(operator, "users/ada", voted.tenant_id)["history"]
    assert [point["thumbs"] for point in every] == sorted(point["thumbs"] for point in every)
    assert (history[0], history[-1]) == (every[0], every[-1])


def test_votes_come_a_page_at_a_time(operator: httpx.Client, tenant: TenantClient) -> None:
    receipts = [tenant.vote(tenant.ask(seed=seed, max_tokens=1)["id"])["feedback_id"] for seed in range(27)]
    first = get(operator, "users/ada", tenant.tenant_id)
    second = get(operator, "users/ada", tenant.tenant_id, before=first["older_votes"])
    assert [vote["feedback_id"] for vote in first["votes"] + second["votes"]] == receipts[::-1]
    assert second["older_votes"] is None
    refused = operator.get(
        "/v1/dashboard/users/ada", params={"before": "yesterday"}, headers={"X-Cage-Tenant": tenant.tenant_id}
    )
    assert refused.status_code == 422


@pytest.mark.parametrize("user", ["a/b", "ünïcödé", "<script>", "x y", "%2F", "..."])
def test_any_user_has_a_page(operator: httpx.Client, tenant: TenantClient, user: str) -> None:
    tenant.vote(tenant.ask(user=user)["id"])
    path = "users/" + httpx.QueryParams({"": user}).__str__().removeprefix("=").replace("+", "%20")
    wait_until(lambda: get(operator, path, tenant.tenant_id)["thumbs"] == 1)
    assert get(operator, path, tenant.tenant_id)["user"] == user


def test_a_tenants_key_sees_its_own_tenant_only(
    stack: Stack, tenant: TenantClient, new_tenant: Callable[[], TenantClient]
) -> None:
    other = new_tenant()
    _, key = new_key(stack, tenant.tenant_id, "operate")
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}) as client:
        rows = client.get("/v1/dashboard/tenants").raise_for_status().json()
        assert [row["id"] for row in rows["data"]] == [tenant.tenant_id]
        assert rows["operator"] is False
        assert client.get("/v1/dashboard/tenant").json()["glance"]["id"] == tenant.tenant_id
        for path in ("tenants", "tenant", "users/ada", "events"):
            response = client.get(f"/v1/dashboard/{path}", headers={"X-Cage-Tenant": other.tenant_id})
            assert response.status_code == 404


@pytest.mark.parametrize("path", ["tenants", "tenant", "users/ada", "events"])
def test_other_keys_are_refused(stack: Stack, tenant: TenantClient, path: str) -> None:
    url = f"{stack.url}/v1/dashboard/{path}"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Bearer cage_wrong"}).status_code == 401
    assert tenant.http.get(url).status_code == 403


class Listener:
    """Reads a stream of events in a thread of its own."""

    def __init__(self, stack: Stack, key: str, tenant_id: str) -> None:
        self.events: list[tuple[str, dict]] = []
        self.ended = threading.Event()
        self._begun = threading.Event()
        headers = {"Authorization": f"Bearer {key}", "X-Cage-Tenant": tenant_id}
        self._thread = threading.Thread(
            target=self._read, args=(f"{stack.url}/v1/dashboard/events", headers), daemon=True
        )
        self._thread.start()
        assert self._begun.wait(5)

    def _read(self, url: str, headers: dict[str, str]) -> None:
        name = ""
        with httpx.stream("GET", url, headers=headers, timeout=10) as response:
            for line in response.iter_lines():
                # Only keep-alives after the first one say that the server listens to announcements.
                if line.startswith(":"):
                    self.keep_alives = getattr(self, "keep_alives", 0) + 1
                    if self.keep_alives == 2:
                        self._begun.set()
                elif line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.events.append((name, json.loads(line.removeprefix("data: "))))
        self.ended.set()


def test_what_is_learned_is_news(stack: Stack, tenant: TenantClient, new_tenant: Callable[[], TenantClient]) -> None:
    key_id, key = new_key(stack, None, "operate")
    listener = Listener(stack, key, tenant.tenant_id)
    other = new_tenant()
    other.vote(other.ask(user="stranger")["id"])
    other.wait_for_votes(1, "stranger")
    tenant.vote(tenant.ask(user="ada")["id"], "up")
    wait_until(lambda: any(event["user"] == "ada" for _, event in listener.events))
    assert {event["tenant"] for _, event in listener.events} == {tenant.tenant_id}
    name, event = next((name, event) for name, event in listener.events if event["user"] == "ada")
    assert name == "learned"
    assert event["weights"] == tenant.wait_for_votes(1)["weights"]
    assert 0 < event["delay_seconds"] < 60

    with stack.services.database.session() as session:
        revoke_key(session, None, key_id, datetime.now(UTC))
    assert listener.ended.wait(5), "the stream outlived its key"
    assert listener.events[-1] == ("key", {})


def test_an_erasure_is_no_news_and_in_no_log(
    stack: Stack, tenant: TenantClient, caplog: pytest.LogCaptureFixture
) -> None:
    key_id, key = new_key(stack, None, "operate")
    listener = Listener(stack, key, tenant.tenant_id)
    announce(stack.services.redis, Notice("forgotten", tenant.tenant_id, "ada.lovelace"))
    tenant.vote(tenant.ask(user="bob")["id"])
    wait_until(lambda: any(event["user"] == "bob" for _, event in listener.events))
    assert "announcement" not in caplog.text
    assert "lovelace" not in caplog.text + str(listener.events)
    with stack.services.database.session() as session:
        revoke_key(session, None, key_id, datetime.now(UTC))
    assert listener.ended.wait(5)


def test_a_key_has_so_many_streams_and_no_more(
    stack: Stack, tenant: TenantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dashboard.live.STREAMS_OF_A_KEY", 1)
    headers = {"Authorization": f"Bearer {new_key(stack, tenant.tenant_id, 'operate')[1]}"}
    events = f"{stack.url}/v1/dashboard/events"
    with httpx.stream("GET", events, headers=headers) as first:
        assert first.status_code == 200
        refused = httpx.get(events, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")

    def is_free() -> bool:
        with httpx.stream("GET", events, headers=headers) as another:
            return another.status_code == 200

    wait_until(is_free)


@pytest.mark.parametrize(
    "query",
    [
        "tenants?from=0001-01-01T00:00:00Z",
        "tenants?from=0001-01-01T00:00:00%2B14:00",
        "tenant?from=0001-01-01T00:00:00Z&to=0001-01-01T00:10:00Z",
        "tenant?from=2025-01-01T00:00:00Z&to=9999-12-31T23:59:59-14:00",
        "users/ada?before=2025-01-01T00:00:00%20a%00b",
        "users/ada?before=yesterday%20a",
    ],
)
def test_places_and_times_that_cannot_be(operator: httpx.Client, tenant: TenantClient, query: str) -> None:
    refused = operator.get(f"/v1/dashboard/{query}", headers={"X-Cage-Tenant": tenant.tenant_id})
    assert refused.status_code == 422
    assert refused.json()["error"]["type"] == "invalid_request_error"


@given(st.floats(1.0, 5 * 366 * 86400))
def test_a_range_has_few_whole_steps(seconds: float) -> None:
    start = datetime(2026, 3, 29, 1, 30, 7, tzinfo=UTC)
    during = TimeRange(start, start + timedelta(seconds=seconds))
    step = step_of(during)
    whole = aligned(during, step)
    assert whole.start <= during.start
    assert (whole.end - whole.start) / step <= MOST_STEPS + 1
    assert (whole.start - datetime(2000, 1, 1, tzinfo=UTC)) % step == timedelta(0)


@given(st.lists(st.floats(0, 1)))
def test_every_figure_is_in_its_bin(figures: list[float]) -> None:
    bins = distribution(figures, GAP_EDGES, GAP_LABELS).bins
    edges = [0.0, *GAP_EDGES, float("inf")]
    for index, each in enumerate(bins):
        assert each.count == sum(edges[index] <= figure < edges[index + 1] for figure in figures)
