"""The playground in a browser: chat, thumbs, weights that move, weights held by hand, two answers."""

import json
import re

from playwright.sync_api import Page, Route, expect

from tests.service.conftest import TenantClient
from tests.service.web.conftest import Complaints, Visit

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> 👩‍👩‍👧 مرحبا"


def weights_shown(page: Page) -> dict[str, float]:
    sliders = page.locator(".panel .slider", has=page.locator("input[id^=weight-]"))
    return {each.locator("label").inner_text(): float(each.locator("output").inner_text()) for each in sliders.all()}


def rounded(weights: dict[str, float]) -> dict[str, float]:
    return {name: round(weight, 2) for name, weight in weights.items()}


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Enter")
    expect(page.locator(".turns .answer .thumb.up").last).to_be_visible()


def test_chat_thumb_and_back(visit: Visit, tenant: TenantClient) -> None:
    page = visit("/playground")
    page.get_by_label("API key").fill(tenant.key)
    page.get_by_role("button", name="Open").click()
    expect(page.locator(".learned")).to_contain_text("Nothing learned yet")
    prior = weights_shown(page)
    assert prior == rounded(tenant.state()["weights"])

    ask(page, "How can I sleep better?")
    tokens = page.locator(".turns .answer .token")
    assert tokens.count() > 5
    page.get_by_role("button", name="Bad answer").click()
    expect(page.locator(".learned")).to_have_text(re.compile(r"Learned from 1 thumb in \d+"))
    assert weights_shown(page) == rounded(tenant.state()["weights"]) != prior

    page.get_by_role("button", name="Bad answer").click()
    expect(page.locator(".learned")).to_contain_text("Learned from 0 thumbs")
    assert weights_shown(page) == prior


def test_tokens_say_who_moved_them(visit: Visit, tenant: TenantClient) -> None:
    page = visit("/playground", tenant.key)
    ask(page, "How can I sleep better?")
    first = page.locator(".token").first
    first.focus()
    tip = page.get_by_role("tooltip")
    for name in tenant.state()["weights"]:
        expect(tip).to_contain_text(name)
    expect(tip).to_contain_text("cost to others")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".token").nth(1)).to_be_focused()
    movers = {each.get_attribute("data-mover") for each in page.locator(".token[data-mover]").all()}
    assert movers
    assert movers <= set(tenant.state()["weights"])


def test_the_end_of_an_answer_can_be_seen_and_asked_about(visit: Visit, tenant: TenantClient) -> None:
    """Brevity acts there more than anywhere, and the token that ends an answer has no text."""
    page = visit("/playground", tenant.key)
    ask(page, "How can I sleep better?")
    end = page.locator(".turns .answer .token").last
    expect(end).to_have_text("")
    end.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("end of the answer")


def test_a_slider_moves_the_last_answer(visit: Visit, tenant: TenantClient) -> None:
    page = visit("/playground", tenant.key)
    ask(page, "How can I sleep better?")
    before = page.locator(".turns .answer").get_attribute("data-inference")
    with page.expect_request("**/v1/chat/completions") as request:
        page.locator("#weight-warmth").fill("0.9")
    sent = request.value.post_data_json
    assert sent["cage"]["weights"]["warmth"] == 0.9
    expect(page.locator(".turns .answer")).not_to_have_attribute("data-inference", before)
    expect(page.get_by_role("button", name="By hand")).to_have_attribute("aria-pressed", "true")
    with page.expect_request("**/v1/chat/completions") as request:
        page.get_by_role("button", name="Learned").click()
    assert "weights" not in request.value.post_data_json["cage"]
    assert weights_shown(page) == rounded(tenant.state()["weights"])


def test_a_conversation_goes_on_and_starts_anew(visit: Visit, tenant: TenantClient) -> None:
    page = visit("/playground", tenant.key)
    ask(page, "How can I sleep better?")
    with page.expect_request("**/v1/chat/completions") as request:
        ask(page, "And for children?")
    assert [each["role"] for each in request.value.post_data_json["messages"]] == ["user", "assistant", "user"]
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turns .answer")).to_have_count(0)


def test_two_answers_at_equal_kl(visit: Visit, tenant: TenantClient) -> None:
    page = visit("/playground", tenant.key)
    page.get_by_role("button", name="Compare two answers").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    sides = page.locator(".pair .answer")
    expect(sides.locator(".under", has_text="KL")).to_have_count(2)
    assert sides.locator("h3").all_inner_texts() == ["equilibrium", "linear"]
    for side in sides.all():
        assert side.locator(".token").count() > 5
    page.get_by_label("What").select_option("plain")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(sides.nth(1).locator(".under")).to_contain_text("KL 0.000")


def test_what_people_write_is_text(visit: Visit, tenant: TenantClient) -> None:
    page = visit("/playground", tenant.key)
    ask(page, HOSTILE)
    expect(page.locator(".ask")).to_have_text(HOSTILE)
    assert page.locator("main img, main script").count() == 0


def test_what_a_model_says_is_text(visit: Visit, tenant: TenantClient) -> None:
    # The bundled model writes no markup, so here the answer's text alone is put in its mouth.
    def say(route: Route) -> None:
        principals = tenant.state()["weights"]
        token = {"token": HOSTILE, "base_probability": 0.5, "probability": 0.9, "gap": 0.0}
        token |= {kind: dict.fromkeys(principals, 0.1) for kind in ("incentives", "reserves", "externalities")}
        delta = {"id": "chatcmpl-x", "choices": [{"delta": {"content": HOSTILE}}]}
        end = {"id": "chatcmpl-x", "choices": [], "cage": {"tokens": [token], "largest_gap": 0, "mean_kl_nats": 0}}
        body = "".join(f"data: {json.dumps(each)}\n\n" for each in (delta, end)) + "data: [DONE]\n\n"
        route.fulfill(content_type="text/event-stream", body=body)

    page = visit("/playground", tenant.key)
    page.route("**/v1/chat/completions", say)
    ask(page, "hi")
    expect(page.locator(".token")).to_have_text(HOSTILE)
    page.locator(".token").focus()
    expect(page.get_by_role("tooltip")).to_contain_text("<script>")
    assert page.locator("main img, main script, #tip img, #tip script").count() == 0


def test_errors_say_what_happened(visit: Visit, tenant: TenantClient, complaints: Complaints) -> None:
    complaints.expected = ["422", "Failed to load resource"]
    page = visit("/playground", tenant.key)
    page.get_by_label("Your message").fill("word " * 5000)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("the model's context is")
    page.get_by_role("button", name="New conversation").click()
    page.context.set_offline(True)
    page.get_by_label("Your message").fill("hi")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".turns .answer .thumb.up")).to_be_visible()
