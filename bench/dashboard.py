"""First paint and live updates of the dashboard over 1,000,000 votes: ``python -m bench.dashboard``.

Starts its own PostgreSQL, Redis, worker, API and browser. Seeds one tenant with 20,000 users, each vote with its
answer, its parameter version and its regret point. Needs Chromium, as the browser tests do. Writes
``bench/results/dashboard.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from sqlalchemy import create_engine, text

from bench.browser import CHROMIUM_FLAGS, HOW_TO_INSTALL, find_chromium
from bench.machine import machine
from learner.celery_app import worker_command
from learner.learning import evidence_fingerprint
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.keys import SCOPES, create_key
from learner.store.migrate import upgrade
from service.app import create_app
from service.running.servers import EmbeddedServers
from service.services import Services
from service.settings import ServiceSettings
from service.tenants.operators import make_tenant_with_key

RESULTS = Path(__file__).parent / "results" / "dashboard.json"
REPEATS = 7
USERS = 20_000
DAYS = 90
TENANT_VERSIONS = 20_000
WITH_CONTEXTS = 20_000

Ready = Callable[[Page], Locator]

# One vote in DAYS days / rows; user i % USERS gives vote i, so every user votes again and again.
SEED = """
INSERT INTO generations (id, tenant_id, user_id, created_at, model, mode, parameter_version, principals, theta, weights,
    features, prompt_tokens, completion_tokens, finish_reason, largest_gap, mean_gap, solver_seconds, contexts)
SELECT 'chatcmpl-' || i, :tenant, 'user-' || i % :users,
    now() - :days * interval '1 day' * (1 - i / CAST(:rows AS float8)),
    'cage-pocket', 'equilibrium', i / :users, :names, array_fill(0.25::float8, ARRAY[:size + 1]),
    array_fill(0.25::float8, ARRAY[:size]), array_fill(random(), ARRAY[:size]), 12, 80, 'stop',
    random() * 1e-15, 1e-17, 80 * (2e-5 + 1e-4 * random()),
    CASE WHEN i > :rows - :with_contexts THEN jsonb_build_array(jsonb_build_object('base_log_probs',
        array_fill(-1.5::float8, ARRAY[40]), 'rewards', array_fill(0.25::float8, ARRAY[4, 40]))) END
FROM generate_series(1, :rows) i;

INSERT INTO feedback (id, tenant_id, generation_id, user_id, value, tags, created_at, updated_at, learned_value,
    learned_at, learned_version)
SELECT 'fb_' || id, tenant_id, id, user_id, vote, '{}', created_at, created_at, vote, created_at, parameter_version + 1
FROM (SELECT *, CASE WHEN random() < 0.7 THEN 1 ELSE -1 END AS vote FROM generations) answers;

INSERT INTO parameter_versions (tenant_id, user_id, version, principals, theta, weights, feedback_count, learned_at,
    oldest_feedback_at)
SELECT tenant_id, user_id, parameter_version + 1, principals, theta, weights, parameter_version + 1,
    created_at + interval '20 ms', created_at
FROM generations
UNION ALL
SELECT :tenant, '', i, :names, array_fill(0.25::float8, ARRAY[:size + 1]), array_fill(1.0 / :size, ARRAY[:size]),
    i * (:rows / :tenant_versions), now() - :days * interval '1 day' * (1 - i / CAST(:tenant_versions AS float8)), NULL
FROM generate_series(1, :tenant_versions) i;

INSERT INTO regret_points (tenant_id, user_id, version, feedback_count, incurred_loss, best_loss, prior_loss,
    uniform_loss, regret, bound, best_principals, best_theta, measured_at)
SELECT tenant_id, user_id, version, version, 0.6 * version, 0.5 * version, 0.7 * version, 0.7 * version, sqrt(version),
    1 + 2 * sqrt(version), principals, theta, learned_at + interval '15 ms'
FROM parameter_versions WHERE user_id <> '' OR version <= 64 OR version % 97 = 0;

INSERT INTO learner_states (tenant_id, user_id, constants, version, shared_version, updated_at, principals, precision,
    linear, feedback_count)
SELECT tenant_id, user_id, CASE user_id WHEN '' THEN :tenant_constants ELSE :user_constants END, max(version),
    max(version), max(learned_at), :names,
    array_fill(0::bigint, ARRAY[(:size + 1) * (:size + 2) / 2]), array_fill(0::bigint, ARRAY[:size + 1]), max(version)
