"""How fast the learner is: ``python -m bench.learner_speed``. Starts its own PostgreSQL.

Votes folded per second on one core at eight principals; one `learn` with 100 new votes, database included;
incentives over 1,000 contexts. Writes ``bench/results/learner_speed.json``.
"""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from bench.machine import machine
from learner.evidence import Evidence, accumulate
from learner.incentives import allocate
from learner.learning import learn
from learner.observations import Observation
from learner.replay import replay
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.generations import StoredContext
from learner.store.identifiers import new_id
from learner.store.migrate import upgrade
from learner.store.models import Feedback, Generation
from learner.store.tenants import CatalogueEntry, create_tenant, register_principals
from service.running.servers import EmbeddedServers

RESULTS = Path(__file__).parent / "results" / "learner_speed.json"
PRINCIPALS = tuple("abcdefgh")
FOLDED = 50_000
BATCH = 1000
TASKS = 60
VOTES_PER_TASK = 100
CONTEXTS = 1000
REPEATS = 9


def folding(random: np.random.Generator, constants: Any) -> dict[str, float]:
    """Observations into evidence, in batches as a learn task folds them."""
    features, thetas = random.normal(size=(FOLDED, 8)), random.uniform(0, 1, size=(FOLDED, 9))
    seen = [
        Observation(PRINCIPALS, tuple(x), tuple(theta), 1 if x[0] > 0 else -1)
        for x, theta in zip(features.tolist(), thetas.tolist(), strict=True)
    ]
    evidence, begun, cpu = Evidence.none(), time.perf_counter(), time.process_time()
    for start in range(0, FOLDED, BATCH):
        evidence = evidence + accumulate(seen[start : start + BATCH], constants)
    return {
        "votes": FOLDED,
        "votes_per_second": FOLDED / (time.perf_counter() - begun),
        "votes_per_cpu_second": FOLDED / (time.process_time() - cpu),
    }


def learning(random: np.random.Generator, database: Database, settings: LearnerSettings) -> dict[str, float]:
    """Whole `learn` calls on a real PostgreSQL, each of another user of one tenant."""
    with database.session() as session:
        register_principals(session, [CatalogueEntry(name, "adapter", "", 1.0) for name in PRINCIPALS])
        even = dict.fromkeys(PRINCIPALS, 1.0)
        tenant_id = create_tenant(session, name="bench", model="m", principals=even, strength=1.0, mode="linear").id
    seconds = []
    for user in range(TASKS):
        _vote(random, database, tenant_id, f"user-{user}")
        begun = time.perf_counter()
        outcome = learn(database, Scope(tenant_id, f"user-{user}"), settings, datetime.now(UTC))
        seconds.append(time.perf_counter() - begun)
        if outcome is None or outcome.folded_votes != VOTES_PER_TASK:
            raise RuntimeError("a task did not learn what it should have")
    milliseconds = 1000 * np.array(seconds[3:])
    begun = time.perf_counter()
    report = replay(database, settings, lambda done, total: None)
    return {
        "tasks": len(milliseconds),
        "votes_per_task": VOTES_PER_TASK,
        "p50_milliseconds": float(np.percentile(milliseconds, 50)),
        "p95_milliseconds": float(np.percentile(milliseconds, 95)),
        "replay_votes_per_second": report.votes / (time.perf_counter() - begun),
        "replay_differences": len(report.differences),
    }


def _vote(random: np.random.Generator, database: Database, tenant_id: str, user: str) -> None:
    now = datetime.now(UTC)
    ids = [new_id("chatcmpl") for _ in range(VOTES_PER_TASK)]
    generations = [
        {
            "id": each,
            "tenant_id": tenant_id,
            "user_id": user,
            "created_at": now,
            "model": "m",
            "mode": "linear",
            "parameter_version": 0,
            "principals": list(PRINCIPALS),
            "theta": [0.125] * 8 + [0.0],
            "weights": [0.125] * 8,
            "features": random.normal(size=8).tolist(),
            "prompt_tokens": 5,
            "completion_tokens": 9,
            "finish_reason": "stop",
        }
        for each in ids
    ]
    votes = [
        {
            "id": new_id("fb"),
            "tenant_id": tenant_id,
            "generation_id": each,
            "user_id": user,
            "value": int(random.choice([-1, 1])),
            "tags": [],
            "created_at": now,
            "updated_at": now,
        }
        for each in ids
    ]
    with database.session() as session:
        session.execute(insert(Generation), generations)
        session.execute(insert(Feedback), votes)


def incentives(random: np.random.Generator, principals: int) -> dict[str, float | bool]:
    """Both dynamics over contexts of 2 to 40 candidates, as wide as min-p leaves them."""
    names = PRINCIPALS[:principals]
    contexts = []
    for width in random.choice([2, 2, 3, 5, 9, 12, 19, 40], size=CONTEXTS):
        base = 2 * random.normal(size=width)
        rewards = random.normal(size=(principals, width))
        contexts.append(StoredContext(names, (base - np.logaddexp.reduce(base)).tolist(), rewards.tolist()))
    weights = dict.fromkeys(names, 1.0 / principals)
    wall, cpu, converged = [], [], True
    for _ in range(REPEATS):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        found = allocate(contexts, weights, 3.0)
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - begun_cpu)
        converged = found is not None and found.converged
    return {
        "contexts": CONTEXTS,
        "principals": principals,
        "median_milliseconds": 1000 * float(np.median(wall)),
        "median_cpu_milliseconds": 1000 * float(np.median(cpu)),
        "best_responses_settled": converged,
    }


def main() -> None:
    """Measure, write, print."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="cage-") as directory, EmbeddedServers(Path(directory)) as servers:
        settings = LearnerSettings(database_url=servers.database_url, redis_url=servers.redis_url)
        upgrade(settings.database_url)
        database = Database(settings.database_url)
        result = {
            "machine": machine(),
            "folding": folding(random, settings.constants),
            "learn_task": learning(random, database, settings),
            "incentives": [incentives(random, principals) for principals in (4, 8)],
        }
        database.dispose()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
