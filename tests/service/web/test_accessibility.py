"""No serious fault that axe-core finds, and nothing wider than a phone; light and dark."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.service.conftest import TenantClient
from tests.service.web.conftest import DESKTOP, PHONE, Complaints, Visit, faults

TOO_WIDE = """
document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
    .filter((each) => each.getBoundingClientRect().right > innerWidth && !each.closest(".scroll"))
    .map((each) => `${each.outerHTML.slice(0, 80)} reaches ${Math.round(each.getBoundingClientRect().right)} px`)
"""

SHIFTS = """
window.shifted = 0;
const add = (each) => (shifted += each.hadRecentInput ? 0 : each.value);
new PerformanceObserver((list) => list.getEntries().forEach(add)).observe({type: "layout-shift", buffered: true});
"""
# Browsers' makers call less than 0.1 good; one line of text that pushes a page down is more than this.
LARGEST_SHIFT = 0.02

VIEWPORTS = {"desktop": DESKTOP, "phone": PHONE}


def login(page: Page, tenant: TenantClient) -> None:
    expect(page.get_by_label("API key")).to_be_visible()


def tenants(page: Page, tenant: TenantClient) -> None:
    expect(page.locator("tbody a").first).to_be_visible()


def figures(page: Page, tenant: TenantClient) -> None:
    expect(page.locator("figure canvas").first).to_be_visible()
    page.get_by_role("button", name="Regret, its bound and comparators: Table").click()


def user(page: Page, tenant: TenantClient) -> None:
    expect(page.locator("tr[data-feedback]").first).to_be_visible()


def answered(page: Page, tenant: TenantClient) -> None:
    page.get_by_role("button", name="How can I sleep better?").click()
    expect(page.locator(".thumb.up")).to_be_visible()
    page.locator(".token").first.focus()


def compared(page: Page, tenant: TenantClient) -> None:
    page.get_by_role("button", name="Compare two answers").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator(".pair .under", has_text="KL")).to_have_count(2)


def audited(page: Page, tenant: TenantClient) -> None:
    page.get_by_role("button", name="List the newest answers").click()
    page.locator("tbody a").first.click()
    expect(page.locator(".facts")).to_be_visible()


VIEWS: dict[str, tuple[str, str | None, Callable[[Page, TenantClient], None]]] = {
    "login": ("/dashboard", None, login),
    "tenants": ("/dashboard#/", "operator", tenants),
    "tenant": ("/dashboard#/t/{tenant}", "operator", figures),
    "user": ("/dashboard#/t/{tenant}/u/ada", "operator", user),
    "playground": ("/playground", "tenant", answered),
    "comparison": ("/playground", "tenant", compared),
    "audit": ("/audit", "tenant", audited),
}


@pytest.mark.parametrize("viewport", VIEWPORTS)
@pytest.mark.parametrize("view", VIEWS)
def test_no_serious_fault(
    visit: Visit, voted: TenantClient, operator_key: str, view: str, viewport: str, complaints: Complaints
) -> None:
    address, who, prepare = VIEWS[view]
    key = {"operator": operator_key, "tenant": voted.key, None: None}[who]
    page = visit(address.format(tenant=voted.tenant_id), key, VIEWPORTS[viewport])
    prepare(page, voted)
    assert page.evaluate(TOO_WIDE) == []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert faults(page) == []


@pytest.mark.parametrize("viewport", VIEWPORTS)
@pytest.mark.parametrize("view", ["tenants", "tenant", "user", "playground"])
def test_nothing_jumps_while_loading(
    visit: Visit, voted: TenantClient, operator_key: str, view: str, viewport: str
) -> None:
    address, who, _ = VIEWS[view]
    key = {"operator": operator_key, "tenant": voted.key}[who]
    page = visit(address.format(tenant=voted.tenant_id), key, VIEWPORTS[viewport], SHIFTS)
    ready = {
        "tenants": "tbody a",
        "tenant": "figure canvas",
        "user": "tr[data-feedback]",
        "playground": "#weight-warmth",
    }
    expect(page.locator(ready[view]).first).to_be_visible()
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert page.evaluate("shifted") < LARGEST_SHIFT
