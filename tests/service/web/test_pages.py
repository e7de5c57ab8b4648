"""The pages as files: strict policy, nothing inline, nothing from elsewhere, small modules, licences kept."""

import re

import httpx
import pytest

from service.pages.static import PAGES, WEB
from tests.service.conftest import Stack

OWN = [path for path in WEB.rglob("*") if path.is_file() and "vendor" not in path.parts]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_served_under_a_strict_policy(stack: Stack, page: str) -> None:
    response = httpx.get(f"{stack.url}/{page}")
    assert response.status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert response.headers["x-content-type-options"] == "nosniff"
    for address in re.findall(r'(?:href|src)="(/web/[^"]+)"', response.text):
        part = httpx.get(f"{stack.url}{address}")
        assert part.status_code == 200, address
        assert part.headers["content-security-policy"] == response.headers["content-security-policy"]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_inline_or_from_elsewhere(path) -> None:
    text = path.read_text()
    foreign = [address for address in re.findall(r"(?:https?:)?//[a-z0-9][^\s\"'`)]*", text) if "w3.org" not in address]
    assert [address for address in foreign if address.startswith("http")] == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text)
    assert len(text.splitlines()) < 200


def test_the_policy_does_not_open_other_files(stack: Stack) -> None:
    for path in ("/web/../pages.py", "/web/%2e%2e/pages.py", "/web/%2e%2e%2fpages.py", "/web/", "/web/js"):
        assert httpx.get(f"{stack.url}{path}").status_code in (404, 405)


def test_vendored_code_keeps_its_licence() -> None:
    assert "MIT" in (WEB / "vendor" / "uplot" / "LICENSE").read_text()
