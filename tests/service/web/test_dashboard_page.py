"""The dashboard in a browser: in with a key, figures, news, retracting, files, hostile names."""

import csv
import io
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from learner.store.keys import create_key
from tests.service.conftest import Stack, TenantClient
from tests.service.web.conftest import Complaints, Visit
from tests.waiting import wait_until

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> 🦊 שלום"


def tenant_address(tenant: TenantClient) -> str:
    return f"/dashboard#/t/{tenant.tenant_id}"


def stat(page: Page, label: str) -> str:
    return page.locator(".stat", has_text=label).locator("dd").inner_text()


def wait_for_stat(page: Page, label: str, pattern: str) -> None:
    expect(page.locator(".stat", has_text=label).locator("dd")).to_have_text(re.compile(pattern))


def enter(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Open").click()


def test_in_with_a_key_and_on_to_a_user(visit: Visit, operator_key: str, voted: TenantClient) -> None:
    page = visit("/dashboard")
    enter(page, operator_key)
    name = page.locator(f"a[href='#/t/{voted.tenant_id}']")
    row = page.locator("tr", has=name)
    expect(row.locator("td").nth(1)).to_have_text("3")
    expect(row.locator("td").nth(2)).to_have_text("67 %")
    name.click()
    wait_for_stat(page, "thumbs", "3")
    page.get_by_label("User", exact=True).fill("ada")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name="User ada")).to_be_visible()
    expect(page.locator("tr[data-feedback]")).to_have_count(3)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('cage-key')") is None


def test_a_wrong_key_says_so(visit: Visit, complaints: Complaints, tenant: TenantClient, stack: Stack) -> None:
    complaints.expected = ["401", "403"]
    page = visit("/dashboard")
    enter(page, "cage_wrong")
    expect(page.get_by_role("alert")).to_contain_text("unknown, expired or revoked")
    enter(page, "schlüssel 🔑")
    expect(page.get_by_role("alert")).to_contain_text("check what was pasted")
    enter(page, tenant.key)
    expect(page.get_by_role("alert")).to_contain_text("needs the scope operate")
    assert page.evaluate("sessionStorage.getItem('cage-key')") is None


def test_a_tenants_operator_lands_on_its_own_tenant(visit: Visit, stack: Stack, voted: TenantClient) -> None:
    with stack.services.database.session() as session:
        key = create_key(session, voted.tenant_id, "operator of one tenant", ("operate",))[1]
    page = visit("/dashboard", key)
    wait_for_stat(page, "thumbs", "3")


def test_an_unknown_tenant_says_so(visit: Visit, complaints: Complaints, operator_key: str) -> None:
    complaints.expected = ["404"]
    page = visit("/dashboard#/t/ten_nobody", operator_key)
    expect(page.get_by_role("alert")).to_contain_text("no tenant has the id 'ten_nobody'")


def test_an_empty_tenant_says_what_to_do_next(visit: Visit, operator_key: str, tenant: TenantClient) -> None:
    page = visit(tenant_address(tenant), operator_key)
    wait_for_stat(page, "thumbs", "0")
    expect(page.locator("figure", has_text="Weights over time")).to_contain_text("Send a thumb")
    expect(page.get_by_role("button", name="Weights over time: CSV")).to_be_disabled()
    assert stat(page, "approval") == "–"


def test_a_thumb_shows_without_a_reload(visit: Visit, operator_key: str, voted: TenantClient) -> None:
    page = visit(tenant_address(voted), operator_key)
    wait_for_stat(page, "thumbs", "3")
    expect(page.locator(".live[data-state=live]")).to_be_visible()
    regret = page.locator("figure", has_text="Regret, its bound").locator(".summary")
    expect(regret).to_contain_text("After 3 thumbs")
    voted.vote(voted.ask(seed=9, user="zoë")["id"], "down")
    expect(page.locator(".feed")).to_contain_text("zoë")
    wait_for_stat(page, "thumbs", "4")
    expect(regret).to_contain_text("After 4 thumbs")
    expect(page.locator("figure", has_text="Weights over time").locator(".summary")).to_contain_text("After 4 thumbs")


