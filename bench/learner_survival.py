"""What is left after 5,000 votes and a dozen killed workers: ``python -m bench.learner_survival``.

Starts its own PostgreSQL, Redis and Celery worker; votes, changes votes and takes votes back while the worker is
killed (SIGKILL, with all its processes) again and again; then lets it finish and replays everything from the
feedback table. Writes ``bench/results/learner_survival.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.machine import machine
from learner.celery_app import worker_command
from learner.errors import LearnerError
from learner.replay import replay
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.status import LearnerStatus, learner_status
from learner.store.database import Database
from learner.store.feedback import record_vote, retract_vote
from learner.store.generations import add_generation
from learner.store.identifiers import new_id
from learner.store.migrate import upgrade
from learner.store.models import Generation
from learner.store.parameters import effective_parameters
from learner.store.tenants import CatalogueEntry, create_tenant, register_principals
from learner.tasks import enqueue_learning
from service.running.servers import EmbeddedServers

RESULTS = Path(__file__).parent / "results" / "learner_survival.json"
PRINCIPALS = ("detail", "brevity", "caution", "warmth")
VOTES = 5000
USERS = 40
SECONDS_BETWEEN_KILLS = 6.0
PATIENCE_SECONDS = 120.0


class Worker:
    """A Celery worker that is killed and started again."""

    def __init__(self) -> None:
        self.kills = -1
        self._process: subprocess.Popen[bytes] | None = None
        self.replace()

    def replace(self) -> None:
        """Kill everything that belongs to the worker, at once, and start another."""
        self.kill()
        self._process = subprocess.Popen(
            [*worker_command(2, with_sweep=True), "--loglevel", "ERROR"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.kills += 1

    def kill(self) -> None:
        """SIGKILL to the worker and its children."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def vote_at_random(database: Database, tenant_id: str, worker: Worker) -> dict[str, int]:
    """All votes, one in ten changed later and one in ten taken back; every other one without a message."""
    random = np.random.default_rng(0)
    counts = {"votes": 0, "changed": 0, "retracted": 0}
    given: list[tuple[str, str]] = []
    next_kill = time.monotonic() + SECONDS_BETWEEN_KILLS
    while counts["votes"] < VOTES:
        user = None if random.random() < 0.1 else f"user-{int(random.integers(USERS))}"
        answer, value = _answer(random, database, tenant_id, user), int(random.choice([-1, 1]))
        receipt = _vote(database, tenant_id, answer, value)
        given.append((answer, receipt))
        counts["votes"] += 1
        again = given[int(random.integers(len(given)))]
        if random.random() < 0.1:
            _vote(database, tenant_id, again[0], int(random.choice([-1, 1])))
            counts["changed"] += 1
        elif random.random() < 0.1:
            with database.session() as session:
                retract_vote(session, tenant_id, again[1], datetime.now(UTC))
            counts["retracted"] += 1
        if random.random() < 0.5:
            enqueue_learning(Scope(tenant_id, user))
        if time.monotonic() > next_kill:
            worker.replace()
            next_kill = time.monotonic() + SECONDS_BETWEEN_KILLS
    return counts


def _answer(random: np.random.Generator, database: Database, tenant_id: str, user: str | None) -> str:
    generation_id = new_id("chatcmpl")
    with database.session() as session:
        in_force = effective_parameters(session, Scope(tenant_id, user))
        add_generation(
            session,
            Generation(
                id=generation_id,
                tenant_id=tenant_id,
                user_id=user,
                created_at=datetime.now(UTC),
                model="m",
                mode="linear",
                parameter_version=in_force.version,
                parameter_user_id=in_force.user_id,
                principals=list(in_force.principals),
                theta=list(in_force.theta),
                weights=list(in_force.weights),
                features=random.normal(size=len(in_force.principals)).tolist(),
                prompt_tokens=5,
                completion_tokens=9,
                finish_reason="stop",
            ),
        )
    return generation_id


def _vote(database: Database, tenant_id: str, answer: str, value: int) -> str:
    with database.session() as session:
        receipt = record_vote(
            session,
            tenant_id=tenant_id,
            generation_id=answer,
            user_id=None,
            value=value,
            comment=None,
            tags=(),
            now=datetime.now(UTC),
        )
    return receipt.feedback_id


def wait_until_learned(database: Database) -> LearnerStatus:
    """The status once nothing waits any more."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with database.session() as session:
            status = learner_status(session, datetime.now(UTC))
        if not (status.unlearned_votes or status.untaken_users):
            return status
        time.sleep(0.5)
    raise LearnerError(f"votes were not learned within {PATIENCE_SECONDS:.0f} s: {status}")


@contextlib.contextmanager
def running() -> Iterator[tuple[Database, LearnerSettings]]:
    """Servers of our own, and the environment that leads workers to them."""
    with tempfile.TemporaryDirectory(prefix="cage-") as directory, EmbeddedServers(Path(directory)) as servers:
        os.environ["CAGE_DATABASE_URL"], os.environ["CAGE_REDIS_URL"] = servers.database_url, servers.redis_url
        settings = LearnerSettings.from_environment()
        upgrade(settings.database_url)
        database = Database(settings.database_url)
        yield database, settings
        database.dispose()


def main() -> None:
    """Vote, kill, wait, replay, write, print."""
    with running() as (database, settings):
        with database.session() as session:
            register_principals(session, [CatalogueEntry(name, "adapter", "", 1.0) for name in PRINCIPALS])
            even = dict.fromkeys(PRINCIPALS, 1.0)
            tenant = create_tenant(session, name="bench", model="m", principals=even, strength=1.0, mode="linear")
        worker = Worker()
        try:
            counts = vote_at_random(database, tenant.id, worker)
            status = wait_until_learned(database)
        finally:
            worker.kill()
        report = replay(database, settings, lambda done, total: None)
    result = {
        "machine": machine(),
        **counts,
        "worker_kills": worker.kills,
        "parameter_versions": status.versions,
        "scopes_compared": report.compared,
        "learned_votes_replayed": report.votes,
        "differences": [f"{each.scope}: {each.what}" for each in report.differences],
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
