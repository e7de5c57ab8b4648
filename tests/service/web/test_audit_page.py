"""The audit of a stored answer in a browser."""

import csv
import io
from pathlib import Path

import httpx
from playwright.sync_api import expect

from tests.service.conftest import Stack, TenantClient
from tests.service.web.conftest import Complaints, Visit


def keep_traces(stack: Stack, operator_key: str, tenant: TenantClient) -> None:
    headers = {"Authorization": f"Bearer {operator_key}"}
    kept = {"stores_traces": True, "stores_text": True}
    httpx.patch(f"{stack.url}/v1/tenants/{tenant.tenant_id}", json=kept, headers=headers).raise_for_status()


def test_token_by_token(visit: Visit, stack: Stack, operator_key: str, tenant: TenantClient, tmp_path: Path) -> None:
    keep_traces(stack, operator_key, tenant)
    answer = tenant.ask(cage={"explain": True}, seed=4, max_tokens=200)
    assert answer["choices"][0]["finish_reason"] == "stop"
    page = visit(f"/audit#{answer['id']}", tenant.key)
    expect(page.locator(".tokens")).to_have_text(answer["choices"][0]["message"]["content"])
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(len(answer["cage"]["tokens"]))
    expect(rows.last).to_contain_text("end of the answer")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "answer.csv")
    written = list(csv.DictReader(io.StringIO((tmp_path / "answer.csv").read_text("utf-8-sig"))))
    for row, token in zip(written, answer["cage"]["tokens"], strict=True):
        assert float(row["probability"]) == token["probability"]
        for kind in ("incentives", "reserves", "externalities"):
            assert all(float(row[f"{kind}.{name}"]) == amount for name, amount in token[kind].items())
    page.locator(".token").nth(2).click()
    expect(rows.nth(2)).to_contain_class("chosen")


def test_an_operator_names_the_tenant(visit: Visit, stack: Stack, operator_key: str, tenant: TenantClient) -> None:
    keep_traces(stack, operator_key, tenant)
    answer = tenant.ask()
    page = visit("/audit", operator_key)
    page.get_by_label("Id of the answer").fill(answer["id"])
    page.get_by_label("Tenant").fill(tenant.tenant_id)
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".tokens")).to_have_text(answer["choices"][0]["message"]["content"])


def test_an_answer_without_traces_says_what_to_do(visit: Visit, tenant: TenantClient) -> None:
    answer = tenant.ask()
    page = visit("/audit", tenant.key)
    page.get_by_role("button", name="List the newest answers").click()
    page.get_by_role("link", name=f"…{answer['id'][-8:]}").click()
    expect(page.locator(".notice")).to_contain_text("stores_traces")


def test_an_unknown_answer_says_so(visit: Visit, tenant: TenantClient, complaints: Complaints) -> None:
    complaints.expected = ["404"]
    page = visit("/audit#chatcmpl-nothing", tenant.key)
    expect(page.get_by_role("alert")).to_contain_text("no generation has the id 'chatcmpl-nothing'")