FROM parameter_versions GROUP BY tenant_id, user_id;
"""


def seed(settings: LearnerSettings, tenant_id: str, principals: list[str], rows: int) -> None:
    """Fill the tables, then tidy up as autovacuum would."""
    values = {
        "names": principals,
        "size": len(principals),
        "tenant": tenant_id,
        "rows": rows,
        "users": USERS,
        "days": DAYS,
        "tenant_versions": TENANT_VERSIONS,
        "with_contexts": WITH_CONTEXTS,
        # Of the learner in force: evidence of other constants would be learned again from all votes.
        "user_constants": evidence_fingerprint(Scope(tenant_id, "any"), settings),
        "tenant_constants": evidence_fingerprint(Scope(tenant_id), settings),
    }
    engine = create_engine(settings.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in SEED.split(";\n"):
            if statement.strip():
                connection.execute(text(statement), values)
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


@contextmanager
def running_api(settings: ServiceSettings) -> Iterator[tuple[str, Services]]:
    """The API on a free port, with a worker."""
    services = Services.start(settings)
    # Of the worker, and of this process when it calls for the worker.
    os.environ.update(CAGE_DATABASE_URL=settings.database_url, CAGE_REDIS_URL=settings.redis_url)
    worker = subprocess.Popen(
        worker_command(1, with_sweep=True),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = uvicorn.Server(
        uvicorn.Config(create_app(services), port=0, log_level="warning", lifespan="off", ws="none")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", services
    finally:
        server.should_exit = True
        thread.join(10)
        worker.terminate()
        worker.wait()
        services.stop()


def _tenants_listed(page: Page) -> Locator:
    return page.locator("tbody a").first


def _figures_shown(page: Page) -> Locator:
    return page.locator(".stat:first-child dd", has_text=re.compile("[0-9]"))


def first_paint(browser: Browser, url: str, key: str, address: str, ready: Ready) -> dict[str, float]:
    """Milliseconds from the navigation to the first paint, and to all figures being there; a fresh browser profile."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.add_init_script(f"sessionStorage.setItem('cage-key', {json.dumps(key)})")
    page = context.new_page()
    page.goto(f"{url}/dashboard{address}")
    ready(page).wait_for()
    shown: float = page.evaluate("performance.now()")
    painted: float = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    context.close()
    return {"first_paint_ms": painted, "figures_ms": shown}


def paints(browser: Browser, url: str, key: str, address: str, ready: Ready) -> dict[str, Any]:
    """The first visit after the server's start, and the median and the slowest of those after it."""
    first, *later = [first_paint(browser, url, key, address, ready) for _ in range(REPEATS)]
    return {
        "first_visit": first,
        "median": {name: statistics.median(each[name] for each in later) for name in first},
        "slowest": {name: max(each[name] for each in later) for name in first},
    }


def live_updates(page: Page, client: httpx.Client) -> dict[str, Any]:
    """Milliseconds from sending a thumb to the page that shows it, among the news and in the count of thumbs."""
    news, counts = [], []
    for number in range(REPEATS):
        question = [{"role": "user", "content": "How can I sleep better?"}]
        body = {"model": "cage-pocket", "user": f"live-{number}", "max_tokens": 16, "messages": question}
        answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
        before = page.locator(".stat:first-child dd").inner_text()
        sent = time.perf_counter()
        client.post("/v1/feedback", json={"inference_id": answer["id"], "value": "up"}).raise_for_status()
        page.locator(".feed", has_text=f"live-{number}").wait_for()
        news.append(1000 * (time.perf_counter() - sent))
        page.locator(".stat:first-child dd", has_not_text=before).wait_for()
        counts.append(1000 * (time.perf_counter() - sent))
        time.sleep(2)
    return {
        "shown_as_learned_ms": {"median": statistics.median(news), "slowest": max(news)},
        "counted_in_figures_ms": {"median": statistics.median(counts), "slowest": max(counts)},
    }


def measure(url: str, operator_key: str, tenant_key: str, tenant_id: str) -> dict[str, Any]:
    """All figures of one running API."""
    executable = find_chromium()
    address = f"#/t/{tenant_id}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_FLAGS))
        result: dict[str, Any] = {
            "tenants_page": paints(browser, url, operator_key, "#/", _tenants_listed),
            "tenant_page": paints(browser, url, operator_key, address, _figures_shown),
        }
        context = browser.new_context()
        context.add_init_script(f"sessionStorage.setItem('cage-key', {json.dumps(operator_key)})")
        page = context.new_page()
        page.goto(f"{url}/dashboard{address}")
        page.wait_for_selector(".live[data-state=live]")
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {tenant_key}"}, timeout=60) as client:
            result["live"] = live_updates(page, client)
        browser.close()
    return result


def main() -> None:
    """Seed, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if find_chromium() is None:
        sys.exit(HOW_TO_INSTALL)
    with tempfile.TemporaryDirectory(prefix="cage-") as directory, EmbeddedServers(Path(directory)) as servers:
        settings = ServiceSettings(database_url=servers.database_url, redis_url=servers.redis_url)
        upgrade(settings.database_url)
        with running_api(settings) as (url, services):
            with services.database.session() as session:
                tenant, tenant_key = make_tenant_with_key(session, settings, "a million thumbs")
                make_tenant_with_key(session, settings, "nobody yet")
                _, operator_key = create_key(session, None, "bench", SCOPES)
            principals = sorted(services.engine.model.principals)
            begun = time.perf_counter()
            seed(settings, tenant.id, principals, arguments.rows)
            seeded = time.perf_counter() - begun
            result = {
                "machine": machine(),
                "votes": arguments.rows,
                "users": USERS,
                "seeding_seconds": seeded,
                **measure(url, operator_key, tenant_key, tenant.id),
            }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
