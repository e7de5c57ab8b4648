"""Every page in light and dark, on a desktop and a phone: ``python -m bench.screenshots``. Writes ``docs/images/``.

Starts a system of its own and lets simulated users with hidden tastes talk and vote before it takes the pictures.
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from bench.browser import CHROMIUM_FLAGS, HOW_TO_INSTALL, find_chromium
from cage_core.pocket.questions import topic_question
from cage_core.pocket.topics import read_topics
from learner.simulation import SimulatedUser, pure_taste

IMAGES = Path(__file__).parents[1] / "docs" / "images"
QUESTION = "How can I sleep better?"
USERS = {"ada": "caution", "björn": "warmth", "chen": "brevity", "דנה": "detail", "farid": "caution", "grace": "warmth"}
THUMBS = 24
START_SECONDS = 120
COLOURS = 250
VIEWPORTS = {"desktop": {"width": 1200, "height": 840}, "phone": {"width": 390, "height": 780}}


@dataclass(frozen=True)
class System:
    """A running system and the keys to it."""

    url: str
    tenant_key: str
    operator_key: str

    def client(self, key: str) -> httpx.Client:
        """Carries a key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


@contextmanager
def running_system(directory: Path) -> Iterator[System]:
    """`cage up` on a free port, as a newcomer has it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CAGE_")}
    command = [sys.executable, "-m", "service", "up", "--data-dir", str(directory)]
    with (directory / "up.log").open("wb") as log:
        system = subprocess.Popen(command, env={**inherited, "CAGE_PORT": str(port)}, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _await_ready(system, url, directory / "up.log")
        keys = [(directory / name).read_text().strip() for name in ("demo-key", "operator-key")]
        yield System(url, *keys)
    finally:
        system.terminate()
        system.wait()


def _await_ready(system: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and system.poll() is None:
        try:
            if httpx.get(f"{url}/ready").is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    sys.exit(f"the system did not start:\n{log.read_text()}")


def play(system: System, user: str, taste: str, seed: int) -> None:
    """One simulated user's thumbs, each learned before the next question."""
    simulated = SimulatedUser({0: pure_taste(taste)}, np.random.default_rng(seed))
    luck, topics = Random(seed), read_topics()
    with system.client(system.tenant_key) as client:
        for number in range(1, THUMBS + 1):
            question = topic_question(luck, luck.choice(topics))
            body = {"model": "cage-pocket", "user": user, "messages": [{"role": "user", "content": question}]}
            answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
            value = simulated.vote(answer["choices"][0]["message"]["content"])
            vote = {"inference_id": answer["id"], "value": value}
            client.post("/v1/feedback", json=vote).raise_for_status()
            while client.get(f"/v1/users/{user}/weights").raise_for_status().json()["feedback_count"] < number:
                time.sleep(0.05)


def seeded(system: System) -> tuple[str, str]:
    """Let users vote; returns the ids of the tenant and of an answer whose tokens are stored."""
    with system.client(system.operator_key) as operator:
        tenant_id = operator.get("/v1/dashboard/tenants").raise_for_status().json()["data"][0]["id"]
        kept = {"stores_text": True, "stores_traces": True}
        operator.patch(f"/v1/tenants/{tenant_id}", json=kept).raise_for_status()
    with ThreadPoolExecutor(3) as pool:
        courses = [pool.submit(play, system, user, taste, seed) for seed, (user, taste) in enumerate(USERS.items())]
        for course in courses:
            course.result()
    time.sleep(4)  # what all users say together is swept up every few seconds
    body = {"model": "cage-pocket", "user": "ada", "seed": 2, "messages": [{"role": "user", "content": QUESTION}]}
    with system.client(system.tenant_key) as client:
        answer: dict[str, Any] = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    return tenant_id, answer["id"]


def thumb_pressed(page: Page) -> None:
    """A question, its answer, a thumb and what was learned from it."""
    page.get_by_role("button", name=QUESTION).click()
    page.get_by_role("button", name="Good answer").click()
    page.locator(".learned b").wait_for()
    page.locator(".token[data-mover]").last.hover()  # its explanation covers few words of the answer
    page.wait_for_timeout(900)


def compared(page: Page) -> None:
    """Two answers at equal KL."""
    page.get_by_role("button", name="Compare two answers").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    for number in (0, 1):
        page.locator(".pair .under", has_text="KL").nth(number).wait_for()
    page.mouse.move(0, 0)
    page.locator(".pair").scroll_into_view_if_needed()


def shown(selector: str) -> Callable[[Page], None]:
    """Waits for something to be there."""
    return lambda page: page.locator(selector).first.wait_for()


def take(browser: Browser, system: System, tenant_id: str, answer_id: str) -> None:
    """Every page in every way."""
    tenant = f"/dashboard#/t/{tenant_id}"
    views: dict[str, tuple[str, str, Callable[[Page], None]]] = {
        "tenants": ("/dashboard#/", system.operator_key, shown("tbody a")),
        "tenant": (tenant, system.operator_key, shown("figure canvas")),
        "user": (f"{tenant}/u/ada", system.operator_key, shown("tr[data-feedback]")),
        "audit": (f"/audit#{answer_id}", system.tenant_key, shown(".tokens")),
        "playground": ("/playground", system.tenant_key, thumb_pressed),
        "comparison": ("/playground", system.tenant_key, compared),
    }
    for name, (address, key, prepare) in views.items():
        for device, viewport in VIEWPORTS.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport=viewport, color_scheme=scheme, base_url=system.url)  # type: ignore[arg-type]
                context.add_init_script(f"sessionStorage.setItem('cage-key', {json.dumps(key)})")
                page = context.new_page()
                page.goto(address)
                prepare(page)
                page.wait_for_timeout(700)
                save(page.screenshot(), IMAGES / f"{name}-{device}-{scheme}.png")
                context.close()


def save(png: bytes, path: Path) -> None:
    """With the commonest colours as they are and the others nearest to them: pictures live in the repository."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    counted: list[Any] = image.getcolors(image.width * image.height) or []
    commonest = sorted(counted, reverse=True)[:COLOURS]
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for _, colour in commonest for channel in colour])
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Start, seed, take."""
    executable = find_chromium()
    if executable is None:
        sys.exit(HOW_TO_INSTALL)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cage-") as directory, running_system(Path(directory)) as system:
        tenant_id, answer_id = seeded(system)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_FLAGS))
            take(browser, system, tenant_id, answer_id)
            browser.close()
    total = sum(path.stat().st_size for path in IMAGES.glob("*.png"))
    print(f"{len(list(IMAGES.glob('*.png')))} pictures, {total / 1000:.0f} kB, in {IMAGES}")


if __name__ == "__main__":
    main()
