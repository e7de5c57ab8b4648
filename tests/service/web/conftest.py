"""A real browser on the running stack; a page that complains on its console fails its test."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from bench.browser import CHROMIUM_FLAGS, HOW_TO_INSTALL, find_chromium
from learner.store.keys import SCOPES, create_key
from tests.service.conftest import Stack, TenantClient

DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
SERIOUS = ("serious", "critical")


# Of this folder only: while Playwright's loop runs, no other can run in its thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, as the system has it."""
    executable = find_chromium()
    if executable is None:
        pytest.skip(HOW_TO_INSTALL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@dataclass
class Complaints:
    """What pages said on their consoles, and which of it a test expects."""

    said: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def unexpected(self) -> list[str]:
        """What no test asked for."""
        return [line for line in self.said if not any(part in line for part in self.expected)]


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """Errors and warnings on the consoles of the test's pages."""
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected() == []


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, stack: Stack, complaints: Complaints) -> Iterator[Visit]:
    """Opens an address of the running API in a browser profile of its own, with a key or without one."""
    contexts = []

    def open_page(
        address: str, key: str | None = None, viewport: dict[str, int] = DESKTOP, script: str | None = None
    ) -> Page:
        context = browser.new_context(viewport=viewport, base_url=stack.url, reduced_motion="reduce")
        contexts.append(context)
        if key is not None:
            context.add_init_script(f"sessionStorage.setItem('cage-key', {json.dumps(key)})")
        if script is not None:
            context.add_init_script(script)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda m: m.type in ("error", "warning") and complaints.said.append(m.text))
        page.on("pageerror", lambda error: complaints.said.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def operator_key(stack: Stack) -> str:
    """A key that may act for every tenant."""
    with stack.services.database.session() as session:
        return create_key(session, None, "test operator", SCOPES)[1]


@pytest.fixture
def voted(tenant: TenantClient) -> TenantClient:
    """A tenant whose user ada gave three thumbs, all learned."""
    for seed, value in enumerate(("up", "down", "up")):
        tenant.vote(tenant.ask(seed=seed)["id"], value)
    tenant.wait_for_votes(3)
    return tenant


def faults(page: Page) -> list[str]:
    """Serious accessibility faults, one line each."""
    # Evaluated by the debugger, which no policy of the page binds.
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)")
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary'][:300]}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]
