"""What Prometheus reads, as its own parser reads it."""

import json
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from learner.redis_connection import connect
from learner.store.database import Database
from learner.task_metrics import count_learned_votes, count_task, read_work
from service.telemetry.installation_metrics import InstallationMetrics
from tests.service.conftest import Stack, TenantClient
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[3]
DASHBOARD = REPOSITORY / "docs" / "grafana" / "cage.json"
OPERATIONS = REPOSITORY / "docs" / "operations.md"
ALERTS = REPOSITORY / "docs" / "grafana" / "alerts.yml"


def scrape(stack: Stack) -> dict[str, Metric]:
    text = httpx.get(f"{stack.url}/metrics").raise_for_status().text
    return {metric.name: metric for metric in text_string_to_metric_families(text)}


def sample(metrics: dict[str, Metric], name: str, **labels: str) -> float:
    found = [
        s
        for metric in metrics.values()
        for s in metric.samples
        if s.name == name and labels.items() <= s.labels.items()
    ]
    return sum(s.value for s in found)


def test_an_answer_and_a_thumb_are_counted(stack: Stack, tenant: TenantClient) -> None:
    before = scrape(stack)
    answer = tenant.ask("How can I sleep better?")
    tenant.vote(answer["id"], "down")
    tenant.wait_for_votes(1)
    tenant.ask("And then?")

    def grew(name: str, **labels: str) -> float:
        return sample(scrape(stack), name, **labels) - sample(before, name, **labels)

    assert grew("cage_http_requests_total", route="/v1/chat/completions", status="200") == 2
    assert grew("cage_http_request_seconds_count", route="/v1/chat/completions") == 2
    assert grew("cage_first_token_seconds_count") == 2
    assert grew("cage_decode_seconds_count") == 2
    assert grew("cage_equilibrium_gap_count") == 2
    assert grew("cage_tokens_total", kind="prompt") > 0
    assert grew("cage_tokens_total", kind="completion") >= answer["usage"]["completion_tokens"]
    assert grew("cage_feedback_total", value="down") == 1
    assert grew("cage_feedback_to_decoder_seconds_count") >= 1
    assert grew("cage_parameter_age_seconds_count") == 1
    metrics = scrape(stack)
    assert sample(metrics, "cage_build_info", model="cage-pocket") == 1
    assert sample(metrics, "cage_store_up") == 2


def test_the_workers_and_the_regret_show(stack: Stack, tenant: TenantClient) -> None:
    tenant.vote(tenant.ask()["id"])
    tenant.wait_for_votes(1)
    wait_until(lambda: sample(scrape(stack), "cage_regret_votes", tenant=tenant.tenant_id) == 1, seconds=20)
    metrics = scrape(stack)
    regret = sample(metrics, "cage_regret_nats", tenant=tenant.tenant_id)
    assert regret <= sample(metrics, "cage_regret_bound_nats", tenant=tenant.tenant_id)
    assert sample(metrics, "cage_learned_votes_total") >= 1
    assert sample(metrics, "cage_task_seconds_count", task="learn") >= 1
    assert sample(metrics, "cage_failing_scopes") == 0


def test_no_label_names_a_user_and_every_name_has_a_unit(stack: Stack, tenant: TenantClient) -> None:
    tenant.vote(tenant.ask(user="somebody-in-particular")["id"])
    tenant.wait_for_votes(1, user="somebody-in-particular")
    tenant.http.get("/nowhere/somebody-in-particular")
    metrics = scrape(stack)
    assert "somebody-in-particular" not in httpx.get(f"{stack.url}/metrics").text
    ours: list[Sample] = [s for metric in metrics.values() for s in metric.samples]
    assert {label for s in ours for label in s.labels} <= {
        "route", "status", "kind", "value", "le", "store", "task", "tenant", "version", "model", "whose",
    }  # fmt: skip
    assert all(re.fullmatch(r"cage_[a-z_]+", name) for name in metrics)


def test_task_counts_add_up(redis_url: str) -> None:
    with connect(redis_url) as client:
        for seconds, failed in ((0.004, False), (0.005, False), (0.3, True), (100.0, False)):
            count_task(client, "learn", seconds, failed=failed)
        count_learned_votes(client, 3)
        work = read_work(client)
    assert work.tasks["learn"].cumulative == [2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4]
    assert work.tasks["learn"].seconds == pytest.approx(100.309)
    assert (work.tasks["learn"].failures, work.learned_votes) == (1, 3)


def test_a_store_that_is_away_says_so_and_hides_nothing_else(database: Database) -> None:
    with connect("redis://127.0.0.1:1/0") as nowhere:
        found = {metric.name: metric for metric in InstallationMetrics(database, nowhere).collect()}
    up = {s.labels["store"]: s.value for s in found["cage_store_up"].samples}
    assert up == {"postgresql": 1, "redis": 0}
    assert found["cage_learning_lag_seconds"].samples[0].value == 0
    assert "cage_task_seconds" not in found


def test_dashboard_alerts_and_documentation_name_the_metrics_that_exist(stack: Stack, tenant: TenantClient) -> None:
    tenant.vote(tenant.ask()["id"])
    tenant.wait_for_votes(1)
    metrics = scrape(stack)
    served = {s.name for metric in metrics.values() for s in metric.samples}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    asked = set(re.findall(r"\bcage_[a-z_]+", " ".join(queries) + ALERTS.read_text()))
    assert queries
    assert asked <= served
    names = {each.name + {"counter": "_total", "info": "_info"}.get(each.type, "") for each in metrics.values()}
    documented = set(re.findall(r"`(cage_[a-z_]+)`", OPERATIONS.read_text())) - {"cage_tenant"}
    assert {name for name in names if not name.endswith("_created")} == documented