def test_a_retracted_vote_gives_the_weights_back(visit: Visit, operator_key: str, voted: TenantClient) -> None:
    before = voted.state()["weights"]
    receipt = voted.vote(voted.ask(seed=7)["id"], "down")
    voted.wait_for_votes(4)
    page = visit(f"{tenant_address(voted)}/u/ada", operator_key)
    expect(page.locator(".head")).to_contain_text("learned from 4 thumbs")
    row = page.locator(f"tr[data-feedback='{receipt['feedback_id']}']")
    row.get_by_role("button", name="Retract").click()
    expect(row).to_contain_text("taken back")
    expect(page.locator(".head")).to_contain_text("learned from 3 thumbs")
    assert voted.state()["weights"] == before
    shown = page.locator(".bars .n").all_inner_texts()
    assert [float(text) for text in shown] == [round(weight, 2) for weight in before.values()]


def test_a_reset_asks_first(visit: Visit, operator_key: str, voted: TenantClient) -> None:
    page = visit(f"{tenant_address(voted)}/u/ada", operator_key)
    page.get_by_role("button", name="Reset this user…").click()
    page.get_by_role("button", name="Cancel").click()
    assert voted.state()["feedback_count"] == 3
    page.get_by_role("button", name="Reset this user…").click()
    page.get_by_role("dialog").get_by_role("button", name="Reset").click()
    expect(page.locator("tr[data-feedback]").first).to_contain_text("lapsed")
    expect(page.locator(".head")).to_contain_text("learned from 0 thumbs")


def test_what_is_shown_can_be_taken_away(visit: Visit, operator_key: str, voted: TenantClient, tmp_path: Path) -> None:
    page = visit(f"{tenant_address(voted)}/u/ada", operator_key)
    expect(page.locator("figure", has_text="Weights over time").locator("canvas")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Weights over time: CSV").click()
    download.value.save_as(tmp_path / "weights.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "weights.csv").read_text("utf-8-sig"))))
    assert {name: float(rows[-1][name]) for name in voted.state()["weights"]} == voted.state()["weights"]
    page.get_by_role("button", name="Weights over time: Table").click()
    table = page.get_by_role("region", name="Weights over time: numbers")
    expect(table.locator("tbody tr")).to_have_count(len(rows))
    with page.expect_download() as download:
        page.get_by_role("button", name="Weights over time: PNG").click()
    download.value.save_as(tmp_path / "weights.png")
    assert (tmp_path / "weights.png").read_bytes().startswith(b"\x89PNG")
    assert download.value.suggested_filename == "user-weights.png"


def test_hostile_names_and_comments_are_text(visit: Visit, operator_key: str, tenant: TenantClient) -> None:
    user = HOSTILE.replace("/", "∕")
    tenant.vote(tenant.ask(user=user)["id"], "up", comment=HOSTILE, tags=["=HYPERLINK(1)"])
    wait_until(lambda: tenant.http.get(f"/v1/users/{user}/weights").json()["feedback_count"] == 1)
    page = visit(tenant_address(tenant), operator_key)
    page.get_by_role("link", name=user).first.click()
    expect(page.get_by_role("heading", name=f"User {user}")).to_be_visible()
    expect(page.locator("tr[data-feedback]")).to_contain_text(HOSTILE)
    assert page.locator("main img, main script").count() == 0


def test_every_figure_explains_itself_to_the_keyboard(visit: Visit, operator_key: str, voted: TenantClient) -> None:
    page = visit(tenant_address(voted), operator_key)
    wait_for_stat(page, "thumbs", "3")
    for figure in page.locator(".stat dd [data-tip]").all():
        figure.focus()
        expect(page.get_by_role("tooltip")).to_have_text(re.compile(r"^[A-Z].+\.$"))
    page.keyboard.press("Escape")
    expect(page.get_by_role("tooltip")).to_be_hidden()


def test_a_chosen_range_and_theme_stay(visit: Visit, operator_key: str, voted: TenantClient) -> None:
    page = visit(tenant_address(voted), operator_key)
    page.get_by_role("button", name="24 h").click()
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()
    expect(page.get_by_role("button", name="24 h")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 18, 22)"
    wait_for_stat(page, "thumbs", "3")
