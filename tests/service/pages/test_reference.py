"""`/docs` shows every route, and loads nothing from elsewhere."""

import re

import httpx

from service.pages.reference import operations
from tests.service.conftest import Stack


def test_every_route_is_shown_and_nothing_comes_from_elsewhere(stack: Stack) -> None:
    response = httpx.get(f"{stack.url}/docs").raise_for_status()
    document = httpx.get(f"{stack.url}/openapi.json").json()
    for path, methods in document["paths"].items():
        assert f"<code>{path}</code>" in response.text
        assert all(f">{method.upper()}</span> <code>{path}</code>" in response.text for method in methods)
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', response.text)
    assert all(address.startswith("/") and not address.startswith("//") for address in loaded)
    for address in loaded:
        assert httpx.get(stack.url + address).status_code == 200, address
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]
    assert httpx.get(f"{stack.url}/redoc").status_code == 404


def test_fields_types_and_examples_are_taken_from_the_document(stack: Stack) -> None:
    document = httpx.get(f"{stack.url}/openapi.json").json()
    vote = next(each for each in operations(document) if (each.method, each.path) == ("POST", "/v1/feedback"))
    fields = {field.name: field for field in vote.body}
    assert fields["inference_id"].required
    assert fields["tags"].type == "list of string"
    assert "chatcmpl-" in vote.example
    assert "feedback_id" in {field.name for field in vote.answer}
    assert "422" in vote.statuses or "4XX" in vote.statuses
